"""Binarisation and dequantisation of grey pixels, with noise that depends on (seed, epoch, row) alone."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from taut.errors import UserError
from taut.functional.seeding import generator

Binarisation = Literal["dynamic", "fixed", "threshold", "none"]

_BLOCK = 1024  # rows drawn at once: bounds memory, and is part of the definition of the noise
_ON_DEVICE = 65536  # the same on a device that is not a CPU
BYTE = 255
"""The largest grey value of a byte, whose pixels are binarised fast."""
EDGE = 2.0**-24
"""What keeps x inside of (0, 1), whose ends single precision would round to: some densities have none there."""


@dataclass(frozen=True)
class Scale:
    r"""A code in which a stored value $v$ stands for the number $x = (v + \text{offset}) / \text{levels}$.

    Pixels stay bytes in memory and become numbers a batch at a time.

    Args:
        levels: The stored value that stands for one.
        offset: Added before the division, 0.5 for the middle of a grey level.
    """

    levels: int = 1
    offset: float = 0.0

    @property
    def count(self) -> int:
        """Number of stored values that stand for numbers from 0 to 1."""
        return round(self.levels + 1 - 2 * self.offset)

    def decode(self, values: Shaped[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """The numbers that stored values stand for: float64 as it is, all else in torch's default dtype.

        In single precision a table with an offset would lose its digits before any model met it.
        """
        # bytes become numbers here, a batch at a time: the whole split would take 4 to 8 times the memory
        numbers = values if values.dtype == torch.float64 else values.to(torch.get_default_dtype())
        return numbers if self == Scale() else (numbers + self.offset) / self.levels


def check_name(binarisation: str) -> None:
    """Raise ``UserError`` unless the word is one of the four binarisations."""
    if binarisation not in get_args(Binarisation):
        words = ", ".join(get_args(Binarisation))
        raise UserError(f"data.binarisation={binarisation} is unknown: choose one of {words}.")


def bernoulli(
    values: Shaped[Tensor, "n *x"], scale: Scale, seed: int, stream: str, epoch: int
) -> UInt8[Tensor, "n *x"]:
    r"""Draw $b \sim \text{Bernoulli}(x)$ for each pixel, as in Salakhutdinov and Murray (2008).

    Row r gets the same noise in whatever batch, and on whatever process, it is met.

    Args:
        values: Stored values; the probability of a one is what ``scale`` decodes them to.
        scale: How values are stored.
        seed: Seed of the noise.
        stream: Name of the split, which separates the noise of the splits.
        epoch: Epoch of the draw.
    """
    bits = torch.empty(values.shape, dtype=torch.uint8)
    for block, start in enumerate(range(0, len(values), _BLOCK)):
        rows = slice(start, start + _BLOCK)
        rng = generator(seed, stream, epoch, block)
        bits[rows] = torch.from_numpy(_draw(rng, values[rows], scale))
    return bits


def bernoulli_on_device(
    values: Shaped[Tensor, "n *x"], scale: Scale, seed: int, stream: str, epoch: int
) -> UInt8[Tensor, "n *x"]:
    """Draw as :func:`bernoulli` does, on the device of the values and by its noise: other bits than a CPU's."""
    key = int(generator(seed, stream, epoch).integers(2**63))
    rng = torch.Generator(values.device).manual_seed(key)
    bits = torch.empty(values.shape, dtype=torch.uint8, device=values.device)
    for part, block in zip(bits.split(_ON_DEVICE), values.split(_ON_DEVICE), strict=True):
        noise = torch.rand(block.shape, generator=rng, device=values.device)
        # into the bits: no second buffer of booleans
        torch.lt(noise, scale.decode(block).to(noise.dtype), out=part)
    return bits


def _draw(rng: np.random.Generator, values: Shaped[Tensor, "n *x"], scale: Scale) -> np.ndarray:
    shape = tuple(values.shape)
    if values.dtype == torch.uint8 and scale.offset == 0:
        # uniform over `levels` integers: P(noise < v) = v / levels exactly, at one byte a pixel
        return _below(rng, scale.levels, shape) < values.numpy()
    return rng.random(shape) < (values.double().numpy() + scale.offset) / scale.levels


def _below(rng: np.random.Generator, levels: int, shape: tuple[int, ...]) -> np.ndarray:
    """Integers from 0 to levels - 1, all equally probable, of which the generator is good for one array."""
    if levels != BYTE:
        return rng.integers(0, levels, shape, dtype=np.uint8)
    # the same numbers in a fifth of the time: of 256 bytes one is thrown away, and the others count from 1
    size, found = math.prod(shape), b""
    while len(found) < size:
        words = rng.bit_generator.random_raw((size - len(found)) * 257 // (8 * BYTE) + 8)
        found += words.astype("<u8", copy=False).tobytes().replace(b"\0", b"")
    return np.frombuffer(found, np.uint8, size).reshape(shape) - 1


def threshold(values: Shaped[Tensor, "n *x"], scale: Scale) -> UInt8[Tensor, "n *x"]:
    """One where a pixel is at least one half (Cremer, Li and Duvenaud 2018 do so with Fashion-MNIST)."""
    # in stored units, where no division rounds and no copy in floats is made
    return (values >= scale.levels / 2 - scale.offset).to(torch.uint8)


def dequantised(values: UInt8[Tensor, "n *x"], count: int, seed: int, stream: str, epoch: int) -> Float[Tensor, "n *x"]:
    r"""Numbers $x = (v + u) / L$ inside of (0, 1), u uniform on [0, 1), in torch's default dtype.

    Their density p bounds the mass P of the level v that it has in all of its cell: for each dimension

    $$E_u[\log p(x)] - \log L \le \log \int_0^1 p((v + u) / L)\, \frac{du}{L} = \log P(v)$$

    (Jensen; Theis, van den Oord & Bethge, 2016). A density of levels as they are bounds nothing: narrow peaks on the
    levels make it as large as one likes. Row r gets the same noise in any batch.

    Args:
        values: Levels v = 0, ..., L - 1.
        count: Their number L.
        seed: Seed of the noise.
        stream: Name of the split, which separates the noise of the splits.
        epoch: Epoch of the draw.
    """
    x = torch.empty(values.shape, dtype=torch.get_default_dtype())
    for block, start in enumerate(range(0, len(values), _BLOCK)):
        rows = slice(start, start + _BLOCK)
        noise = generator(seed, stream, epoch, block).random(tuple(values[rows].shape), dtype=np.float32)
        x[rows] = (torch.from_numpy(noise).add_(values[rows]) / count).clamp_(EDGE, 1 - EDGE)
    return x


def check_pixels(values: Shaped[Tensor, "n *x"], scale: Scale, name: str) -> None:
    """Raise ``UserError`` when a value is no probability, so that it cannot be binarised."""
    # a missing cell is NaN, which would be minimum and maximum at once
    known = values[~values.isnan()] if values.is_floating_point() else values
    for value in (known.min(), known.max()) if len(known) else ():
        x = (value.item() + scale.offset) / scale.levels
        if not 0 <= x <= 1:
            where = torch.nonzero(values.flatten(1) == value)[0].tolist()
            raise UserError(
                f"{name}: row {where[0]}, column {where[1]} holds {x:.7g}, which cannot be binarised: "
                "scale the values to [0, 1], or use data.binarisation=none with a likelihood for real "
                "numbers."
            )
