"""Config files that Hydra reads once: of a composition, a third of the time goes into the same thirty files."""

import pickle
from pathlib import Path

from hydra._internal.config_repository import ConfigRepository
from hydra.plugins.config_source import ConfigSource

KEPT = ("file://", "pkg://")
"""Where files are; what is registered in Python may change without a trace."""
_load = ConfigRepository.load_config
_known: dict[object, bytes] = {}


def remember() -> None:
    """Have Hydra remember what it has read of a file until that changes; every composition gets a copy of its own."""
    ConfigRepository.load_config = _remembered


def _remembered(repository, config_path):
    key = config_path, *(_state(source, config_path) for source in repository.sources)
    if key in _known:
        return pickle.loads(_known[key])
    found = _load(repository, config_path)
    if found is not None and str(found.path).startswith(KEPT):
        _known[key] = pickle.dumps(found)
    return found


def _state(source: ConfigSource, config_path: str) -> object:
    """The place of a file in a source, and when it was changed; nothing changes within a package."""
    where = source.scheme(), source.provider, source.path
    if source.scheme() != "file":
        return where
    try:
        status = Path(source.path, f"{config_path.removesuffix('.yaml')}.yaml").stat()
    except OSError:
        return where
    return *where, status.st_ino, status.st_size, status.st_mtime_ns
