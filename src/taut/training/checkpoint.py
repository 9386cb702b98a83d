"""Checkpoints that are whole or absent: written beside their place, put there by one rename, read only if untouched."""

import hashlib
import io
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.io import CheckpointIO

from taut.config.checkpoint_files import LABEL, SEAL, newest_intact, read_intact
from taut.errors import UserError
from taut.files import PARTIAL, write_atomically

log = logging.getLogger(__name__)


class AtomicCheckpointIO(CheckpointIO):
    """Writes checkpoints so that a kill, a full disk or a power cut leaves the old file or the new one, never a part.

    The file is torch's zip archive whose archive comment is the SHA-256 of everything before it: one file, so there
    is no moment at which a checkpoint and its digest disagree, and ``torch.load`` reads it like any other.

    Lightning's own ``TorchCheckpointIO`` writes to the system's temporary folder and moves the file, which is a copy
    where that is another file system; it flushes neither file nor folder, knows no digest, and unpickles
    objects if asked.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Serialise, seal, write beside ``path``, flush to the disk, rename.

        Raises:
            OSError: If the disk refuses; what stood at ``path`` still stands there.
        """
        del storage_options
        path = Path(path)
        # not its parents: a run folder that was deleted stays so
        path.parent.mkdir(exist_ok=True)
        # a writer that was killed leaves its part of a file, which nothing else would remove
        for leftover in path.parent.glob(f".*{PARTIAL}"):
            leftover.unlink(missing_ok=True)
        archive = io.BytesIO()
        torch.save(checkpoint, archive)
        write_atomically(path, seal(archive.getvalue()))

    def load_checkpoint(
        self,
        path: Any,
        map_location: Callable | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Tensors and plain types from an intact checkpoint; never a pickled object, whatever the caller asks.

        Raises:
            UserError: If the file is absent, damaged or not one of ours.
        """
        del weights_only
        archive = io.BytesIO(read_intact(Path(path)))
        _refuse_packed(archive, path)
        try:
            # weights_only: unpickling objects of a stranger's file would run its code
            checkpoint = torch.load(archive, map_location=map_location, weights_only=True)
        # whatever it raises: a seal says that a file is whole, not that torch wrote it
        except Exception as error:
            raise UserError(
                f"The checkpoint {path} holds more than tensors and plain types, or is not that of a training, and is "
                "not loaded; restore the file, or remove it to use an older checkpoint."
            ) from error
        if not isinstance(checkpoint, dict):
            raise UserError(f"The checkpoint {path} is not that of a training; restore the file.")
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint if it is there."""
        Path(path).unlink(missing_ok=True)


def newest_good(folder: Path) -> Path | None:
    """The checkpoint of the highest step that is intact, or ``None``; each damaged one is named in a warning."""
    damaged: list[UserError] = []
    newest = newest_intact(folder, damaged)
    for error in damaged:
        log.warning("%s Going back to the checkpoint before it.", error)
    return newest


def seal(archive: bytes) -> bytes:
    """Give a zip archive without a comment its SHA-256 as the comment."""
    # an archive without a comment ends in the two bytes of its length, 0
    body = archive[:-2] + SEAL.to_bytes(2, "little")
    return body + LABEL + hashlib.sha256(body).hexdigest().encode()


def of_all_ranks(own: dict[str, Any]) -> list[dict[str, Any]]:
    """What every process has, by rank; all of them must ask."""
    if not (dist.is_available() and dist.is_initialized()):
        return [own]
    ranks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, own)
    return ranks


def _refuse_packed(archive: io.BytesIO, path: Any) -> None:
    """Refuse an archive that unpacks to more than it holds: torch packs nothing, and a small file can hold a giant.

    Raises:
        UserError: If it does, or is no archive.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            size = sum(member.file_size for member in content.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError(f"The checkpoint {path} is not an archive of torch; restore the file.") from error
    if size > archive.getbuffer().nbytes:
        raise UserError(f"The checkpoint {path} unpacks to more than it holds, and is not loaded; restore the file.")
    archive.seek(0)
