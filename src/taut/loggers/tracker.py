"""The two trackers: W&B, offline unless asked, and none."""

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, WandbLogger

from taut.errors import UserError

Mode = Literal["offline", "online"]
BEST = {"max": ("elbo", "bound", "log_px", "ess", "active_units"), "min": ("gap", "kl")}


class Wandb(WandbLogger):
    """Lightning's logger for W&B, with axes and summaries defined when the run starts.

    Scores are drawn against the epoch; the summary holds the best validation value of each
    (``val/bound.max``) beside the last. A process that did not make the logger finishes its own share of the
    run, so that no worker leaves an open file.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        del self._wandb_init["anonymous"]  # W&B warns about the mere key
        self._home = os.getpid()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        started = self._experiment is not None
        run = super().experiment
        if not started:
            define_metrics(run)
        return run

    def finalize(self, status: str) -> None:
        super().finalize(status)
        if os.getpid() != self._home and self._experiment is not None:
            finish(0 if status == "success" else 1)


def define_metrics(run: Any) -> None:
    """Tell a W&B run which axis its metrics are drawn against and which extreme of each is best."""
    run.define_metric("epoch", hidden=True)
    run.define_metric("val/*", step_metric="epoch")
    run.define_metric("test/*", step_metric="epoch")
    for best, names in BEST.items():
        for name in names:
            run.define_metric(f"val/{name}", step_metric="epoch", summary=f"{best},last")


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

    Args:
        folder: The run folder. A resumed run keeps the W&B id it finds there.
        name: Name of the run, see ``run_name``.
        group: Name of the sweep the run belongs to.
        config: Resolved plain values without secrets.
        mode: ``offline``, or ``online`` for users with an account.
        project: W&B project.
        entity: W&B user or team; the account's default if not given.
        tags: Words to find the run by.
        dir: W&B keeps its files in ``<dir>/wandb``, the run folder if not given. One folder for many runs
            lets ``wandb leet <dir>/wandb`` compare them.

    Raises:
        UserError: If ``mode`` is unknown, or ``online`` without an API key.
    """
    _set_mode(mode)
    place = Path(folder if dir is None else dir)
    place.mkdir(parents=True, exist_ok=True)
    settings = {"mode": mode, "console": "off"}
    about = {"name": name, "project": project, "entity": entity, "group": group, "tags": tags}
    return [Wandb(save_dir=place, id=run_id(Path(folder)), config=dict(config), settings=settings, **about)]


def csv_logger(**_: Any) -> list[Logger]:
    """No tracker beside ``metrics.csv``; whatever describes the run is accepted and not used."""
    return []


def run_id(folder: Path) -> str:
    """The W&B id of a run folder: made once and kept in ``<folder>/wandb/id``."""
    path = folder / "wandb" / "id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def finish(exit_code: int) -> None:
    """Close the W&B run of this process, if there is one, so that the next job starts its own."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=exit_code)


def _set_mode(mode: Mode) -> None:
    if mode not in ("offline", "online"):
        raise UserError(f"logger.mode={mode} is not known; choose offline or online, or logger=csv for no W&B at all.")
    os.environ["WANDB_MODE"] = mode
    os.environ["WANDB_SILENT"] = "true"
    if mode == "offline":
        os.environ["WANDB_ERROR_REPORTING"] = "false"
    elif not _has_key():
        raise UserError(
            "logger.mode=online needs a W&B API key and none was found; run `wandb login` once, set "
            "WANDB_API_KEY, or leave logger.mode=offline."
        )


def _has_key() -> bool:
    import wandb

    return wandb.login(prompt=False)
