"""Densities of z in double precision.

A q that has become narrow where its mean is large cannot be scored in single precision: at |z| = 13 neighbouring
float32 numbers lie 1e-6 apart, so $(z - m) / s$ of a scale s = 3e-7 is rounded to 0 or to 3, and the density is that of
another z. A lower bound made of such densities has no limit, and training finds it. So z is formed, and scored under
p(z) and q(z | x), in float64, whatever the precision of the networks, whose outputs define both.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    TransformedDistribution,
)
from torch.distributions.transforms import Transform, _InverseTransform

from taut.errors import RunError

FOLLOWED: tuple[Any, ...] = (torch.backends, torch.backends.cudnn)
"""What has an ``fp32_precision`` that holds for its parts where theirs is none."""
PRECISIONS: tuple[Any, ...] = (
    *FOLLOWED,
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn,  # type: ignore[attr-defined]
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
    torch.backends.mkldnn.rnn,  # type: ignore[attr-defined]
)


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """IEEE arithmetic inside, the same each time, whatever TF32 or autocast settings rule outside; no graph."""
    matmul = _matmul_precision()
    cudnn: Any = torch.backends.cudnn
    choice = cudnn.deterministic, cudnn.benchmark
    # benchmark chooses an algorithm by its time, which differs from run to run
    cudnn.deterministic, cudnn.benchmark = True, False
    before = []
    for part in PRECISIONS:
        before.append(part.fp32_precision)
        if before[-1] not in ("ieee", "none"):
            part.fp32_precision = "none" if part in FOLLOWED else "ieee"
    if matmul != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        # first, because it sets the newer settings of matrix products as well
        if matmul not in (None, "highest"):
            torch.set_float32_matmul_precision(matmul)
        for part, precision in zip(PRECISIONS, before, strict=True):
            if part.fp32_precision != precision:
                part.fp32_precision = precision
        cudnn.deterministic, cudnn.benchmark = choice


def _matmul_precision() -> str | None:
    """The setting of ``torch.set_float32_matmul_precision``; ``None`` where the newer settings contradict it."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


T = TypeVar("T")

FINE = 2.0**10
"""Roundings of z that the scale of q must be worth, for its density to be right to about a thousandth."""


class DoubleBuffers(nn.Module):
    """A module whose buffers in float64 stay in float64, whatever dtype it is moved to.

    They hold what parameters are relative to, the middle and the unit of a column: in float32 an offset of the data
    would be lost with them. Sharded training moves a whole model to float32.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        kept = {name: buffer for name, buffer in self._buffers.items() if _is_double(buffer)}
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            moved = self._buffers[name]
            assert moved is not None
            self._buffers[name] = buffer.to(moved.device)
        return self


def _is_double(buffer: Tensor | None) -> TypeGuard[Tensor]:
    return buffer is not None and buffer.dtype == torch.float64


def in_double(distribution: T) -> T:
    """A copy of a distribution with the very numbers of its parameters in float64; gradients still reach them.

    Every tensor that the distribution, its parts and its transforms hold is converted, so this serves any distribution
    that is made of tensors.
    """
    if isinstance(distribution, Tensor):
        return distribution.double() if distribution.is_floating_point() else distribution  # type: ignore[return-value]
    if isinstance(distribution, (Distribution, Transform)):
        twin = object.__new__(type(distribution))  # copy.copy takes ten times as long, once in every training step
        twin.__dict__ = {name: in_double(part) for name, part in vars(distribution).items() if name != "_inv"}
        if isinstance(distribution, Transform):  # which leads to its inverse, and that back again
            inverse = isinstance(distribution, _InverseTransform)
            setattr(twin, "_inv", in_double(distribution._inv) if inverse else None)  # noqa: B010
        return twin
    # no subclasses: a named tuple is not made from one iterable
    if type(distribution) in (list, tuple):
        return type(distribution)(in_double(part) for part in distribution)  # type: ignore[call-arg, attr-defined]
    return distribution


def refuse_degenerate(q: Distribution, where: str) -> None:
    """Refuse a Gaussian, or another q of a location and a scale, whose scale is lost in the rounding of its draws.

    Args:
        q: $q(z | x)$, in float64.
        where: What it is, for the message.

    Raises:
        RunError: If a scale is below ``FINE`` roundings of z.
    """
    while isinstance(q, (Independent, TransformedDistribution)):
        q = q.base_dist
    if isinstance(q, MultivariateNormal):
        scale, size = q.scale_tril.diagonal(dim1=-2, dim2=-1), q.mean.abs() + q.stddev
    elif isinstance(q, LowRankMultivariateNormal):
        scale, size = q.cov_diag.sqrt(), q.mean.abs() + q.stddev
    elif isinstance(getattr(q, "loc", None), Tensor) and isinstance(getattr(q, "scale", None), Tensor):
        scale, size = q.scale, q.loc.abs()  # pyright: ignore[reportAttributeAccessIssue]
    else:
        return
    least = FINE * torch.finfo(size.dtype).eps * size
    if bool((scale <= least).any()):
        at = (scale <= least).nonzero()[0].unbind()
        raise RunError(
            f"{where} is degenerate: its scale {scale[at].item():.2g} is lost in the rounding of a z of about "
            f"{size[at].item():.2g}, so it has no density that could be trusted; train again with a lower "
            "optimizer.lr, or give a q of your own in float64."
        )
