r"""The E-step of Gaussians as two matrix products, by their natural parameters (Wainwright & Jordan, 2008, section 3).

With $f(x) = [1, x_i, x_i x_j]_{i \le j}$, or $[1, x_i, x_i^2]$ without correlations, and $P_c = \Sigma_c^{-1}$:

- $\log \pi_c N(x; m_c, \Sigma_c) = \eta_c \cdot f(x)$ with $\eta_c = [\log \pi_c - \frac12 (D \log 2 \pi + \log
  |\Sigma_c| + m_c^\top P_c m_c),\; P_c m_c,\; -\frac12 P_{c,ii},\; -P_{c,ij}]$, one product for all x and c;
- the sums that an M-step needs are $\sum_n r_{nc} f(x_n)$, another one.

Features lie transposed, ``[F, rows]``, a stretch of rows at a time that stays in the cache, so memory is flat in N.
Everything is in float64, because $\eta \cdot f$ cancels: x should be relative to the middle of the data, and where the
rounding could still be felt, the component is scored by differences from its mean.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from math import log, pi

import torch
from jaxtyping import Bool, Float
from torch import Tensor

STRETCH = 2**19
"""Numbers of a stretch: 4 MiB of features and densities, of which each is met twice."""
LARGEST = 64
"""Coordinates beyond which D (D + 1) / 2 products cost more than they save."""
ROUNDING = 1e-8
"""Nats a log-density may be off."""


def pays(size: int, full: bool) -> bool:
    """Whether this way is worth it for x of so many coordinates."""
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
        one = torch.eye(self.means.shape[-1]).to(self.means)
        return torch.linalg.solve_triangular(self.scale_tril, one.expand_as(self.scale_tril), upper=False)

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

    @cached_property
    def _magnitude(self) -> Float[Tensor, "c d d"]:
        """What the entries of P are sums of, without the signs."""
        return self.inverse.abs().mT @ self.inverse.abs()

    def rounding(self, reach: Float[Tensor, " d"]) -> Float[Tensor, " c"]:
        r"""How much $\eta_c \cdot f(x)$ may be off in nats, for $|x_i| \le$ ``reach``.

        $2 \epsilon (r + |m|)^\top |L^{-1}|^\top |L^{-1}| (r + |m|)$, four roundings of the sum of all terms without
        their signs, each at its largest: no partial sum is larger, and the roundings of many terms mostly cancel
        (Higham & Mary, 2019).
        """
        reach = reach + self.means.abs()
        worst = torch.einsum("ci,cij,cj->c", reach, self._magnitude, reach)
        return 2 * torch.finfo(worst.dtype).eps * worst

    def prepare(self) -> None:
        """Compute what is kept, before threads share it."""
        _ = self.natural, self._magnitude

    def log_densities(self, x: Float[Tensor, "b d"], which: Bool[Tensor, " c"]) -> Float[Tensor, "m b"]:
        r"""$\log \pi_c N(x)$ of some of them, by $|L^{-1} (x - m)|^2$, which does not cancel."""
        inverse = self.inverse[which]
        whitened = (x - self.means[which].unsqueeze(1)) @ inverse.mT
        log_det = inverse.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = self.log_weights[which] + log_det - 0.5 * x.shape[1] * log(2 * pi)
        return constant.unsqueeze(-1) - 0.5 * whitened.square().sum(-1)


def expect(
    gaussians: Gaussians, x: Float[Tensor, "n d"], stretch: int = STRETCH
) -> tuple[Float[Tensor, " n"], Float[Tensor, "c f"]]:
    r"""$\log p(x)$ in nats, and $\sum_n p(c \mid x_n) f(x_n)$.

    Each of torch's threads goes through a part of the rows on its own: they meet once, not in every small operation,
    which on a machine with other work to do costs more than it saves.

    Args:
        gaussians: The mixture.
        x: Data without holes, float64.
        stretch: How many numbers to hold at once, in each thread.
    """
    gaussians.prepare()
    rows = max(1, stretch // sum(gaussians.natural.shape))
    threads = torch.get_num_threads()
    if threads == 1 or len(x) <= rows or x.device.type != "cpu":
        return _expect(gaussians, x, rows)
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        parts = list(pool.map(lambda part: _expect(gaussians, part, rows), x.tensor_split(min(threads, len(x)))))
    torch.set_num_threads(threads)  # for threads to come: what one of them sets is the default of the next
    return torch.cat([log_px for log_px, _ in parts]), torch.stack([sums for _, sums in parts]).sum(0)


def _expect(gaussians: Gaussians, x: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    natural = gaussians.natural
    count, width = natural.shape
    buffer = natural.new_empty(width + count, min(len(x), rows))
    sums, log_px = torch.zeros_like(natural), x.new_empty(len(x))
    for part, out in zip(x.split(rows), log_px.split(rows), strict=True):
        features, table = buffer[:width, : len(part)], buffer[width:, : len(part)]
        fill(features, part, gaussians.full)
        torch.mm(natural, features, out=table)
        rough = gaussians.rounding(part.abs().amax(0)) > ROUNDING
        if rough.any():
            table[rough] = gaussians.log_densities(part, rough)
        largest = table.amax(0)
        total = table.sub_(largest).exp_().sum(0)
        out.copy_(total.log().add_(largest))
        sums.addmm_(table.mul_(total.reciprocal_()), features.mT)
    return log_px, sums


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


def unpacked(sums: Float[Tensor, "c f"], size: int, full: bool) -> dict[str, Tensor]:
    r"""The sums of r, r x and r x x' (its diagonal alone without correlations) among those of f."""
    second = sums.new_zeros(len(sums), size, size)
    i, j = pairs(size, full)
    second[:, i, j] = second[:, j, i] = sums[:, size + 1 :]
    return {"counts": sums[:, 0], "first": sums[:, 1 : size + 1], "second": second}
