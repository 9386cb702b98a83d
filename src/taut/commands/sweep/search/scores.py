"""The scores of a search: what its trials are compared by, and whether they can be compared at all."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from taut.config.foreign import read_metrics
from taut.config.run_folder import METRICS, read_result
from taut.errors import UserError

__all__ = ["METRICS", "Score", "error_of", "front", "incomparable", "rows_of", "samples"]

BOUND, LOG_PX = "val/bound", "val/log_px"
NOT_OF_DATA = ("batch_size", "num_workers", "pin_memory", "persistent_workers", "prefetch_factor")
"""Keys of data that change how they are handed over, and not which they are."""
WHAT = {
    "data": "the data, their split or their binarisation",
    "mask": "the cells that are observed",
    "likelihood": "the likelihood, and with it what log p(x) is of",
    "k_eval": "K, the samples of validation",
}
Row = Mapping[str, float]


@dataclass(frozen=True)
class Score:
    """What a search maximises.

    Args:
        names: Columns of ``metrics.csv``.
        samples: K of ``val/log_px``, where it is not exact.
        why: One sentence where they are not those that were asked for.
    """

    names: tuple[str, ...]
    samples: int
    why: str = ""

    @classmethod
    def agreed(cls, asked: str | Sequence[str], configs: Sequence[DictConfig]) -> "Score":
        """The score by which trials of these configs can be compared.

        ``val/bound`` is another thing for another K, model or objective. Where trials differ in one of them, it is
        ``val/log_px`` instead, which is L_K at the one K of validation, ``k_eval``; exact for a mixture.

        Raises:
            UserError: If the configs have scores that cannot be compared.
        """
        names = tuple(dict.fromkeys([asked] if isinstance(asked, str) else asked))
        first = configs[0]
        for cfg in configs[1:]:
            if wrong := incomparable(first, cfg):
                raise UserError(wrong)
        score = cls(names, samples(first))
        if BOUND in names and len({json.dumps(_bound(cfg)) for cfg in configs}) > 1:
            score = replace(
                score,
                names=tuple(dict.fromkeys(LOG_PX if name == BOUND else name for name in names)),
                why=f"Trials differ in what their bound is of, so that all are scored by {LOG_PX} with "
                f"K = {score.samples}, or by log p(x) itself where that is exact.",
            )
        return score

    @property
    def labels(self) -> list[str]:
        """What they are called in a table."""
        return [f"{name}\nK = {self.samples}" if name == LOG_PX else name for name in self.names]

    def of(self, folder: Path) -> list[float] | None:
        """The values of a finished job: those of the weights that are kept, which have the best validation bound."""
        best = read_result(folder).get("validation", {}).get("bound")
        if best is None:
            return None
        if self.names == (BOUND,):
            return [best]
        rows = [row for row in rows_of(folder) if BOUND in row and row.keys() >= set(self.names)]
        if not rows:
            return None
        row = min(rows, key=lambda row: abs(row[BOUND] - best))
        return [row[name] for name in self.names]

    def kind(self, folder: Path) -> str | None:
        """Whether the log p(x) of a finished job is exact or a lower bound, if that is what trials are scored by."""
        found = read_result(folder).get("scores", {}).get("log_px", {}).get("kind")
        return found if LOG_PX in self.names else None


def error_of(column: str) -> str:
    """The column of ``metrics.csv`` with the standard error of a score over the validation rows."""
    return column.replace("val/", "val_error/")


def incomparable(first: DictConfig, other: DictConfig) -> str | None:
    """A sentence where scores of two configs cannot be compared; None where they can."""
    ours, theirs = (_measured(cfg) for cfg in (first, other))
    for name, value in ours.items():
        if value != theirs[name]:
            if name == "k_eval":
                return (
                    f"k={other.k} would be scored with K = {theirs[name]} samples and k={first.k} with {value}, which "
                    f"cannot be compared; let every k divide k_eval={first.k_eval} at least twice, or change k_eval."
                )
            return f"Trials would differ in {WHAT[name]}, and such scores cannot be compared; leave that axis out."
    return None


def samples(cfg: DictConfig) -> int:
    """Importance samples of validation: ``k_eval``, rounded up to a multiple of k, and two of them at least."""
    return max(2, -(-cfg.k_eval // cfg.k)) * cfg.k


def rows_of(folder: Path) -> Sequence[Row]:
    """The rows of ``metrics.csv`` so far."""
    path = folder / METRICS
    return read_metrics(path) if path.exists() else []


def front(values: Mapping[str, Sequence[float]]) -> list[str]:
    """Names of those that no other beats: with one score of the first that is best, with several the Pareto front."""
    if values and len(next(iter(values.values()))) == 1:
        return [max(values, key=lambda name: values[name][0])]
    return [name for name, own in values.items() if not any(_beats(other, own) for other in values.values())]


def _beats(other: Iterable[float], own: Iterable[float]) -> bool:
    pairs = list(zip(other, own, strict=True))
    return all(theirs >= ours for theirs, ours in pairs) and any(theirs > ours for theirs, ours in pairs)


def _measured(cfg: DictConfig) -> dict[str, Any]:
    """What must be the same for scores to be of the same thing."""
    data = _part(cfg, "data")
    return {
        "data": {name: value for name, value in data.items() if name not in NOT_OF_DATA},
        "mask": _part(cfg, "mask"),
        "likelihood": _part(cfg, "likelihood").get("_target_"),
        "k_eval": samples(cfg),
    }


def _bound(cfg: DictConfig) -> list[Any]:
    return [cfg.k, *(_part(cfg, name).get("_target_") for name in ("model", "objective"))]


def _part(cfg: DictConfig, name: str) -> dict[str, Any]:
    container: Any = OmegaConf.to_container(cfg, resolve=True)
    return container.get(name) or {}
