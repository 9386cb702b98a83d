"""Published files: found in the data folder, or downloaded into it once, and checked by content.

pooch downloads beside the place and renames. It lacks what is here: a lock, so that of several processes one downloads;
mirrors; a limit on the size; a check of what is inside the file; a file that survives a power cut.
"""

import gzip
import hashlib
import os
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar
from urllib.parse import urlsplit

import pooch
import requests
from pooch.core import stream_download

from taut.errors import UserError
from taut.files import held, sync_folder

T = TypeVar("T")

_TIMEOUT = 30.0  # seconds without an answer before the next mirror is tried


class DamagedError(Exception):
    """The content of a file is not what was published."""


@dataclass(frozen=True)
class Remote(Generic[T]):
    """A published file.

    Args:
        folder: Folder inside the data folder.
        name: Name of the file.
        urls: Addresses, tried in turn.
        read: Reads and checks the content; raises ``DamagedError`` if it is not the published one. It sees
            what is inside, not the bytes of the file, because mirrors compress again.
        limit: Bytes above which a download is given up.
    """

    folder: str
    name: str
    urls: tuple[str, ...]
    read: Callable[[Path], T]
    limit: int = 1 << 28


def data_folder(folder: str | Path | None) -> Path:
    """The folder named, else ``$TAUT_DATA``, else ``taut`` in the user's cache (XDG)."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder or os.environ.get("TAUT_DATA") or Path(cache) / "taut").expanduser()


def obtain(remote: Remote[T], folder: str | Path | None) -> T:
    """The checked content of a published file, downloaded first if it is not there.

    Any number of processes may ask at once: one downloads, under a lock that dies with its process, and the
    file appears whole by an atomic rename.

    Args:
        remote: The file.
        folder: The data folder, or ``None`` for the default.

    Raises:
        UserError: If the file is damaged, or if it is neither there nor to be had.
    """
    path = data_folder(folder) / remote.folder / remote.name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with held(path.with_name(f".{path.name}.lock"), wait=lambda: True):
                # again: another process may have downloaded it while this one waited
                if not path.exists():
                    return _download(remote, path)
        except OSError as error:
            raise _absent(remote, path, [f"{path.parent}: {error.strerror}"]) from error
    return _read(remote, path)


def _read(remote: Remote[T], path: Path) -> T:
    try:
        return remote.read(path)
    except (DamagedError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(
            f"{path} cannot be used ({reason}): delete or replace it; the published file is at "
            f"{' or '.join(remote.urls)}."
        ) from error


def _download(remote: Remote[T], path: Path) -> T:
    reasons = []
    for url in remote.urls:
        download = _CheckedDownload(remote)
        try:
            # pooch.retrieve calls the same, and prints address and digest
            stream_download(url, path, None, download)  # type: ignore[arg-type] (its protocol has other names)
        except (requests.RequestException, DamagedError) as error:
            reasons.append(f"{urlsplit(url).hostname}: {_reason(error)}")
        else:
            # the rename, too, must survive a power cut
            sync_folder(path.parent)
            return download.content
    raise _absent(remote, path, reasons)


class _CheckedDownload(Generic[T]):
    """A downloader for pooch: fills the temporary file that pooch renames if nothing is raised.

    Args:
        remote: The file, whose ``content`` is there afterwards.
    """

    content: T

    def __init__(self, remote: Remote[T]) -> None:
        self.remote = remote

    def __call__(self, url: str, temporary: str, _: Any) -> None:
        loader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=_TIMEOUT)
        with open(temporary, "wb") as file:
            loader(url, _CappedFile(file, self.remote.limit), None)
            file.flush()
            self.content = self.remote.read(Path(temporary))
            os.fchmod(file.fileno(), 0o644)  # a temporary file is its owner's alone
            os.fsync(file.fileno())  # else a power cut could leave the name without the bytes


class _CappedFile:
    """A file that refuses to grow without end."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.file, self.left, self.limit = file, limit, limit

    def write(self, chunk: bytes) -> None:
        self.left -= len(chunk)
        if self.left < 0:
            raise DamagedError(f"more than {self.limit} bytes")
        self.file.write(chunk)

    def flush(self) -> None:
        self.file.flush()


def _reason(error: Exception) -> str:
    if isinstance(error, DamagedError):
        return str(error)
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    return "timed out" if "timed out" in str(error) else "no connection"


def _absent(remote: Remote[T], path: Path, reasons: list[str]) -> UserError:
    tried, addresses = "; ".join(reasons), " and ".join(remote.urls)
    return UserError(
        f"{path.name} is not in {path.parent} and could not be downloaded ({tried}): put the file there, "
        f"or name another data folder by data.dir or TAUT_DATA; it is published at {addresses}."
    )


def gunzip(path: Path, size: int) -> bytes:
    """Unpack a gzip file of known size; what unpacks to more is cut off before it fills the memory.

    Raises:
        DamagedError: If the file is no whole gzip file or unpacks to another size.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DamagedError(f"not a whole gzip file: {error}") from error
    if len(content) != size:
        raise DamagedError(f"unpacks to {'more' if len(content) > size else 'fewer'} than {size} bytes")
    return content


def check_file_digest(path: Path, md5: str) -> None:
    """Raise ``DamagedError`` unless the file has this MD5: of files of which their authors publish no more."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
    if digest != md5:
        raise DamagedError(f"MD5 of the file is {digest[:12]}..., expected {md5[:12]}...")


def check_digest(content: bytes, sha256: str) -> None:
    """Raise ``DamagedError`` unless the content has this SHA-256."""
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DamagedError(f"SHA-256 of the content is {digest[:12]}..., expected {sha256[:12]}...")
