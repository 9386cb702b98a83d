"""The words of a command line: its flags, its overrides as Hydra reads them, and which of them a run keeps."""

import os
import re
import shlex
import sys
from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Sweep
from hydra.errors import HydraException

from taut.config import pieces
from taut.config.logger_keys import GROUP
from taut.config.program import Program
from taut.errors import UserError, nearest

NOT_OF_A_JOB = ("launcher", "sweep", "resume")
"""Keys that are a sweep's own: jobs with other values of them are the same jobs."""


def key(word: str) -> str:
    """Key that an override sets: ``+trainer.max_epochs=3`` sets ``trainer.max_epochs``."""
    return word.partition("=")[0].lstrip("+~")


def merged(words: list[str], later: list[str]) -> list[str]:
    """Overrides of which the later win."""
    replaced = {key(word) for word in later}
    # other loggers have other keys, and those of the earlier ones would have no place
    gone = f"{GROUP}." if GROUP in replaced else None
    return [word for word in words if key(word) not in replaced and not (gone and key(word).startswith(gone))] + later


def own_words(words: Iterable[str]) -> list[str]:
    """The words of a sweep's job that say what the job is."""
    return [word for word in words if key(word).split(".")[0] not in NOT_OF_A_JOB or word.startswith("+sweep=")]


MOVED = ("data.path", "data.dir", "mask.path")
"""Keys by which a command is told where a run's files are now."""


def as_added(words: list[str]) -> list[str]:
    """The words of a command that measures a run, where those about its files add a key, as its config has none.

    A command that chooses data or a mask of its own has these keys.
    """
    chosen = {key(word) for word in words}
    return [
        f"+{word}" if word.partition("=")[0] in MOVED and word.partition(".")[0] not in chosen else word
        for word in words
    ]


def as_loader(words: list[str]) -> list[str]:
    """The words of an audit, whose ``model=<module>:<function>`` sets a key: Hydra would look it up in conf/model."""
    return [f"model.load={word.partition('=')[2]}" if word.startswith("model=") else word for word in words]


def parsed() -> Namespace:
    """Parse ``sys.argv``, wherever its flags stand; they are put in front of its words, as Hydra wants them.

    Raises:
        UserError: For a flag that does not exist or that has not the value it needs, or a package that cannot be
            trusted.
    """
    parser = flag_parser()
    try:
        # intermixed: argparse otherwise takes positional words from one place only
        args, unknown = parser.parse_known_intermixed_args()
    except ArgumentError as error:
        raise UserError(f"{str(error).removeprefix('argument ').capitalize()}; see --help and --hydra-help.") from error
    if unknown:
        known = re.findall(r"--[\w-]+", parser.format_usage())
        raise UserError(f"There is no flag {unknown[0]}; {nearest(unknown[0], known)}")
    if args.resolve and not (args.cfg or args.help):
        raise UserError("--resolve goes with --cfg or --help; add one of them.")
    if args.run and args.multirun:
        raise UserError("--run and --multirun contradict each other; choose one of them.")
    # taken out before Hydra or a run folder sees them
    words, args.trust = pieces.taken(args.overrides)
    jobs = [_listed_runs(word) for word in words]
    args.multirun = args.multirun or any("," in word for word, listed in zip(words, jobs, strict=True) if listed)
    if args.run and args.multirun:
        raise UserError("--run starts one job, and a list of runs is one for each; leave --run out.")
    words = [listed or word for word, listed in zip(words, jobs, strict=True)]
    replace_words(args, [understood(word, several=args.multirun) for word in words])
    return args


NO_NAME = re.compile(r"(?i:true|false|null|[-+]?(?:nan|inf|[\d.]+(?:e[-+]?\d+)?))?|.*[\[\]{}:].*")
"""What is a value of another type in a list, and no name of a folder."""


def _listed_runs(word: str) -> str:
    """``run=[a,b]`` as the jobs ``run=a,b``; empty for any other word, such as one that names a folder.

    Raises:
        UserError: If one of the list is no folder: the others would be evaluated first.
    """
    name, _, value = word.partition("=")
    if name != "run" or not value.startswith("[") or not value.endswith("]") or os.path.exists(value):
        return ""
    runs = [run.strip() for run in value[1:-1].split(",")]
    if any(NO_NAME.fullmatch(run) for run in runs):
        return ""  # the range of run tells it
    for run in runs:
        if not os.path.isdir(os.path.expanduser(run)):
            raise UserError(f"run={run} is not the folder of a run: there is no such folder.")
    return f"run={value[1:-1]}"


FLAGS: tuple[tuple[str, str | None, str, dict[str, Any]], ...] = (
    ("--help", "-h", "Application's help", {"action": "store_true"}),
    ("--hydra-help", None, "Hydra's help", {"action": "store_true"}),
    (
        "--version",
        None,
        "Show Hydra's version and exit",
        {"action": "version", "version": f"Hydra {hydra.__version__}"},
    ),
    ("--cfg", "-c", "Show config instead of running [job|hydra|all]", {"choices": ["job", "hydra", "all"]}),
    ("--resolve", None, "With --cfg, resolve config interpolations before printing.", {"action": "store_true"}),
    ("--package", "-p", "Config package to show", {}),
    ("--run", "-r", "Run a job", {"action": "store_true"}),
    ("--multirun", "-m", "Run multiple jobs with the configured launcher and sweeper", {"action": "store_true"}),
    ("--shell-completion", "-sc", "Install or uninstall shell completion", {"action": "store_true"}),
    ("--config-path", "-cp", "The folder of the configs", {}),
    ("--config-name", "-cn", "The name of the primary config", {}),
    ("--config-dir", "-cd", "Adds an additional config dir to the config search path", {}),
    ("--experimental-rerun", None, "Rerun a job from a previous config pickle", {}),
    (
        "--info",
        "-i",
        "Print Hydra information [all|config|defaults|defaults-tree|plugins|searchpath]",
        {
            "choices": ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"],
            "const": "all",
            "nargs": "?",
        },
    ),
)
"""The flags that Hydra documents, with their short forms, what they do, and how they are parsed."""


def flag_parser() -> ArgumentParser:
    """A parser of Hydra's command line, which raises what is wrong instead of printing it and leaving."""
    parser = ArgumentParser(add_help=False, description="Hydra", exit_on_error=False)
    for name, short, does, settings in FLAGS:
        parser.add_argument(*([name, short] if short else [name]), help=does, **settings)
    keys = "Any key=value arguments to override config values (use dots for.nested=overrides)"
    parser.add_argument("overrides", nargs="*", help=keys)
    return parser


PATH = re.compile(r"(?:.*\.)?(?:path|dir)|run|resume|ckpt_path|out")
"""Keys whose values are files or folders."""


def understood(word: str, several: bool = False) -> str:
    """The word as Hydra's grammar takes it.

    Most characters of a path are reserved there; a path is quoted, and its ``~`` is the home folder. A plus sign before
    a key inside a group is no promise that the key is new: what older versions had to add is declared today.

    Args:
        word: As it was typed, without what the shell has taken away.
        several: Whether a comma separates the values of several jobs.

    Raises:
        UserError: If it cannot be read, with the quoting that can.
    """
    name, equals, value = word.partition("=")
    if re.fullmatch(r"\+[^+@/]+\.[^@/]+", name):
        name, word = f"+{name}", f"+{word}"
    if equals and PATH.fullmatch(name.lstrip("+")):
        word = f"{name}={_path(name, value, several)}"
    try:
        parsed_word(word)
    except HydraException as error:
        if not equals or not _is_key(name):
            folder = told_as_run(word)
            more = f", or resume={word} in a training" if folder else ""
            raise UserError(f"{word} is not of the form key=value{folder}{more}.") from error
        remedy = shlex.quote(f"{name}={quoted(value, mark=chr(34))}")
        raise UserError(f"{word} cannot be read; if it is meant as a text, quote it: {remedy}.") from error
    return word


def told_as_run(word: str) -> str:
    """The end of a sentence about a word that is no ``key=value``: how a folder is named, where it is one."""
    return f"; type run={word}" if "=" not in word and os.path.isdir(word) else ""


def _path(name: str, value: str, several: bool) -> str:
    """The value of a key that is a path, or several of them, quoted where it has to be."""
    try:
        meant = parsed_word(f"{name}={value}").value()
    except HydraException:
        parts = value.split(",") if several else [value]
        return ",".join(quoted(os.path.expanduser(part)) for part in parts)
    if isinstance(meant, str):
        return quoted(os.path.expanduser(meant)) if meant.startswith("~") else value
    # a file can have a name that reads as a number, a list or several values; the folder of a run is one
    asks_for_jobs = isinstance(meant, Sweep | Glob) and several
    is_one = os.path.exists(value) or (isinstance(meant, Sweep) and name.startswith("hydra."))
    return quoted(value) if not asks_for_jobs and meant is not None and is_one else value


def _is_key(name: str) -> bool:
    try:
        return bool(parsed_word(f"{name}=0"))
    except HydraException:
        return False


def parsed_word(word: str) -> Override:
    """One word, as Hydra's grammar reads it."""
    return OverridesParser.create().parse_override(word)


def replace_words(args: Namespace, words: list[str]) -> None:
    """Put other words behind the flags of the command, in ``args`` and in ``sys.argv``, which its processes repeat."""
    flags = [word for word in sys.argv[1:] if word not in args.overrides]
    sys.argv[1:] = [*flags, *words]
    args.overrides = words


def quoted(text: str, mark: str = "'") -> str:
    """A value that Hydra's grammar takes as it is, between quotation marks."""
    # a backslash is itself there unless it stands before a mark, or before others that do
    escaped = re.sub(rf"(\\*)({mark}|$)", lambda found: found[1] * 2 + (f"\\{mark}" if found[2] else ""), text)
    return f"{mark}{escaped}{mark}"


def child_command(folder: str | os.PathLike[str]) -> list[str]:
    """The words that start this command once more, beside this process, in the same folder and quietly."""
    place = quoted(str(Path(folder).absolute()))
    quiet = [f"hydra.run.dir={place}", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    # Hydra's job has the name of the command
    return [*Program.started(HydraConfig.get().job.name).start(), *sys.argv[1:], *quiet]
