"""The checkpoint files of a run: which of them are whole, by their seal, and what it means if none is left."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from taut.config.run_folder import BEST, refuse_other_folder
from taut.errors import UserError
from taut.files import CHECKPOINTS, METRICS, RESULT, open_regular, reason
from taut.runtime.memory import available, in_words

LABEL = b"taut-1-sha256:"
SEAL = len(LABEL) + 64
CHUNK = 1 << 24
ANEW = "from_start"
"""Word beside ``resume=`` that lets a run start anew whose checkpoints are gone."""


def newest_intact(folder: Path, damaged: list[UserError]) -> Path | None:
    """The checkpoint of the highest step that is intact, or ``None``.

    Args:
        folder: Where checkpoints lie.
        damaged: Gets a sentence for every newer one that is not.
    """
    # by the number of the step: names of several kinds of checkpoints do not sort by it
    for path in sorted(folder.glob("*step=*.ckpt"), key=_step, reverse=True):
        try:
            check_seal(path)
        except UserError as error:
            damaged.append(error)
        else:
            return path
    return None


def check_seal(path: Path) -> None:
    """Refuse a checkpoint that is not whole.

    Raises:
        UserError: If it cannot be read, or does not end in the SHA-256 of what stands before.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size - SEAL
            # the end first: a file without a seal is not read, however large it is
            file.seek(max(size, 0))
            seal, digest = file.read(SEAL), hashlib.sha256()
            file.seek(0)
            for left in _chunks(size) if seal.startswith(LABEL) else ():
                digest.update(file.read(left))
    except OSError as error:
        raise UserError(f"The checkpoint {path} cannot be read: it {reason(error)}.") from error
    if seal != LABEL + digest.hexdigest().encode():
        raise UserError(
            f"The checkpoint {path} is damaged, or another program or version wrote it: its contents do not match a "
            "SHA-256 seal of this version; restore the file, or remove it to use an older checkpoint."
        )


def read_intact(path: Path) -> bytes:
    """Content of a checkpoint that is whole.

    Raises:
        UserError: As ``check_seal``, or if it is larger than the memory of this machine.
    """
    check_seal(path)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > available():
            raise UserError(f"The checkpoint {path} is larger than the memory of this machine: {in_words(size)}.")
        return file.read()


def refuse_to_start_anew(folder: Path, *, asked: bool) -> None:
    """Refuse to train a run from its start again that had been trained, unless the user asks for it.

    A run that was stopped before its first checkpoint starts anew without a word, since nothing is lost.

    Args:
        folder: The run folder.
        asked: Whether the user typed ``from_start=true``.

    Raises:
        UserError: If all checkpoints are gone or damaged, or if they are not and a new start was asked for.
    """
    damaged: list[UserError] = []
    newest = newest_intact(folder / CHECKPOINTS, damaged)
    if newest is not None and asked:
        raise UserError(
            f"{folder} holds the checkpoint {newest.name}, from which resume= goes on; leave out {ANEW}=true, or start "
            "a new run."
        )
    if newest is None and not asked and (damaged or _has_trained(folder)):
        what = f"all checkpoints of {folder} are damaged" if damaged else f"the checkpoints of {folder} are gone"
        raise UserError(
            f"{what[0].upper()}{what[1:]}, so that training would start anew: restore {CHECKPOINTS}/, or add "
            f"{ANEW}=true to train it from the start."
        )


def run_and_file(place: str) -> tuple[Path, Path | None]:
    """The run folder that ``ckpt_path=`` names, and the checkpoint if it names a file of it.

    Raises:
        UserError: If it is neither the folder of a run nor a file below one.
    """
    path = Path(place).expanduser().absolute()
    folder, file = (path, None) if path.is_dir() else (path.parent.parent, path)
    if not path.exists():
        raise UserError(f"ckpt_path={place} does not exist; name the folder of a run, or a file of its {CHECKPOINTS}/.")
    refuse_other_folder(folder, f"ckpt_path={place}")
    return folder, file


def weights_at(place: str) -> Path:
    """The checkpoint that ``ckpt_path=`` names: a file, or the best of a run, or its newest if it has no best.

    Raises:
        UserError: If there is none, or it is not whole.
    """
    path = Path(place).expanduser().absolute()
    if path.is_file():
        check_seal(path)
        return path
    folder, _ = run_and_file(place)
    best = folder / BEST
    found = best if best.exists() else newest_intact(folder / CHECKPOINTS, [])
    if found is None:
        raise UserError(f"ckpt_path={place} holds no intact checkpoint in {CHECKPOINTS}/; let that run train first.")
    check_seal(found)
    return found


def _has_trained(folder: Path) -> bool:
    """Whether a run has left more than one that is killed before its first checkpoint can leave."""
    if (folder / RESULT).exists():
        return True
    try:
        with open_regular(folder / METRICS) as file:
            # a header, and a row that is written just before the checkpoint of the first epoch
            return sum(1 for _, _ in zip(file, range(3), strict=False)) > 2
    except OSError:
        return False


def _chunks(size: int) -> Iterator[int]:
    for start in range(0, size, CHUNK):
        yield min(CHUNK, size - start)


def _step(path: Path) -> int:
    # a stranger's name may hold more digits than int() takes
    return int(re.findall(r"step=(\d+)", path.name)[-1][-18:])
