"""``taut completion <shell>``: a script by which bash, zsh or fish complete commands, groups, choices and keys.

Commands and their flags are in the script; groups, choices and keys are asked of Hydra's own completion.
"""

from collections.abc import Sequence

from taut.config.program import REFUSED, ended
from taut.errors import UserError, nearest

COMMANDS = (
    "train evaluate complete audit export gradients report dashboard new schema cards doctor completion "
    "--help --version"
)
BASH = """\
_taut() {
    # no slices of arrays and no numbers in them: bash counts from 0, zsh from 1
    local typed="${COMP_LINE:0:$COMP_POINT}" each
    local word="${typed##* }" rest="${typed#taut }"
    COMPREPLY=()
    case "$typed" in
    "taut train "* | "taut evaluate "* | "taut complete "* | "taut audit "*)
        # bash breaks words at = and gives back what stands behind it alone
        local behind="$word"
        [[ "$COMP_WORDBREAKS" == *=* ]] && behind="${word##*=}"
        local head="${word%"$behind"}"
        # Hydra takes the first word of the line for the program
        while read -r each; do
            [[ -n "$each" && "$each" == "$word"* ]] && COMPREPLY+=("${each#"$head"}")
        done < <(COMP_LINE="$rest" COMP_POINT=${#rest} taut "${rest%% *}" -sc query=bash 2>/dev/null | tr ' ' '\\n')
        ;;
    "taut completion "*) COMPREPLY=($(compgen -W "bash zsh fish" -- "$word")) ;;
    "taut "*" "*) COMPREPLY=($(compgen -o default -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "COMMANDS" -- "$word")) ;;
    esac
    # a group or a key goes on behind its = or its dot
    [[ ${#COMPREPLY[@]} == 1 && "${COMPREPLY[*]}" == *[=.] ]] && compopt -o nospace 2>/dev/null
}
complete -o default -F _taut taut
"""
SCRIPTS = {
    "bash": BASH,
    "zsh": "autoload -Uz bashcompinit && bashcompinit\n" + BASH,
    "fish": """\
function __taut_query
    set -l line (string replace -r '^taut ' '' -- (commandline -cp))
    COMP_LINE="$line" COMP_POINT=(string length -- "$line") taut $argv[1] -sc query=fish 2>/dev/null
end
complete -c taut -n __fish_use_subcommand -f -a "COMMANDS"
for command in train evaluate complete audit
    complete -c taut -n "__fish_seen_subcommand_from $command" -f -a "(__taut_query $command)"
end
complete -c taut -n "__fish_seen_subcommand_from completion" -f -a "bash zsh fish"
""",
}


def main(words: Sequence[str]) -> int:
    """The exit code: 0, or 2 for a mistake in the command."""
    return ended(lambda: _show(words))


def _show(words: Sequence[str]) -> int:
    if not words or words[0] in ("--help", "-h"):
        print('eval "$(taut completion bash)", and for zsh the same with zsh; taut completion fish | source')
        return 0 if words else REFUSED
    if len(words) > 1 or words[0] not in SCRIPTS:
        wrong = words[1] if len(words) > 1 else words[0]
        raise UserError(f"There is no completion for {wrong}; {nearest(wrong, SCRIPTS)}")
    print(SCRIPTS[words[0]].replace("COMMANDS", COMMANDS), end="")
    return 0
