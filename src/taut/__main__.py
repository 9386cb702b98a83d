"""``taut <command> ...``: the commands as one installed program."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pkgutil import resolve_name

from taut.config.program import NAME, REFUSED, conf, ended
from taut.errors import UserError, nearest

COMPOSED = {
    "train": ("taut.commands.train:train", None),
    "evaluate": ("taut.commands.evaluate:evaluate", "taut.commands.evaluate:compare"),
    "complete": ("taut.commands.complete:complete", None),
    "audit": ("taut.commands.audit:audit", None),
}
"""Commands with a config: what runs on it, and on the results of several, as in ``train.py`` and its like."""
OTHERS = {
    "export": "taut.commands.export:main",
    "gradients": "taut.commands.gradients:main",
    "report": "taut.commands.report:main",
    "dashboard": "taut.commands.dashboard.command:main",
    "new": "taut.commands.new.command:main",
    "schema": "taut.commands.schema:main",
    "cards": "taut.commands.cards.command:main",
    "doctor": "taut.commands.doctor:main",
    "completion": "taut.commands.completion:main",
}
"""Commands that read their words themselves: a function of the words that gives the exit code."""
HELP = """\
Train latent-variable models, and measure how tight their bounds on log p(x) are.

  taut train model=iwae k=50                 train, test, and leave a run in outputs/runs
  taut evaluate run=outputs/runs/<run>       bracket log p(x) of a trained model from both sides
  taut complete run=outputs/runs/<run>       fill in missing pixels and empty cells
  taut audit model=mylab.vae:load data=mnist trust=[mylab]      bracket log p(x) of a model from elsewhere
  taut gradients run=outputs/runs/<run>      how far a step's gradient stands out of its noise, against K
  taut export run=... to=<folder>            hand a model on: weights, model card, encoder and decoder
  taut report outputs                        which bound is best, which tightest: a table and a page
  taut dashboard entity=<you>                a W&B workspace made from code
  taut new prior mine                        a piece of your own that works, with its yaml and a test
  taut schema to=<folder>                    JSON schemas, by which an editor completes and checks your yaml
  taut cards                                 published numbers, ours, and whether they agree
  taut doctor                                versions, devices, data and what is missing here
  taut completion bash                       what completes all of these with the tab key; zsh and fish, too

`taut <command> --help` says more. Everything is read and written in the folder in which it is typed.
"""


def main(words: Sequence[str] | None = None) -> int:
    """The exit code of one command; its words are those behind ``taut``."""
    words = sys.argv[1:] if words is None else list(words)
    if words and words[0] in COMPOSED and os.name != "nt":
        sys.argv[1:] = words[1:]
        cli = import_module("taut.cli")  # here: it loads Hydra, which the others do without
        return cli.main(words[0], conf(), *COMPOSED[words[0]])
    return ended(lambda: _run(words))


def _run(words: Sequence[str]) -> int:
    if os.name == "nt":
        raise UserError("taut needs the file locks and signals of Linux or macOS, which Windows lacks; use it in WSL.")
    if not words or words[0] in ("--help", "-h", "help"):
        print(HELP, end="")
        return 0 if words else REFUSED
    command, *words = words
    if command in ("--version", "-V"):
        print(f"{NAME} {version(NAME)}")
        return 0
    if command not in OTHERS:
        raise UserError(f"There is no command {command}; {nearest(command, [*COMPOSED, *OTHERS])}")
    return resolve_name(OTHERS[command])(words)


if __name__ == "__main__":
    sys.exit(main())
