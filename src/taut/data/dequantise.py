r"""Dequantisation of grey levels, with noise that depends on (seed, epoch, row) alone.

A density p of $x = (v + u) / L$, u uniform on [0, 1), bounds the mass P of the level v that it has in all of its cell:

$$E_u[\log p(x)] - \log L \le \log \int_0^1 p((v + u) / L)\, \frac{du}{L} = \log P(v)$$

for each dimension (Jensen; Theis, van den Oord & Bethge, 2016). A density of levels as they are bounds nothing: narrow
peaks on the levels make it as large as one likes.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from taut.functional.seeding import generator

BLOCK = 1024
"""Rows drawn at once: bounds memory, and is part of the definition of the noise."""
EDGE = 2.0**-24
"""What keeps x inside of (0, 1), whose ends single precision would round to: some densities have none there."""


def dequantised(values: UInt8[Tensor, "n *x"], count: int, seed: int, stream: str, epoch: int) -> Float[Tensor, "n *x"]:
    """Numbers $x = (v + u) / L$ inside of (0, 1), in torch's default dtype; row r gets the same u in any batch.

    Args:
        values: Levels v = 0, ..., L - 1.
        count: Their number L.
        seed: Seed of the noise.
        stream: Name of the split, which separates the noise of the splits.
        epoch: Epoch of the draw.
    """
    x = torch.empty(values.shape, dtype=torch.get_default_dtype())
    for block, start in enumerate(range(0, len(values), BLOCK)):
        rows = slice(start, start + BLOCK)
        noise = generator(seed, stream, epoch, block).random(tuple(values[rows].shape), dtype=np.float32)
        x[rows] = (torch.from_numpy(noise).add_(values[rows]) / count).clamp_(EDGE, 1 - EDGE)
    return x
