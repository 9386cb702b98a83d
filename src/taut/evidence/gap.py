r"""The gap $\log p(x) - \mathrm{ELBO} = KL(q(z|x) \| p(z|x))$: an interval for it, and its two parts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taut.evidence.diagnostics import heavy_tailed
from taut.evidence.exact import Exact
from taut.evidence.log_evidence import LogEvidence
from taut.evidence.optimal_q import Family, Search
from taut.evidence.rows import Rows, refuse_inconsistent
from taut.functional import bounds
from taut.functional.precision import exact_arithmetic
from taut.functional.statistics import variance_of_mean
from taut.functional.types import LogWeights, PerDatum

SETTLED = 0.05
"""Nats by which the ELBOs found from two starts may differ where the search has settled."""
OF_THE_ELBO = ""
"""The purpose of the noise that the weights of q have."""


@dataclass(frozen=True)
class Interval:
    """Interval that holds the gap of each datum, in expectation over the noise.

    Args:
        low: Best lower bound of log p(x) minus the ELBO, ``[b]``, nats; the gap itself where ``exact``.
        high: Best upper bound minus the ELBO; ``None`` where there is none.
        exact: Whether log p(x) is known.
        lower: Name of the estimator that ``low`` comes from.
        upper: Name of the one that ``high`` comes from.
    """

    low: PerDatum
    high: PerDatum | None
    exact: bool
    lower: str
    upper: str | None


def interval(elbo: PerDatum, evidence: Sequence[LogEvidence]) -> Interval:
    """The gap as far as the evidence brackets it.

    The best lower bound is one estimator for all data, the one whose mean less twice its noise is highest: the maximum
    of several noisy bounds of one datum would no longer be a bound. One below the ELBO says nothing, and the ELBO takes
    its place. Estimates, which have no side, are not used. An upper bound made of a draw of the posterior, which data
    simulated from the model have, goes before one made of q, however low that one lies: where q misses mass it is too
    low. One of weights that have a variance goes before one of heavy-tailed weights, which is too low more often than
    its stated noise allows; one of those that lies below the best lower bound bounds nothing. The choice is made on the
    noise of the values themselves, so each end flatters the interval by what the best of a few noisy means gains: much
    less than a maximum datum by datum, but not nothing.
    """
    for one in evidence:
        if one.kind == "exact":
            return Interval(one.value - elbo, one.value - elbo, True, one.name, one.name)
    lower = max((one for one in evidence if one.kind == "lower"), key=lambda one: one.mean - _doubt(one), default=None)
    if lower is not None and lower.mean < elbo.mean():
        lower = None
    finite = [one for one in evidence if one.kind == "upper" and bool(one.value.isfinite().all())]
    beyond_q = [one for one in finite if one.unbiased]
    heard = beyond_q or finite
    sound = [one for one in heard if not heavy_tailed(one)]
    floor = -math.inf if lower is None else lower.mean
    upper = min(
        sound or [one for one in heard if one.mean >= floor], key=lambda one: one.mean + _doubt(one), default=None
    )
    return Interval(
        torch.zeros_like(elbo) if lower is None else lower.value - elbo,
        None if upper is None else upper.value - elbo,
        False,
        "elbo" if lower is None else lower.name,
        None if upper is None else upper.name,
    )


def _doubt(one: LogEvidence) -> float:
    """Twice the noise of the mean; none where it is not known."""
    noise = one.monte_carlo_error
    # only NaN differs from itself
    return 2 * noise if noise == noise else 0.0


@dataclass(frozen=True)
class GapDecomposition:
    r"""The gap in two parts (Cremer, Li & Duvenaud, 2018); nats, ``[b]``, evaluated on samples the search never saw.

    Both ELBOs are made of the same noise, so that their difference holds little of it, and none where q is q*.

    $\log p(x) - \mathrm{ELBO}[q] = (\log p(x) - \mathrm{ELBO}[q^*]) + (\mathrm{ELBO}[q^*] - \mathrm{ELBO}[q])$ with
    $q^*$ the best member of the family for this x: approximation gap and amortisation gap.

    Args:
        elbo: ELBO of q.
        best: ELBO of q*.
        elbo_variance: Monte Carlo variance of the first.
        best_variance: Monte Carlo variance of the second.
        amortisation_variance: Monte Carlo variance of their difference.
        apart: By how much the ELBOs found from the encoder and from standard parameters differ.
        from_encoder: Whether q* was found from the encoder's parameters rather than from standard ones.
    """

    elbo: PerDatum
    best: PerDatum
    elbo_variance: PerDatum
    best_variance: PerDatum
    amortisation_variance: PerDatum
    apart: PerDatum
    from_encoder: Bool[Tensor, " b"]

    @property
    def amortisation(self) -> PerDatum:
        """Loss of the encoder against the best member."""
        return self.best - self.elbo

    @property
    def settled(self) -> Bool[Tensor, " b"]:
        """True where both starts led to the same ELBO; elsewhere approximation may hold what the search missed."""
        return self.apart.abs() < SETTLED

    def approximation(self, log_px: PerDatum) -> PerDatum:
        """Loss of the family against the posterior; negative where ``log_px`` is too low a bound."""
        return log_px - self.best

    def select(self, index: Int[Tensor, " m"]) -> "GapDecomposition":
        """Some of the data, or all in another order."""
        return GapDecomposition(*(values[index] for values in vars(self).values()))

    def cpu(self) -> "GapDecomposition":
        """Copy the numbers to main memory."""
        return GapDecomposition(*(values.cpu() for values in vars(self).values()))

    @staticmethod
    def cat(parts: Sequence["GapDecomposition"]) -> "GapDecomposition":
        """The split of further data."""
        return GapDecomposition(
            *(torch.cat(values) for values in zip(*(vars(part).values() for part in parts), strict=True))
        )


def decompose(
    rows: Rows,
    family: Family | None,
    search: Search = Search(),  # noqa: B008 (frozen)
    k: int = 1000,
) -> GapDecomposition:
    """Take the gap of each datum apart.

    The search starts from the encoder and from standard parameters; of what both found and the encoder itself, each
    datum keeps the best by samples of its own, and the kept one is scored with the noise of the ELBO, which neither
    search nor choice has seen. A q without free parameters is its own best member; among all distributions of a
    category the posterior is.

    Args:
        rows: Data.
        family: The variational family and its encoder; ``None`` for a q without free parameters.
        search: How to search.
        k: Number of samples of each score.
    """
    refuse_inconsistent(rows.target, rows.x)
    with exact_arithmetic(rows.x.device):
        own = rows.weights(k).log_w
        if family is None or rows.target.discrete:
            return _closed(rows, family, own)
        amortised = family.parameters(rows.x)
        tick = rows.tick
        rows.tick = lambda share: tick(share / 2)
        found = {"encoder": search.run(rows, family, amortised, "local/encoder")}
        rows.tick = lambda share: tick((1 + share) / 2)
        found["standard"] = search.run(rows, family, torch.zeros_like(amortised), "local/standard")
        candidates = torch.stack([found["encoder"], found["standard"], amortised])
        scores = torch.stack([_elbo(rows, family, one, k, "local/choice").mean(0) for one in candidates])
        choice = scores.nan_to_num(nan=-torch.inf).argmax(0)  # a search that diverged is not chosen
        best = candidates[choice, torch.arange(len(rows), device=choice.device)]
        kept = _elbo(rows, family, best, k, OF_THE_ELBO)
        return GapDecomposition(
            bounds.elbo(own),
            kept.mean(0),
            variance_of_mean(own),
            variance_of_mean(kept),
            variance_of_mean(kept - own),
            scores[0] - scores[1],
            choice != 1,
        )


def _closed(rows: Rows, family: Family | None, log_w: Float[Tensor, "k b"]) -> GapDecomposition:
    elbo, noise = bounds.elbo(log_w), variance_of_mean(log_w)
    zero, yes = torch.zeros_like(elbo), torch.ones_like(elbo, dtype=torch.bool)
    if family is None:
        return GapDecomposition(elbo, elbo, noise, noise, zero, zero, yes)
    return GapDecomposition(elbo, Exact().estimate(rows).value, noise, zero, noise, zero, yes)


def _elbo(rows: Rows, family: Family, parameters: Tensor, k: int, purpose: str) -> Float[Tensor, "k b"]:
    return rows.drawn(k, purpose, lambda some: family.distribution(parameters[some]))


def thermodynamic_curve(log_w: LogWeights, betas: Sequence[float]) -> Float[torch.Tensor, "n b"]:
    r"""$E_{\pi_\beta} \log w$ with $\pi_\beta \propto q^{1-\beta} p(x, z)^\beta$, for each beta (Masrani et al., 2019).

    It never falls with beta, begins at the ELBO, and the area under it is $\log p(x)$: the area above the ELBO is the
    gap. The expectations are self-normalised sums over samples of q with weights $w^\beta$, so they are estimates, too
    low near beta = 1 where few samples count; a right sum made of them is not an upper bound. Samples of weight zero
    count for nothing at beta > 0, and make the ELBO $-\infty$.

    Args:
        log_w: Log-weights of samples of q.
        betas: Points in [0, 1].
    """
    # 0 times -inf would be NaN
    finite = torch.where(log_w.isfinite(), log_w, 0.0)
    inside = [(bounds.normalised_weights(beta * log_w) * finite).sum(0) for beta in betas if beta > 0]
    return torch.stack([log_w.mean(0) for beta in betas if beta == 0] + inside)
