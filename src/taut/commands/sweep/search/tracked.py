"""A search in W&B: one run of the group of its jobs, with its figures and the words of the best trial."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from taut.report.read.search import SearchResult

WANDB = "taut.training.loggers.wandb_logger"


def track(logger: DictConfig, result: SearchResult, folder: Path, pictures: Sequence[Path]) -> None:
    """Record a search where its jobs are recorded by W&B; where W&B fails, say so, for the search is complete.

    Args:
        logger: The choice of ``logger``.
        result: What the search has found.
        folder: Its folder.
        pictures: Its figures.
    """
    settings = _settings(OmegaConf.to_container(logger, resolve=True))
    if settings is None:
        return
    try:
        _record(settings, result, folder, pictures)
    except Exception as error:
        print(f"W&B has no record of the search: {error}", file=sys.stderr, flush=True)


def _record(settings: Mapping[str, Any], result: SearchResult, folder: Path, pictures: Sequence[Path]) -> None:
    # lightning, which takes seconds
    from taut.training.loggers import finish, wandb_logger

    # in the group of its jobs, which is named after the sweep
    about = {"folder": folder, "name": f"search {folder.name}", "group": folder.name, "config": {}}
    best = {f"best/{name}": max(values) for name, values in _columns(result).items()}
    for logger in wandb_logger(**about, **settings):
        for picture in pictures:
            logger.log_image(f"search/{picture.stem}", [str(picture)])  # pyright: ignore[reportAttributeAccessIssue]
        logger.experiment.summary.update(  # pyright: ignore[reportAttributeAccessIssue]
            {**best, "best/words": "\n".join(result.best.values()), "trials": len(result.trials)}
        )
    finish(0)


def _columns(result: SearchResult) -> dict[str, list[float]]:
    """All values of each score."""
    names = [label.partition("\n")[0] for label in result.labels]
    known = result.values.values()
    return {name: [values[place] for values in known] for place, name in enumerate(names) if known}


def _settings(logger: Any) -> dict[str, Any] | None:
    """The settings of W&B's logger, which may be one of several; None if it is none of them."""
    for node in [logger, *(logger.values() if isinstance(logger, dict) else ())]:
        if isinstance(node, dict) and node.get("_target_") == WANDB:
            return {key: value for key, value in node.items() if not key.startswith("_")}
    return None
