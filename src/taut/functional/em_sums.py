r"""The sums of EM for mixtures of Gaussians: what an E-step adds up over rows, and an M-step needs.

They are of r, r w and r w w' per component, with $r = p(c \mid x)$ and $w = L_c^{-1} (x - m_c)$ at the parameters they
are taken under: relative to the component they are of, however narrow it is, they lose no digit.

An E-step without missing cells is two matrix products, by the natural parameters (Wainwright & Jordan, 2008, section
3). With $f(x) = [1, x_i, x_i x_j]_{i \le j}$, or $[1, x_i, x_i^2]$ without correlations, and $P_c = \Sigma_c^{-1}$:

- $\log \pi_c N(x; m_c, \Sigma_c) = \eta_c \cdot f(x)$ with $\eta_c = [\log \pi_c - \frac12 (D \log 2 \pi + \log
  |\Sigma_c| + m_c^\top P_c m_c),\; P_c m_c,\; -\frac12 P_{c,ii},\; -P_{c,ij}]$, one product for all x and c;
- the sums that an M-step needs are $\sum_n r_{nc} f(x_n)$, another one.

Features lie transposed, ``[F, rows]``, a stretch of rows at a time that stays in the cache, so memory is flat in N.
Everything is in float64, because $\eta \cdot f$ cancels: x should be relative to the middle of the data, and where the
rounding could still be felt, the component is scored by $|w|^2$ with $w = L_c^{-1} x - L_c^{-1} m_c$, which is off by
no more than a last digit of x and m would make, and its sums are those of w. This costs five times as much.
"""

from dataclasses import dataclass
from functools import cached_property
from math import log, pi
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taut.functional.gaussian import Partial
from taut.functional.missing import patterns
from taut.functional.threads import each_alone

Sums = dict[str, Tensor]
"""Of r, r w and r w w' per component: ``counts`` ``[c]``, ``first`` ``[c, d]`` and ``second`` ``[c, d, d]``."""

STRETCH = 2**18
"""Numbers of a stretch: 2 MiB of features and densities, of which each is met twice."""
LARGEST = 64
"""Coordinates beyond which D (D + 1) / 2 products cost more than they save."""
ROUNDING = 1e-8
"""Nats a log-density may be off."""
NEGLIGIBLE = -700.0
"""Nats below the largest term. ``exp`` takes up to ten times as long where its answer is no longer a normal number."""


def pays(size: int, full: bool) -> bool:
    """Tell whether the two products are worth it for x of so many coordinates."""
    return not full or size <= LARGEST


@dataclass(frozen=True)
class Gaussians:
    r"""$\pi_c N(x; m_c, L_c L_c^\top)$ for c = 1 .. C, in float64.

    Args:
        log_weights: $\log \pi_c$.
        means: $m_c$, relative to what x is relative to.
        scale_tril: $L_c$.
        full: Whether L has entries below the diagonal.
    """

    log_weights: Float[Tensor, " c"]
    means: Float[Tensor, "c d"]
    scale_tril: Float[Tensor, "c d d"]
    full: bool

    @cached_property
    def inverse(self) -> Float[Tensor, "c d d"]:
        """$L^{-1}$."""
        if not self.full:
            return torch.diag_embed(1 / self.scale_tril.diagonal(dim1=-2, dim2=-1))
        identity = torch.eye(self.means.shape[-1]).to(self.means)
        return torch.linalg.solve_triangular(self.scale_tril, identity.expand_as(self.scale_tril), upper=False)

    @cached_property
    def natural(self) -> Float[Tensor, "c f"]:
        r"""$\eta_c$."""
        size = self.means.shape[-1]
        precision = self.inverse.mT @ self.inverse
        linear = (precision @ self.means.unsqueeze(-1)).squeeze(-1)
        log_det = 2 * self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = self.log_weights - 0.5 * (size * log(2 * pi) + log_det + (linear * self.means).sum(-1))
        i, j = pairs(size, self.full)
        quadratic = -precision[:, i, j] * torch.where(i == j, 0.5, 1.0).to(precision)
        return torch.cat([constant.unsqueeze(-1), linear, quadratic], -1)

    @property
    def rounding(self) -> Float[Tensor, " c"]:
        r"""Error of $\eta_c \cdot f(x)$ in nats that rounding may cause for x that c explains, on average.

        $2 \epsilon\, s^\top |L^{-1}|^\top |L^{-1}| s$ with $s = 2 |m| + \sigma \ge |x| + |m|$ at a standard deviation
        from the mean: four roundings of the sum of all terms without their signs. No partial sum is larger, and the
        roundings of many terms mostly cancel (Higham & Mary, 2019). At d such distances, $d^2$ times as much at most.
        """
        std = self.scale_tril.norm(dim=-1)
        terms = (self.inverse.abs() @ (2 * self.means.abs() + std).unsqueeze(-1)).squeeze(-1)
        return 2 * torch.finfo(terms.dtype).eps * terms.square().sum(-1)

    def whitening(self, which: Int[Tensor, " m"]) -> Float[Tensor, "m d e"]:
        """$[-L^{-1} m, L^{-1}]$ of some of them, by which $[1, x]$ becomes $L^{-1} (x - m)$."""
        inverse = self.inverse[which]
        return torch.cat([-inverse @ self.means[which].unsqueeze(-1), inverse], -1)

    def peaks(self, which: Int[Tensor, " m"]) -> Float[Tensor, " m"]:
        r"""$\log \pi_c N(m_c)$ of some of them."""
        log_det = self.scale_tril[which].diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return self.log_weights[which] - log_det - 0.5 * self.means.shape[-1] * log(2 * pi)


class FeatureSums(NamedTuple):
    """Sums that an E-step makes: r f(x) of all components, and r w and r w w' of the rough ones."""

    features: Float[Tensor, "f c"]
    first: Float[Tensor, "m d"]
    second: Float[Tensor, "m d d"]


def e_step(
    gaussians: Gaussians, x: Float[Tensor, "n d"], *, mixtures: int = 1, stretch: int = STRETCH
) -> tuple[Float[Tensor, "s n"], Sums]:
    r"""$\log p(x)$ in nats, and the sums of $r = p(c \mid x)$, r w and r w w' with $w = L_c^{-1} (x - m_c)$.

    Each of torch's threads goes through a part of the rows on its own: they meet once, not in every small operation,
    which on a machine with other work to do costs more than it saves.

    Args:
        gaussians: The components.
        x: Data without missing cells, float64.
        mixtures: How many mixtures they are, C / mixtures of them each, one mixture after the other.
        stretch: How many numbers to hold at once, in each thread.
    """
    scorer = Scorer.of(gaussians, mixtures)
    rows = max(1, stretch // sum(scorer.natural.shape))
    threads = torch.get_num_threads()
    # nothing to share out: one thread, one stretch, or a device that shares its work out by itself
    if threads == 1 or len(x) <= rows or x.device.type != "cpu":
        log_px, sums = _e_step(scorer, x, rows)
        return log_px, relative(gaussians, scorer.rough, sums)
    parts = each_alone(lambda part: _e_step(scorer, part, rows), x.tensor_split(min(threads, len(x))))
    # in the order of the parts, so that the sums round alike
    sums = FeatureSums(*(torch.stack(part).sum(0) for part in zip(*(sums for _, sums in parts), strict=True)))
    return torch.cat([log_px for log_px, _ in parts], -1), relative(gaussians, scorer.rough, sums)


@dataclass(frozen=True)
class Scorer:
    r"""Log-densities of rows whose features are known.

    Args:
        natural: $\eta$.
        full: Whether the features have the products of unlike coordinates.
        rough: The components in which rounding could be felt.
        whitening: Of those.
        peaks: Of those.
        mixtures: How many mixtures the components are.
    """

    natural: Float[Tensor, "c f"]
    full: bool
    rough: Int[Tensor, " m"]
    whitening: Float[Tensor, "m d e"]
    peaks: Float[Tensor, " m"]
    mixtures: int

    @classmethod
    def of(cls, gaussians: Gaussians, mixtures: int = 1) -> "Scorer":
        """Make the scorer of one mixture, or of several."""
        rough = (gaussians.rounding > ROUNDING).nonzero().squeeze(-1)
        of_rough = rough, gaussians.whitening(rough), gaussians.peaks(rough)
        return cls(gaussians.natural, gaussians.full, *of_rough, mixtures)

    def score(self, features: Float[Tensor, "f b"], out: Float[Tensor, "c b"]) -> Float[Tensor, "m d b"] | None:
        r"""Write $\log \pi_c N(x)$; w of the rough ones."""
        torch.mm(self.natural, features, out=out)
        if not len(self.rough):
            return None
        linear = features[: self.whitening.shape[-1]]
        whitened = (self.whitening.flatten(0, 1) @ linear).unflatten(0, self.whitening.shape[:2])
        out[self.rough] = self.peaks.unsqueeze(-1) - 0.5 * whitened.square().sum(1)
        return whitened


def _e_step(scorer: Scorer, x: Tensor, rows: int) -> tuple[Tensor, FeatureSums]:
    (count, width), (m, size, _) = scorer.natural.shape, scorer.whitening.shape
    # one buffer for all stretches, so that it stays in the cache
    buffer = x.new_empty(width + count, min(len(x), rows))
    sums = FeatureSums(x.new_zeros(width, count), x.new_zeros(m, size), x.new_zeros(m, size, size))
    log_px = x.new_empty(scorer.mixtures, len(x))
    for part, out in zip(x.split(rows), log_px.split(rows, -1), strict=True):
        features, table = buffer[:width, : len(part)], buffer[width:, : len(part)]
        fill(features, part, scorer.full)
        whitened = scorer.score(features, table)
        own = table.unflatten(0, (scorer.mixtures, -1))
        # without the largest term exp could overflow, or be 0 for every component
        largest = own.amax(1, keepdim=True)
        total = own.sub_(largest).clamp_min_(NEGLIGIBLE).exp_().sum(1, keepdim=True)
        torch.add(total.log(), largest, out=out.unsqueeze(1))
        own.mul_(total.reciprocal_())
        sums.features.addmm_(features, table.mT)
        if whitened is not None:
            weighted = whitened * table[scorer.rough].unsqueeze(1)
            sums.first.add_(weighted.sum(-1))
            sums.second.add_(weighted @ whitened.mT)
    return log_px, sums


def relative(gaussians: Gaussians, rough: Int[Tensor, " m"], sums: FeatureSums) -> Sums:
    """Counts, and the sums of r w and r w w' (its diagonal alone without correlations), of every component."""
    by_name, means, inverse = unpacked(sums.features.mT, gaussians), gaussians.means, gaussians.inverse
    counts, first, second = (by_name[name] for name in ("counts", "first", "second"))
    n, own = counts.unsqueeze(-1), first - counts.unsqueeze(-1) * means
    cross = own.unsqueeze(-1) * means.unsqueeze(-2)
    centred = second - cross - cross.mT - n.unsqueeze(-1) * means.unsqueeze(-1) * means.unsqueeze(-2)
    first, second = (inverse @ own.unsqueeze(-1)).squeeze(-1), inverse @ centred @ inverse.mT
    # where rounding could be felt, the sums of x have lost what those of w keep
    first[rough], second[rough] = sums.first, sums.second
    if not gaussians.full:
        second = torch.diag_embed(second.diagonal(dim1=-2, dim2=-1))
    return {"counts": counts, "first": first, "second": second}


def fill(features: Float[Tensor, "f b"], x: Float[Tensor, "b d"], full: bool) -> None:
    """Write f(x), a column for each datum."""
    size = x.shape[1]
    features[0] = 1.0
    linear = features[1 : size + 1]
    linear.copy_(x.mT)
    if not full:
        torch.mul(linear, linear, out=features[size + 1 :])
        return
    start = size + 1
    for i in range(size):
        stop = start + size - i
        torch.mul(linear[i], linear[i:], out=features[start:stop])
        start = stop


def pairs(size: int, full: bool) -> tuple[Tensor, Tensor]:
    """The coordinates i <= j of the products among the features."""
    if full:
        i, j = torch.triu_indices(size, size)
        return i, j
    i = torch.arange(size)
    return i, i


def unpacked(sums: Float[Tensor, "c f"], gaussians: Gaussians) -> Sums:
    r"""The sums of r, r x and r x x' (its diagonal alone without correlations) among those of f."""
    size = gaussians.means.shape[-1]
    second = sums.new_zeros(len(sums), size, size)
    i, j = pairs(size, gaussians.full)
    second[:, i, j] = second[:, j, i] = sums[:, size + 1 :]
    return {"counts": sums[:, 0], "first": sums[:, 1 : size + 1], "second": second}


def of_clusters(
    rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"], count: int
) -> tuple[Float[Tensor, " c"], Float[Tensor, "c d"], Float[Tensor, "c d d"]]:
    """Number of rows, mean, and sum of squares and products about the mean, of each cluster of rows."""
    counts = labels.bincount(minlength=count)
    # stable: the rows of a cluster are summed in one order, so its sums round alike
    own = rows[labels.argsort(stable=True)].split(counts.tolist())
    # an empty cluster gets a mean of 0 instead of 0 / 0
    means = torch.stack([some.sum(0) for some in own]) / counts.clamp_min(1).unsqueeze(-1)
    # about the mean: a difference of sums of squares would cancel
    second = [(some - mean).mT @ (some - mean) for some, mean in zip(own, means, strict=True)]
    return counts.to(means), means, torch.stack(second)


def of_complete_rows(
    rows: Float[Tensor, "b d"], r: Float[Tensor, "b c"], means: Float[Tensor, "c d"], factors: Float[Tensor, "c d d"]
) -> Sums:
    """Sums over data without missing cells under responsibilities r."""
    whitened = torch.linalg.solve_triangular(factors, (rows - means.unsqueeze(1)).mT, upper=False)
    weighted = whitened * r.mT.unsqueeze(1)
    return {"counts": r.sum(0), "first": weighted.sum(-1), "second": weighted @ whitened.mT}


def of_incomplete_rows(
    rows: Float[Tensor, "b d"], r: Float[Tensor, "b c"], means: Float[Tensor, "c d"], factors: Float[Tensor, "c d d"]
) -> Sums:
    """Sums with the missing cells filled in expectation, under each component (Ghahramani & Jordan, 1994)."""
    first, second = torch.zeros_like(means), torch.zeros_like(factors)
    for pattern in patterns(rows):
        part, weight = Partial.of(pattern, means, factors), r[pattern.rows]
        difference = (part.mean(rows) - means).flatten(0, 1).movedim(0, -1)  # [c, d, p n]
        spread = part.missing_factor.movedim(0, 2).flatten(2)  # [c, d, p d]
        solved = torch.linalg.solve_triangular(factors, torch.cat([difference, spread], -1), upper=False)
        whitened, spread = solved.split([difference.shape[-1], spread.shape[-1]], -1)
        weighted = whitened * weight.flatten(0, 1).mT.unsqueeze(1)
        of_masks = weight.sum(1).mT.repeat_interleave(rows.shape[1], -1)  # [c, p d]
        first += weighted.sum(-1)
        second += weighted @ whitened.mT + (spread * of_masks.unsqueeze(1)) @ spread.mT
    return {"counts": r.sum(0), "first": first, "second": second}


def added(one: Sums, other: Sums) -> Sums:
    """Entry by entry."""
    return {name: value + other[name] for name, value in one.items()}


def moved(
    sums: Sums,
    old: tuple[Float[Tensor, "c d"], Float[Tensor, "c d d"]],
    new: tuple[Float[Tensor, "c d"], Float[Tensor, "c d d"]],
) -> Sums:
    """Turn sums into those relative to other means and factors."""
    turn = torch.linalg.solve_triangular(new[1], old[1], upper=False)
    far = torch.linalg.solve_triangular(new[1], (old[0] - new[0]).unsqueeze(-1), upper=False).squeeze(-1)
    counts, turned = sums["counts"].unsqueeze(-1), (turn @ sums["first"].unsqueeze(-1)).squeeze(-1)
    cross = turned.unsqueeze(-1) * far.unsqueeze(-2)
    second = turn @ sums["second"] @ turn.mT + cross + cross.mT
    second = second + counts.unsqueeze(-1) * far.unsqueeze(-1) * far.unsqueeze(-2)
    return {"counts": sums["counts"], "first": turned + counts * far, "second": second}
