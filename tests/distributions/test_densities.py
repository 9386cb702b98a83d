"""Densities of our own: the fast way gives torch's numbers."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal

from taut.distributions.bernoulli import Pixels, log_product
from taut.distributions.gaussian import Gaussian

pytestmark = pytest.mark.usefixtures("float64")


def _both(logits: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    offset = torch.randn(x.shape[1:], dtype=x.dtype)
    with torch.no_grad():
        slow = Independent(Bernoulli(logits=logits + offset), offset.dim()).log_prob(x)
        return Pixels(logits, offset).log_prob(x), slow


@pytest.mark.parametrize("shape", [(1,), (7,), (64,), (1, 28, 28), (3, 5, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_folded_pixels_are_torchs(shape, dtype):
    x = torch.randint(2, (4, *shape)).to(dtype)
    fast, slow = _both(3 * torch.randn(6, 4, *shape, dtype=dtype), x)
    assert fast.shape == (6, 4)
    torch.testing.assert_close(fast, slow, rtol=1e-12 if dtype == torch.float64 else 1e-5, atol=1e-5)


def _layer(k: int, shape: tuple[int, ...], scale: float = 1.0) -> tuple[Pixels, Independent]:
    """Pixels that hold their last layer back, and the same of torch."""
    features, weight = scale * torch.randn(k, 4, 6), torch.randn(math.prod(shape), 6)
    offset = torch.randn(shape)
    logits = (features @ weight.mT).unflatten(-1, shape) + offset
    return Pixels(features, offset, weight), Independent(Bernoulli(logits=logits), len(shape))


@pytest.mark.parametrize("shape", [(4,), (7,), (70,), (2, 5, 8)])
@pytest.mark.parametrize("k", [5, 6, 40])
@torch.no_grad()
def test_a_layer_held_back_gives_torchs_numbers(shape, k):
    """With more and with fewer draws than the layer has inputs; one datum alone gets what it got in company."""
    pixels, slow = _layer(k, shape)
    x = torch.randint(2, (4, *shape)).double()
    together = pixels.log_prob(x)
    torch.testing.assert_close(together, slow.log_prob(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pixels.log_prob(x[0]), slow.log_prob(x[0]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pixels.mean, slow.mean, rtol=1e-12, atol=1e-12)
    assert pixels.source.shape == (k, 4, 6)
    alone = Pixels(pixels.source[:, 2:3], pixels.offset, pixels.weight).log_prob(x[2:3])
    torch.testing.assert_close(alone, together[:, 2:3], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [5, 40])
@torch.no_grad()
def test_pixels_that_were_not_observed_add_nothing(k):
    pixels, slow = _layer(k, (70,))
    x = torch.randint(2, (4, 70)).double()
    holes = torch.rand(4, 70) < 0.4
    holes[1], holes[2] = True, False
    each = slow.base_dist.log_prob(x)
    expected = each.masked_fill(holes, 0.0).sum(-1)
    torch.testing.assert_close(pixels.log_prob(x.masked_fill(holes, torch.nan)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [5, 40])
@torch.no_grad()
def test_a_layer_held_back_survives_products_too_small_for_a_number(k):
    pixels, slow = _layer(k, (70,), 100.0)
    x = torch.randint(2, (4, 70)).double()
    found = pixels.log_prob(x)
    assert found.min() < 70 * math.log(torch.finfo(x.dtype).tiny) / 32, "some product is too small"
    torch.testing.assert_close(found, slow.log_prob(x), rtol=1e-12, atol=1e-12)


def test_a_product_that_has_lost_digits_is_none():
    """Below the smallest normal number the digits run out before the number does."""
    p = torch.full((2, 32), 0.5).float()
    p[1] = 1e-42 ** (1 / 32)
    assert log_product(p.clone())[0].item() == pytest.approx(32 * math.log(0.5), rel=1e-6)
    assert log_product(p.clone())[1].item() == -math.inf


def test_products_that_underflow_are_done_again():
    """Rows whose factors multiply below the smallest number, beside rows that do not."""
    logits = torch.randn(3, 2, 64).float()
    logits[1] *= 300
    x = torch.randint(2, (2, 64)).float()
    fast, slow = _both(logits, x)
    assert fast.isfinite().all()
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-4)


def test_scoring_leaves_the_logits_alone_and_keeps_the_graph_where_there_is_one():
    logits, x = torch.randn(5, 2, 8, requires_grad=True), torch.randint(2, (2, 8)).double()
    before, offset = logits.detach().clone(), torch.zeros(8)
    with torch.no_grad():
        Pixels(logits, offset).log_prob(x)
    Pixels(logits, offset).log_prob(x).sum().backward()
    assert torch.equal(logits.detach(), before)
    torch.testing.assert_close(logits.grad, (x - logits.detach().sigmoid()))


def test_a_gaussian_has_torchs_density_draws_and_gradient():
    mean, std = torch.randn(4, 3, requires_grad=True), (torch.rand(4, 3) + 0.5).requires_grad_()
    ours, theirs = Gaussian.of(mean, std), Independent(Normal(mean, std), 1)
    z = torch.randn(5, 4, 3)
    torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z), rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad(one.log_prob(z).sum(), (mean, std)) for one in (ours, theirs)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)
    assert ours.expand((5, 4)).log_prob(z).shape == (5, 4)
    torch.manual_seed(0)
    first = ours.rsample((2,))
    torch.manual_seed(0)
    torch.testing.assert_close(first, theirs.rsample((2,)))
    for shape in ((), (7,), (2, 30)):
        torch.manual_seed(1)
        drawn = ours.sample(shape)
        torch.manual_seed(1)
        torch.testing.assert_close(drawn, theirs.sample(shape), rtol=1e-14, atol=1e-14)
        assert not drawn.requires_grad


def test_the_way_that_looks_at_nothing_gives_the_same():
    """What a GPU takes, tried on the CPU: in double precision, with grey pixels and holes."""
    source, weight, offset = torch.randn(4, 3, 9), torch.randn(70, 9), torch.randn(70)
    x = torch.rand(3, 70)
    x[:2] = x[:2].round()
    x[0, :5] = torch.nan
    pixels = Pixels(source, offset, weight)
    cells = Bernoulli(logits=source @ weight.mT + offset, validate_args=False).log_prob(x.nan_to_num(0.0))
    truth = torch.where(x.isnan(), 0.0, cells).sum(-1)
    torch.testing.assert_close(pixels._unseen(x), truth, rtol=1e-13, atol=1e-12)
