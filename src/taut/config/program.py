"""The program of a command: the installed ``taut``, or a script of the repository. What a user types, and what runs.

``taut train k=50`` and ``python train.py k=50`` are one command. Its sentences name the way in which it was started,
and the processes that it starts are started in that way.
"""

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from taut.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
REPOSITORY = PACKAGE.parents[1]
NAME = "taut"
REFUSED, INTERRUPTED = 2, 130


def conf() -> Path:
    """The folder of the configs: inside the package where a wheel was installed, else the repository's."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else REPOSITORY / "conf"


def is_installed() -> bool:
    """Tell whether ``taut`` was typed; a program that is no command of ours goes by whether there is a repository."""
    started = Path(sys.argv[0])
    if started.stem == NAME or started == PACKAGE / "__main__.py":
        return True
    return not (REPOSITORY / "train.py").is_file() and not started.with_name("train.py").is_file()


def typed(command: str) -> str:
    """What a user types to start a command: ``taut train``, or ``python train.py``."""
    return f"{NAME} {command}" if is_installed() else f"python {command}.py"


def extra(name: str) -> str:
    """What a user types to install the optional packages of an extra, of this very taut: no index need have it."""
    if not is_installed():
        return f"pip install -c constraints.txt -e '.[{name}]'"
    if (REPOSITORY / "pyproject.toml").is_file():
        return f"pip install -e '{REPOSITORY}[{name}]'"
    # of a wheel, which may be gone: its optional packages by their own names
    wanted = [line.partition(";") for line in metadata.requires(NAME) or []]
    packages = [package.strip() for package, _, marker in wanted if f"extra == '{name}'" in marker.replace('"', "'")]
    return f"pip install {' '.join(map(shlex.quote, packages))}"


def ended(command: Callable[[], int | None]) -> int:
    """The exit code of a command that reads its words itself: its own, 2 for a mistake in it, 130 for Ctrl-C."""
    try:
        code = command()
        sys.stdout.flush()  # here, where it is heeded that the reader has gone, as in `| head`
    except UserError as error:
        # a path that is no UTF-8 holds lone surrogates, which cannot be printed
        print(str(error).encode(errors="replace").decode(), file=sys.stderr, flush=True)
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush into
        return 0
    return code or 0


@dataclass(frozen=True)
class Program:
    """A command, and the script that was started for it.

    Args:
        command: Its name.
        script: The script; None for the installed command.
    """

    command: str
    script: Path | None = None

    @classmethod
    def started(cls, command: str, folder: Path | None = None) -> "Program":
        """The program that this process runs.

        Args:
            command: Its command.
            folder: Where the script is if ``sys.argv`` does not say it, as in a program that calls ``main()``.
        """
        if is_installed():
            return cls(command)
        script = Path(os.path.abspath(sys.argv[0]))
        return cls(command, script if script.is_file() or folder is None else folder / f"{command}.py")

    @property
    def again(self) -> str:
        """What a user types to start it once more, in this folder."""
        return typed(self.command) if self.script is None else f"python {sys.argv[0]}"

    def start(self, command: str | None = None) -> list[str]:
        """Words that start it once more, or another command of the same installation."""
        if self.script is None:
            # -P: the folder of the user, which python -m would search first, may hold a random.py
            return [sys.executable, "-P", "-m", NAME, command or self.command]
        return [sys.executable, str(self.script if command is None else self.script.with_name(f"{command}.py"))]
