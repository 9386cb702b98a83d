"""The matrix products that the work cannot do without, alone, in float32 and into buffers that are there already."""

import torch
from torch import Tensor

from benchmarks import work
from benchmarks.worker import Clock

Product = tuple[Tensor, Tensor, Tensor]


def training_products(k: int, batch: int = work.BATCH) -> list[Product]:
    """Factors and result of every product of one step: forward, by the weights, and by all inputs but the data."""
    encoder, decoder = work.layers()
    found = []
    for n, shapes in ((batch, encoder), (batch * k, decoder)):
        for i, o in shapes:
            h, weight, gradient = torch.randn(n, i), torch.randn(o, i), torch.randn(n, o)
            found += [(h, weight.mT), (gradient.mT, h)]
            if i != work.PIXELS:
                found.append((gradient, weight))
    return [_with_result(*factors) for factors in found]


def evaluation_products(k: int) -> list[Product]:
    """Factors and result of every product of one image with k draws."""
    encoder, decoder = work.layers()
    rows = [(1, shape) for shape in encoder] + [(k, shape) for shape in decoder]
    return [_with_result(torch.randn(n, i), torch.randn(o, i).mT) for n, (i, o) in rows]


def flops(products: list[Product]) -> int:
    """Multiplications and additions."""
    return sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for a, b, _ in products)


def train(clock: Clock, k: int) -> None:
    _repeat(clock, training_products(k))


def evaluate(clock: Clock, k: int) -> None:
    _repeat(clock, evaluation_products(k))


def _repeat(clock: Clock, products: list[Product]) -> None:
    clock.tick(0)
    while True:
        for a, b, result in products:
            torch.mm(a, b, out=result)
        clock.tick()


def _with_result(a: Tensor, b: Tensor) -> Product:
    return a, b, torch.empty(a.shape[0], b.shape[1])
