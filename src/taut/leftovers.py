"""What a refused command must not leave behind."""

import shutil
from dataclasses import dataclass
from pathlib import Path

TRACES_OF_TRAINING = ("checkpoints", "metrics.csv", "result.json")


@dataclass(frozen=True)
class Leftovers:
    """The topmost folder that this command creates; nothing outside it is ever removed.

    Args:
        top: The highest ancestor of the run or sweep folder that did not exist before, if any.
    """

    top: Path | None = None

    @classmethod
    def of(cls, folder: Path) -> "Leftovers":
        """For a run or sweep folder that is about to be made."""
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        return cls(missing[-1] if missing else None)

    def remove(self, folder: Path) -> None:
        """Remove a run folder in which no training began, and the new parents that it leaves empty."""
        if self.top is None or not folder.is_relative_to(self.top):
            return
        if any((folder / name).exists() for name in TRACES_OF_TRAINING):
            return
        shutil.rmtree(folder)
        for parent in folder.parents:
            if not parent.is_relative_to(self.top) or any(parent.iterdir()):
                return
            parent.rmdir()
