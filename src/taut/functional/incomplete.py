r"""The E-step of Gaussians over rows with missing cells: patterns found once, one small factorisation for each.

With cells o observed and h missing, and $\Lambda = \Sigma^{-1}$, the smaller of two blocks is factorised (Little &
Rubin, 2019, chapter 11; the second way is that of sweeping the missing coordinates of $\Lambda$):

- few observed: $a = \Sigma_{oo}^{-1} (x_o - m_o)$, $E[x - m] = \Sigma_{\cdot o}\, a$ and $\mathrm{Cov}[x] = \Sigma -
  \Sigma_{\cdot o} \Sigma_{oo}^{-1} \Sigma_{o \cdot}$;
- few missing: with $d = x - m$, 0 where missing, $E[x_h - m_h] = -\Lambda_{hh}^{-1} (\Lambda d)_h$, $\mathrm{Cov}[x_h]
  = \Lambda_{hh}^{-1}$ and $|\Sigma_{oo}| = |\Sigma| |\Lambda_{hh}|$.

Either way $\log N(x_o)$ takes $|w|^2$ with $w = L^{-1} E[x - m]$, and the sum of the covariances takes one weighted sum
of small inverses, put into their places among all coordinates, and two products: no row needs a matrix of its own.
Blocks of nearly one size are factorised together, the smaller padded by coordinates of variance 1, independent of all
others.

Against factors of the whole matrix of every mask, an E-step of 569 rows of 30 cells, half of them missing, takes a
seventh of the time. It loses digits where a coordinate nearly follows from the others, and then leaves the rows to
:func:`taut.functional.em_sums.of_incomplete_rows`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

FOLLOWS = 1e-6
"""Share of a variance that must be left given all other coordinates: a block then keeps ten of sixteen digits."""
PADDED = 1.25
"""Times a block may be as wide as it has to be."""
CELLS = 2**20
"""Numbers of the blocks that are held at once."""


@dataclass(frozen=True)
class Alike:
    """Masks whose smaller blocks are of nearly one size, and their rows.

    Args:
        rows: The rows of each mask; the number of all rows where a mask has fewer than the others.
        block: The cells of its smaller side, and numbers from d on for what pads them.
        held: Number of observed cells of each mask.
        by_observed: Whether the smaller side is that of the observed cells.
    """

    rows: Int[Tensor, "p n"]
    block: Int[Tensor, "p s"]
    held: Int[Tensor, " p"]
    by_observed: bool


@dataclass(frozen=True)
class Incomplete:
    """Rows with missing cells, sorted once for any number of E-steps.

    Args:
        x: The rows, and a last one without observed cells, which pads.
        alike: The rows by their masks.
    """

    x: Float[Tensor, "m d"]
    alike: list[Alike]

    @classmethod
    def of(cls, rows: Float[Tensor, "n d"]) -> "Incomplete":
        """Sort rows by which of their cells are missing."""
        d, observed = rows.shape[1], ~rows.isnan()
        which = _numbered(observed)
        counts = which.bincount()
        # stable: the rows of a mask keep their order, so that sums over them round alike
        order, starts = which.argsort(stable=True), counts.cumsum(0) - counts
        masks = observed[order[starts]]
        held = masks.sum(1)
        small = torch.minimum(held, d - held)
        many = torch.exp2(counts.double().log2().ceil()).long()  # powers of two, of which there are few
        alike = []
        for by_observed in (True, False):
            own = (2 * held < d) == by_observed
            for size in _sizes(small[own].tolist()):
                wide = own & (small <= size) & (small * PADDED >= size)
                for width in many[wide].unique().tolist():
                    chosen = (wide & (many == width)).nonzero().squeeze(1)
                    for part in chosen.split(max(1, CELLS // max(1, size**2))):
                        places = torch.arange(width, device=rows.device).expand(len(part), -1)
                        inside = places < counts[part].unsqueeze(1)
                        numbers = order[torch.where(inside, starts[part].unsqueeze(1) + places, 0)]
                        block = _cells(masks[part] == by_observed, size)
                        alike.append(Alike(numbers.where(inside, len(rows)), block, held[part], by_observed))
        return cls(torch.cat([rows, rows.new_full((1, d), torch.nan)]), alike)

    def expect(
        self, log_weights: Float[Tensor, "s k"], means: Float[Tensor, "c d"], factors: Float[Tensor, "c d d"]
    ) -> tuple[Float[Tensor, "s n"], dict[str, Tensor]] | None:
        r"""$\log p(x_o)$ in nats, and the sums of r, r w and r w w' with $w = L_c^{-1} (x - m_c)$ in expectation.

        Args:
            log_weights: $\log \pi_c$ of s mixtures, k of the c components each, one mixture after the other.
            means: $m_c$.
            factors: $L_c$, lower-triangular.

        Returns:
            None where a coordinate follows so nearly from the others that digits would be lost.
        """
        step = _Step.of(log_weights, means, factors, max(alike.block.shape[1] for alike in self.alike))
        if step is None:
            return None
        found = self.x.new_empty(len(log_weights), len(self.x))
        for alike in self.alike:
            found[:, alike.rows.flatten()] = step.add(self.x, alike).flatten(1)
        return found[:, :-1], step.sums()


@dataclass
class _Step:
    r"""One E-step: the sums so far.

    Args:
        log_weights: Of each mixture.
        means: $m_c$.
        factors: $L_c$.
        inverse: $L_c^{-1}$.
        precisions: $\Lambda_c$.
        matrices: $\Sigma_c$, by which the observed cells go, and $\Lambda_c$, with the coordinates that pad.
    """

    log_weights: Float[Tensor, "s k"]
    means: Float[Tensor, "c d"]
    factors: Float[Tensor, "c d d"]
    inverse: Float[Tensor, "c d d"]
    precisions: Float[Tensor, "c d d"]
    matrices: dict[bool, Float[Tensor, "c e e"]]

    def __post_init__(self) -> None:
        self.counts, self.first, self.second = self.means.new_zeros(len(self.means)), 0 * self.means, 0 * self.factors
        # what is summed over the rows of either side: r, and r times the inverse of the block
        self.few_seen = self.few_missing = torch.zeros_like(self.factors)
        self.of_few_seen = torch.zeros_like(self.counts)

    @classmethod
    def of(cls, log_weights: Tensor, means: Tensor, factors: Tensor, size: int) -> "_Step | None":
        """Prepare one, if no coordinate nearly follows from the others."""
        inverse = torch.linalg.solve_triangular(factors, torch.eye(means.shape[-1]).to(factors), upper=False)
        covariances, precisions = factors @ factors.mT, inverse.mT @ inverse
        # the variance of a coordinate over that given all others, between which lies every pivot of every block
        ratio = covariances.diagonal(dim1=-2, dim2=-1) * precisions.diagonal(dim1=-2, dim2=-1)
        # `not <=` instead of `>`: a NaN is refused
        if not (ratio <= 1 / FOLLOWS).all():
            return None
        matrices = {True: _padded(covariances, size), False: _padded(precisions, size)}
        return cls(log_weights, means, factors, inverse, precisions, matrices)

    def add(self, x: Float[Tensor, "m d"], alike: Alike) -> Float[Tensor, "s p n"]:
        r"""$\log p(x_o)$ of the rows, whose share of the sums is added."""
        width = self.matrices[True].shape[-1]
        entries = alike.block.unsqueeze(2) * width + alike.block.unsqueeze(1)
        blocks = self.matrices[alike.by_observed].flatten(1)[:, entries]
        lower = torch.linalg.cholesky_ex(blocks).L
        inverse, log_det = torch.cholesky_inverse(lower), lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        w = self._whitened(x, alike, inverse)  # [c, p, n, d]
        if not alike.by_observed:
            log_det = log_det + self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1).unsqueeze(-1)
        constant = log_det + 0.5 * math.log(2 * math.pi) * alike.held.to(log_det)
        table = -0.5 * w.square().sum(-1) - constant.unsqueeze(-1)
        table = table.unflatten(0, self.log_weights.shape) + self.log_weights[..., None, None]
        # the last row of x only pads
        r = table.softmax(1).flatten(0, 1) * (alike.rows < len(x) - 1)
        self._sum(r.flatten(1), w.flatten(1, 2))
        inverses = self._in_place(r.sum(-1)[..., None, None] * inverse, entries, width)
        if alike.by_observed:
            self.few_seen, self.of_few_seen = self.few_seen + inverses, self.of_few_seen + r.sum((1, 2))
        else:
            self.few_missing = self.few_missing + inverses
        return table.logsumexp(1)

    def _whitened(
        self, x: Float[Tensor, "m d"], alike: Alike, inverse: Float[Tensor, "c p s s"]
    ) -> Float[Tensor, "c p n d"]:
        """$L^{-1} E[x - m]$."""
        d, shape = self.means.shape[1], alike.rows.shape
        deviation = (x[alike.rows.flatten()] - self.means.unsqueeze(1)).nan_to_num(0.0, torch.inf, -torch.inf)
        known = deviation if alike.by_observed else deviation @ self.precisions
        # of what pads, a column of zeros behind the last stands for all
        known = pad(known, (0, 1)).unflatten(1, shape)
        cells = alike.block.clamp_max(d).unsqueeze(1).expand(*known.shape[:-1], -1)
        solved = known.gather(-1, cells) @ inverse
        if alike.by_observed:
            placed = torch.zeros_like(known).scatter_(-1, cells, solved)[..., :d].flatten(1, 2)
            return (placed @ self.factors).unflatten(1, shape)
        deviation = pad(deviation, (0, 1)).unflatten(1, shape).scatter_(-1, cells, -solved)[..., :d]
        return (deviation.flatten(1, 2) @ self.inverse.mT).unflatten(1, shape)

    def sums(self) -> dict[str, Tensor]:
        """The sums of r, r w and r w w'."""
        identity = torch.eye(self.means.shape[1]).to(self.means)
        seen = self.of_few_seen[:, None, None] * identity - self.factors.mT @ self.few_seen @ self.factors
        missing = self.inverse @ self.few_missing @ self.inverse.mT
        return {"counts": self.counts, "first": self.first, "second": self.second + seen + missing}

    def _sum(self, r: Float[Tensor, "c r"], w: Float[Tensor, "c r d"]) -> None:
        weighted = r.unsqueeze(-1) * w
        self.counts += r.sum(1)
        self.first += weighted.sum(1)
        self.second += weighted.mT @ w

    def _in_place(
        self, blocks: Float[Tensor, "c p s s"], entries: Int[Tensor, "p s s"], width: int
    ) -> Float[Tensor, "c d d"]:
        """The sum of small matrices, each of whose entries has its place in one of all coordinates."""
        sums = blocks.new_zeros(len(blocks), width * width)
        for total, each in zip(sums, blocks, strict=True):
            # not index_add_, whose sums differ from run to run on a GPU
            total.index_put_((entries.flatten(),), each.flatten(), accumulate=True)
        d = self.means.shape[1]
        return sums.unflatten(1, (width, width))[:, :d, :d]


def _numbered(masks: Bool[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """For each row the number of its mask, from cells as the bits of integers, which sort faster than rows."""
    found = torch.zeros(len(masks), dtype=torch.long, device=masks.device)
    for some in masks.split(32, 1):
        bits = (some.long() << torch.arange(some.shape[1], device=masks.device)).sum(1)
        # what is found so far is a number below that of rows, so that it fits above the bits
        found = (found << 32 | bits).unique(return_inverse=True)[1]
    return found


def _sizes(wanted: list[int]) -> Iterator[int]:
    """Widths of blocks, so that each has one that is at most ``PADDED`` times what it needs."""
    left = set(wanted)
    while left:
        size = max(left)
        yield size
        left = {one for one in left if one * PADDED < size}


def _cells(masks: Bool[Tensor, "p d"], size: int) -> Int[Tensor, "p s"]:
    """The cells of each mask, and numbers from d on for what it lacks."""
    cells = (~masks).byte().argsort(dim=1, stable=True)[:, :size]
    places = torch.arange(size, device=masks.device)
    return cells.where(places < masks.sum(1, keepdim=True), masks.shape[1] + places)


def _padded(matrices: Float[Tensor, "c d d"], size: int) -> Float[Tensor, "c e e"]:
    """With so many more coordinates, of variance 1 and independent of all others."""
    d = matrices.shape[-1]
    padded = torch.eye(d + size).to(matrices).repeat(len(matrices), 1, 1)
    padded[:, :d, :d] = matrices
    return padded
