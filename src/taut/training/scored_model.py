"""The measures of a model variant: the scores of validation and test, refused where they cannot be."""

from functools import cached_property
from typing import Any, Literal

import lightning as L
import torch

from taut.data.base import Batch
from taut.evidence.score import DETAILS, names_of_layers, score
from taut.functional import bounds
from taut.functional.consistency import Judge, Kind, Value, refuse
from taut.model import exact_inference
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective
from taut.training.metrics import ScoreMeter, Summary
from taut.training.plain_loaders import RowNumbers

SCORES = ["elbo", "bound", "log_px", "gap", "kl", "reconstruction", "ess"]


class ScoredModel(L.LightningModule):
    """A joint, a q and an objective, scored at validation and at test.

    Args:
        joint: p(x, z).
        q: q(z | x).
        objective: The bound to score.
        k: Importance samples K of the objective.
        k_eval: Importance samples at validation, rounded up to a multiple of k and to at least two blocks of k, so
            that the noise of the bound at k is known.
        k_test: Importance samples at test, rounded likewise.
        seed: Seed of all noise.
    """

    def __init__(
        self, joint: Joint, q: Posterior, objective: Objective, *, k: int, k_eval: int, k_test: int, seed: int
    ) -> None:
        super().__init__()
        self.joint, self.q, self.objective = joint, q, objective
        self.k, self.seed = k, seed
        asked = {"k_eval": k_eval, "k_test": k_test}
        self.samples = {
            stage: _tiled(samples, k) for stage, samples in zip(("val", "test"), asked.values(), strict=True)
        }
        self._rounded = {
            name: (samples, used)
            for (name, samples), used in zip(asked.items(), self.samples.values(), strict=True)
            if used != samples
        }
        self._rows = RowNumbers(joint.likelihood)
        self.summaries: dict[str, Summary] = {}
        names = [*SCORES, *(names_of_layers("kl", len(joint.prior.layers)) if q.layered else [])]
        self.meters = torch.nn.ModuleDict(
            {
                stage: ScoreMeter(names, len(bounds.block_sizes(samples)), joint.prior.layers, stage)
                for stage, samples in self.samples.items()
            }
        )

    def setup(self, stage: str) -> None:
        """Ask what needs the parameters before a strategy spreads them."""
        del stage
        _ = self.log_px_kind

    @cached_property
    def log_px_kind(self) -> Literal["exact", "lower"]:
        """Kind of log p(x): ``exact``, or a ``lower`` bound by importance sampling."""
        return "exact" if exact_inference.tractable(self.joint) else "lower"

    @property
    def rounded_samples(self) -> str:
        """What numbers of samples were rounded up to, and why; empty where none was."""
        if not self._rounded:
            return ""
        parts = [f"{name}={asked:,} is rounded up to {used:,}" for name, (asked, used) in self._rounded.items()]
        return f"{' and '.join(parts)}: two or more blocks of k={self.k:,} samples, each of which gives one bound."

    def on_validation_epoch_start(self) -> None:
        self._rows.start("val")

    def on_test_epoch_start(self) -> None:
        self._rows.start("test")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        del batch_idx
        self._score(self._rows.of(batch, "val", self.trainer), "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        del batch_idx
        self._score(self._rows.of(batch, "test", self.trainer), "test")

    def on_validation_epoch_end(self) -> None:
        self._summarise("val")

    def on_test_epoch_end(self) -> None:
        self._summarise("test")

    def curve(self, stage: str) -> tuple[list[int], list[float], list[float], float, str] | None:
        """(k, IWAE-k, standard errors, log p(x), its kind) of the last evaluation of a stage, if there was one."""
        summary = self.summaries.get(stage)
        if summary is None:
            return None
        sizes = bounds.block_sizes(self.samples[stage])
        log_px = summary.scores["log_px"]["value"]
        return sizes, summary.curve, summary.curve_errors, log_px, self.log_px_kind

    def _score(self, batch: Batch, stage: str) -> None:
        detailed = stage == "test" and self.log_px_kind == "lower"
        if not len(batch.x):  # a split of fewer rows than there are processes, which gather the same lists all the same
            if detailed:
                self._meter(stage).details.append(torch.zeros(0, len(DETAILS), dtype=torch.float64, device=self.device))
            return
        scores = score(
            self.joint,
            self.q,
            batch.x,
            batch.index,
            bound=self.objective.bound,
            k=self.k,
            samples=self.samples[stage],
            seed=self.seed,
            split=stage,
            detailed=detailed,
        )
        self._meter(stage).update(scores, batch.index)

    def _meter(self, stage: str) -> ScoreMeter:
        meter = self.meters[stage]
        assert isinstance(meter, ScoreMeter)
        return meter

    def _summarise(self, stage: str) -> None:
        meter = self._meter(stage)
        summary = meter.compute()
        meter.reset()
        self._refuse_impossible(summary, stage)
        if self.trainer.sanity_checking:
            return  # of weights that nothing has trained
        self.summaries[stage] = summary
        values = {f"{stage}/{name}": score["value"] for name, score in summary.scores.items()}
        # equal in all processes; without sync_dist Lightning would warn
        self.log_dict(values, batch_size=summary.n, sync_dist=True)

    def _refuse_impossible(self, summary: Summary, stage: str) -> None:
        """Stop at a score that cannot be, before it is logged, kept or ranked.

        Raises:
            Void: Naming the score, the split and what to do.
        """
        samples, scores = self.samples[stage], summary.scores
        kinds: dict[str, Kind] = {"elbo": "lower", "bound": "lower", "log_px": self.log_px_kind}
        if self.objective.kind == "estimate":  # which may lie on either side of everything
            del kinds["bound"]
        words = {"elbo": "the ELBO", "bound": f"the bound at k = {self.k}", "log_px": "log p(x)"}
        value_and_error = {name: (scores[name]["value"], scores[name]["monte_carlo_error"]) for name in (*kinds, "kl")}
        values = [Value(words[name], kind, *value_and_error[name]) for name, kind in kinds.items()]
        judge = Judge(summary.n, summary.n * (samples - 1), 6 * (self.current_epoch + 1))
        refuse(
            values,
            Value("KL(q(z|x) || p(z))", "estimate", *value_and_error["kl"]),
            judge,
            mass=self.is_mass,
            where=stage,
        )

    @property
    def is_mass(self) -> bool:
        """True if p(x) is a probability mass, whose log is at most 0."""
        return self.joint.likelihood.is_mass


def _tiled(samples: int, k: int) -> int:
    return max(2, -(-samples // k)) * k
