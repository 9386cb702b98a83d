"""The files that a run reads: found from any working directory, and after the run folder and they moved together."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from taut.config.overrides import key, quoted
from taut.config.plain_yaml import read_values
from taut.config.run_folder import CHOICES
from taut.errors import UserError

FILES = ("data.path", "mask.path")
"""Keys of files that must be there."""
FOLDERS = ("data.dir",)
"""Keys of folders into which what is missing is downloaded."""


def located(folder: Path, cfg: DictConfig, told: Collection[str]) -> dict[str, str]:
    """Where the files and folders that a run names are now: absolute paths by key, of those that its config misses.

    A relative path is relative to where the run was started. What is not there is looked for where it lies if the run
    folder and it have been moved together, and at last from the working directory.

    Args:
        folder: The run folder, where it is now.
        cfg: The config of the run as it stands.
        told: Keys that need not be looked for.

    Raises:
        UserError: If a file is at none of these places.
    """
    found = {}
    # unresolved: a value of the environment must not be written into the run folder, and knows its place itself
    raw = OmegaConf.to_container(cfg, resolve=False)
    for name in (*FILES, *FOLDERS):
        group, _, leaf = name.partition(".")
        node = raw.get(group) if isinstance(raw, dict) else None
        value = node.get(leaf) if isinstance(node, dict) else None
        if name in told or not isinstance(value, str) or not value or "${" in value:
            continue
        places = list(dict.fromkeys(_places(folder, cfg, value)))
        place = next((place for place in places if place.exists()), None)
        if place is None and name in FILES:
            raise UserError(
                f"The file that {folder.name} was made with is at none of {', '.join(map(str, places))}; say where it "
                f"is: {name}=<file>."
            )
        place = place or places[0]
        if str(place) != value:
            found[name] = str(place)
    return found


def as_typed(words: list[str]) -> list[str]:
    """The words of a command, of which those that name the files of a run hold absolute paths.

    They are kept in the run folder, and read again from another working directory.
    """
    return [_absolute(word) if key(word) in (*FILES, *FOLDERS) else word for word in words]


def _absolute(word: str) -> str:
    name, equals, value = word.partition("=")
    plain = value[1:-1] if value[:1] == value[-1:] and value[:1] in ("'", '"') else value
    if not plain or plain == "null" or "${" in plain:
        return word
    return f"{name}{equals}{quoted(str(Path(plain).expanduser().absolute()))}"


def _places(folder: Path, cfg: DictConfig, value: str) -> Iterator[Path]:
    path = Path(value).expanduser()
    started, made = _origin(folder, cfg)
    first = Path(os.path.normpath(started / path)) if started else path
    if first.is_absolute():
        yield first
        if made:
            yield Path(os.path.normpath(folder / os.path.relpath(first, made)))
    yield path.absolute()


def _origin(folder: Path, cfg: DictConfig) -> tuple[Path | None, Path | None]:
    """The working directory in which a run was started, and where its folder was when ``cfg`` was written."""
    try:
        runtime = read_values(folder / CHOICES)["hydra"]["runtime"]
        started, made = Path(runtime["cwd"]), Path(cfg.get("resume") or runtime["output_dir"])
    except (OSError, KeyError, TypeError, UserError):
        return None, None  # a damaged description is told of by whoever needs more of it
    return started, made
