"""A sweep planned, none of its jobs run, and shown: ``python -m benchmarks.candidates.planning -m WORDS``."""

import sys
from typing import Any

from benchmarks.candidates.command import CONF


def _none(*_: Any) -> None:
    """Run no job."""


if __name__ == "__main__":
    from taut import cli
    from taut.commands.sweep import engines

    engines.run = _none
    sys.argv[0] = str(CONF.with_name("train.py"))
    sys.exit(cli.main("train", CONF, "taut.commands.train:train"))
