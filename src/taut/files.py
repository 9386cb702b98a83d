"""Files and folders: read without waiting, written whole or not at all and never through a link; and locks.

A run folder may come from a stranger: what lies in it is read by ``open_regular``, and written ``not_through_a_link``.
"""

import csv
import errno
import json
import math
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

try:
    import fcntl
except ImportError as error:
    raise ImportError("taut needs the file locks of Linux or macOS, which Windows lacks; use it in WSL.") from error

if TYPE_CHECKING:
    from torch import Tensor

PARTIAL, OLD = ".part", ".old"
"""Endings of what a killed process may leave: unfinished, and replaced but not yet removed."""
LARGEST = 16_000_000
"""Bytes of a file that is read whole, unless its reader says otherwise."""


def from_here(path: Path) -> str:
    """A path as short as it can be typed in this folder: relative to it where it lies below, else as it is."""
    near = os.path.relpath(path)
    return str(path) if near.startswith("..") else near


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read it; a pipe, a device or a folder is refused and never waited for.

    Raises:
        OSError: If it is no regular file, or cannot be opened; ``strerror`` says why in words that follow "it".
    """
    # asked before it is opened, since opening a device can set it going
    _refuse_irregular(os.stat(path), path)
    # and without waiting, since the file may have become a pipe in between
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _refuse_irregular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | os.PathLike[str], largest: int = LARGEST) -> bytes:
    """Content of a regular file of at most so many bytes.

    Raises:
        OSError: As ``open_regular``, or if it is larger.
    """
    with open_regular(path) as file:
        # not by its size, which a file that grows meanwhile outlives
        content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"is larger than {largest / 1e6:g} MB", str(path))
    return content


def kind_of(mode: int) -> str:
    """What a file is, in the words of a message: ``a regular file``, ``a folder``, ``a link`` and so on."""
    kinds = {stat.S_IFREG: "a regular file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe"}
    return kinds.get(stat.S_IFMT(mode), "a device or a socket")


def _refuse_irregular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"is {kind_of(status.st_mode)}, not a regular file", str(path))


def not_through_a_link(path: str, flags: int) -> int:
    """Opener for ``open`` that refuses to write to a file through a link, wherever that leads.

    Raises:
        OSError: If the last part of the path is a link.
    """
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, a kill, a full disk or a power cut meets the old content or the new, never a part.

    Args:
        path: The file; its folder must exist.
        content: Bytes, or text to be encoded as UTF-8.

    Raises:
        OSError: If the disk refuses; what stood at ``path`` still stands there.
    """
    # Beside the target, since a rename is atomic within one file system only; with the process in its name, since two
    # processes may write the same file, and half a file of one must not be renamed by the other.
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with _new(partial) as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            # Without it some file systems put the rename on the disk before the content: a power cut leaves 0 bytes.
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:  # a signal as well: KeyboardInterrupt is no Exception
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _new(path: Path) -> BinaryIO:
    """A file to write that did not exist: what a killed process left, or a stranger put there, is removed unopened."""
    try:
        # "x" follows no link: the system makes a file, or says that there is something of the name
        return path.open("xb")
    except FileExistsError:
        path.unlink()
        return path.open("xb")


def sync_folder(folder: Path) -> None:
    """Put the rename itself on the disk: what makes the old file superfluous may be done right after it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people, atomically: indented, and without NaN, which JSON lacks.

    Raises:
        ValueError: If there is a NaN or an infinity.
    """
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write to, which takes the place of ``folder`` at the end, or of nothing if the block raises."""
    _tidy(folder)
    # with a dot in front, which readers of run folders pass over, and the process, by which _tidy knows whose it is
    partial = folder.with_name(f".{folder.name}.{os.getpid()}{PARTIAL}")
    try:
        partial.mkdir(parents=True)
        yield partial
        _replace(folder, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_table(path: Path, table: "Mapping[str, Tensor]") -> None:
    """Write a CSV file of one row per datum; an empty cell stands for NaN."""
    # newline="": the csv module ends lines by itself
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *table])
        for row, values in enumerate(zip(*(column.tolist() for column in table.values()), strict=True)):
            # repr is the shortest text that reads back as the same float
            writer.writerow([row, *("" if math.isnan(value) else repr(value) for value in values)])


def _replace(folder: Path, partial: Path) -> None:
    """Put the new folder in the place of the old one, which is removed only afterwards.

    A rename cannot replace a folder that is not empty, so there is a moment without either: :func:`_tidy` puts the old
    one back where a kill meets that moment.
    """
    old = folder.with_name(f".{folder.name}.{os.getpid()}{OLD}")
    if folder.exists():
        folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    # the new folder is in place by now: what cannot be removed here is left to the next _tidy
    shutil.rmtree(old, ignore_errors=True)


def _tidy(folder: Path) -> None:
    """Remove what killed processes left, and put back the folder that one of them was about to replace."""
    for left in folder.parent.glob(f".{folder.name}.*.*"):
        process = left.suffixes[-2].removeprefix(".")
        if left.suffix not in (PARTIAL, OLD) or not process.isdigit() or _alive(int(process)):
            continue
        if left.suffix == OLD and not folder.exists():
            left.rename(folder)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        # signal 0 is not sent: it only asks whether there is such a process
        os.kill(process, 0)
    except OSError:
        return False
    return True


PAUSE = 0.05
"""Seconds between two attempts to get a lock."""


@contextmanager
def held(path: Path, wait: Callable[[], bool]) -> Iterator[int]:
    """Hold the lock of a file; the block gets its descriptor, and whoever inherits that holds the lock as well.

    Args:
        path: The file; made if need be.
        wait: Asked between two attempts whether to go on waiting.

    Raises:
        BlockingIOError: If another process has it and ``wait`` says no.
    """
    # without following: a lock that is a link would make a file wherever that leads
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    try:
        # flock has no time limit and does not ask anybody, so the lock is tried again and again
        while not _taken(descriptor):
            if not wait():
                raise BlockingIOError(f"{path} is held by another process")
            time.sleep(PAUSE)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Be the only process inside the block that holds this lock file, which leaves with whoever made it.

    Args:
        path: The lock file, in a folder that exists.

    Raises:
        BlockingIOError: If another process holds it.
    """
    made = not path.exists()
    descriptor = _open_lock(path)
    try:
        yield
        # what a killed holder left goes with the work that takes its place; a refusal leaves it
        made = True
    finally:
        if made:
            # before the lock goes: the file of the next holder must not be removed
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    while True:
        # no link is followed: a lock file of somebody else's folder must not create a file elsewhere
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        if not _taken(descriptor):
            os.close(descriptor)
            raise BlockingIOError(f"{path} is held by another process")
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        # the process that held it removed it between the two calls: this lock is one on a file that is gone
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Tell whether a process holds the lock of a file; one that cannot be tried counts as held."""
    try:
        # opening a named pipe would wait for its writer for ever
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # shared, so that two who look at the same time do not take each other for the holder
        return not _taken(descriptor, fcntl.LOCK_SH)
    except OSError:  # a file system without locks
        return True
    finally:
        os.close(descriptor)


NO_LOCKS = "its file system has no locks, without which two processes could write one run; choose a folder elsewhere"


def _taken(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(error.errno, NO_LOCKS) from error
        raise
    return True


CHECKPOINTS, METRICS, RESULT = "checkpoints", "metrics.csv", "result.json"
"""What training writes into its run folder; the other names of the layout are in ``config/run_folder.py``."""


@dataclass(frozen=True)
class CreatedFolder:
    """The topmost folder that this command creates; nothing outside it is ever removed.

    Args:
        top: The highest ancestor of the run or sweep folder that did not exist before, if any.
    """

    top: Path | None = None

    @classmethod
    def of(cls, folder: Path) -> "CreatedFolder":
        """For a run or sweep folder that is about to be made."""
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        return cls(missing[-1] if missing else None)

    def remove(self, folder: Path) -> None:
        """Remove a run folder in which no training began, and the new parents that it leaves empty."""
        if self.top is None or not folder.is_relative_to(self.top):
            return
        if any((folder / name).exists() for name in (CHECKPOINTS, METRICS, RESULT)):
            return
        shutil.rmtree(folder)
        for parent in folder.parents:
            if not parent.is_relative_to(self.top) or any(parent.iterdir()):
                return
            parent.rmdir()


def reason(error: OSError) -> str:
    """Why a file cannot be read, in words that follow "it"."""
    text = error.strerror or type(error).__name__
    return text if text.startswith(("is ", "has ")) else f"fails with {text!r}"
