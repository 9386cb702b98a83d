"""Opening the W&B record of a run: where its files go, what it is called, whether W&B can be had."""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger

from taut.errors import UserError
from taut.files import read_regular, write_atomically
from taut.runtime.connection import has_key, reachable, server
from taut.training.loggers.tracker import FINISH, OFFLINE, WITHOUT, Wandb, say

Mode = Literal["offline", "online"]
COMMON = "outputs"
LONGEST_ID = 64
OPEN = 6.0
"""Seconds W&B may take to open a run online."""


def wandb_logger(
    *,
    folder: str | os.PathLike[str],
    name: str,
    group: str | None,
    config: Mapping[str, Any],
    mode: Mode = "offline",
    project: str = "taut",
    entity: str | None = None,
    tags: list[str] | None = None,
    dir: str | os.PathLike[str] | None = None,
) -> list[Logger]:
    """The W&B logger of one run; offline it makes no connection and asks nothing.

    A training is never lost to W&B: where it is not installed or fails, the run goes on without it, and where its
    server cannot be reached the run is recorded offline. Under ``wandb agent``, W&B itself puts the agent's run,
    project and values in the place of ours.

    Args:
        folder: The run folder. A resumed run keeps the W&B id it finds there.
        name: Name of the run, see ``run_name``.
        group: Name of the sweep the run belongs to.
        config: Resolved plain values without secrets.
        mode: ``offline``, or ``online`` for users with an account.
        project: W&B project.
        entity: W&B user or team; the account's default if not given.
        tags: Words to find the run by, besides its model, data and k.
        dir: W&B keeps its files in ``<dir>/wandb``. If not given: the nearest folder above the run's that is called
            ``outputs``, so that ``wandb leet outputs/wandb`` shows all runs side by side; without one, the run folder.

    Raises:
        UserError: If ``mode`` is unknown, or ``online`` without an API key.
    """
    if mode not in ("offline", "online"):
        raise UserError(f"logger.mode={mode} is not known; choose offline or online, or logger=csv for no W&B at all.")
    if not _installed():
        say(f"W&B cannot be imported; {WITHOUT}")
        return []
    mode = _possible(mode)
    _set_mode(mode)
    about: dict[str, Any] = {"name": name, "group": group, "tags": _tags(config, tags), "config": dict(config)}
    about |= {"id": run_id(Path(folder), name, group), "project": project, "entity": entity}
    settings = {"mode": mode, "console": "off", "init_timeout": OPEN}
    if mode == "online":
        settings |= {"finish_timeout": FINISH, "finish_timeout_raises": True}
    place = Path(dir) if dir is not None else home(Path(folder))
    place.mkdir(parents=True, exist_ok=True)
    remedy = (lambda: _set_mode("offline")) if mode == "online" else None
    earlier = len(list(place.glob(f"wandb/*run-*-{about['id']}")))
    return [Wandb(remedy, earlier, save_dir=place, settings=settings, **about)]


def csv_logger(**_: Any) -> list[Logger]:
    """No logger beside ``metrics.csv``; whatever describes the run is accepted and not used."""
    return []


def home(folder: Path) -> Path:
    """The folder whose ``wandb/`` holds the records of a run: one for all runs under ``outputs/``."""
    above = [place for place in folder.absolute().parents if place.name == COMMON and os.access(place, os.W_OK)]
    return above[0] if above else folder


def run_id(folder: Path, name: str, group: str | None) -> str:
    """The W&B id of a run folder, which tells in a list of ids what the run is.

    Made once and kept in ``<folder>/wandb/id``: the folder of a sweep's job and the sweep, or the words of the
    name, and six digits that no other run has. ``wandb agent`` chooses the id of its runs itself.

    Raises:
        UserError: If the file holds something else.
    """
    path = folder / "wandb" / "id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        words = [folder.name, group] if group else [name]
        write_atomically(path, (_agents_id() or _readable(words)) + "\n")
    return _known_id(path)


def _known_id(path: Path) -> str:
    try:
        known = read_regular(path).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it, and the run gets a new W&B id.") from error
    # it becomes part of the names of W&B's folders
    if not re.fullmatch(r"[\w-]{1,64}", known, re.ASCII):
        raise UserError(f"{path} does not hold a W&B id; remove it, and the run gets a new one.")
    return known


def _tags(config: Mapping[str, Any], added: list[str] | None) -> list[str] | None:
    """The model, the data and k, and what the user adds; an evaluation, which knows none of them, adds its own."""
    chosen = config.get("choices", {})
    own = [chosen["model"], chosen["data"], f"k={config['k']}"] if chosen else []
    return list(dict.fromkeys([*own, *(added or [])])) or None


def _readable(words: list[str]) -> str:
    # not from a seeded generator: two runs of one seed need two ids
    digits = secrets.token_hex(3)
    text = re.sub(r"[^A-Za-z0-9_]+", "-", "-".join(words).replace("seed=", "s").replace("=", "")).strip("-")
    return f"{text[: LONGEST_ID - 1 - len(digits)].rstrip('-')}-{digits}"


def _agents_id() -> str | None:
    return os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None


def _installed() -> bool:
    try:
        import wandb
    except ImportError:
        return False
    # a folder called wandb in the working directory is imported as an empty package
    return hasattr(wandb, "init")


def _possible(mode: Mode) -> Mode:
    """The mode, or offline where W&B's server does not answer.

    Raises:
        UserError: If ``online`` has no API key.
    """
    if mode == "offline":
        return mode
    if not has_key():
        raise UserError(
            "logger.mode=online needs a W&B API key and none was found; run `wandb login` once, set "
            "WANDB_API_KEY, or leave logger.mode=offline."
        )
    if not reachable(server()):
        say(f"W&B's server does not answer; {OFFLINE}")
        return "offline"
    return mode


def _set_mode(mode: Mode) -> None:
    os.environ["WANDB_MODE"] = mode
    os.environ["WANDB_SILENT"] = "true"
    if mode == "offline":
        # else W&B reports its own errors over the network
        os.environ["WANDB_ERROR_REPORTING"] = "false"
