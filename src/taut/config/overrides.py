"""The words of a command line: its flags, its overrides as Hydra reads them, and which of them a run keeps."""

import os
import re
import sys
from argparse import ArgumentError, Namespace
from collections.abc import Iterable
from pathlib import Path

from hydra._internal.utils import get_args_parser

from taut.errors import UserError, nearest

NOT_OF_A_JOB = ("launcher", "sweep", "resume")
"""Keys that are a sweep's own: jobs with other values of them are the same jobs."""


def key(word: str) -> str:
    """Key that an override sets: ``+trainer.max_epochs=3`` sets ``trainer.max_epochs``."""
    return word.partition("=")[0].lstrip("+~")


def merged(words: list[str], later: list[str]) -> list[str]:
    """Overrides of which the later win."""
    replaced = {key(word) for word in later}
    return [word for word in words if key(word) not in replaced] + later


def own_words(words: Iterable[str]) -> list[str]:
    """The words of a sweep's job that say what the job is."""
    return [word for word in words if key(word).split(".")[0] not in NOT_OF_A_JOB or word.startswith("+sweep=")]


def parsed() -> Namespace:
    """Parse ``sys.argv``, wherever its flags stand; they are put in front of its words, as Hydra wants them.

    Raises:
        UserError: For a flag that does not exist or that has not the value it needs.
    """
    parser = get_args_parser()
    # argparse would print its usage and exit by itself
    parser.exit_on_error = False
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
    replace_words(args, args.overrides)
    return args


def replace_words(args: Namespace, words: list[str]) -> None:
    """Put other words behind the flags of the command, in ``args`` and in ``sys.argv``, which its processes repeat."""
    flags = [word for word in sys.argv[1:] if word not in args.overrides]
    sys.argv[1:] = [*flags, *words]
    args.overrides = words


def quoted(text: str) -> str:
    """A value that Hydra's grammar takes as it is."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def child_command(folder: str | os.PathLike[str]) -> list[str]:
    """The words that start this command once more, beside this process, in the same folder and quietly."""
    place = quoted(str(Path(folder).absolute()))
    quiet = [f"hydra.run.dir={place}", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    return [sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:], *quiet]
