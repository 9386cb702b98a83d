"""Words of a command line, as Hydra reads them."""

import os
import sys
from pathlib import Path


def quoted(text: str) -> str:
    """A value that Hydra's grammar takes as it is."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def child_command(folder: str | os.PathLike[str]) -> list[str]:
    """The words that start this command once more, beside this process, in the same folder and quietly."""
    place = quoted(str(Path(folder).absolute()))
    quiet = [f"hydra.run.dir={place}", "hydra.output_subdir=null", "hydra/job_logging=stdout"]
    return [sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:], *quiet]
