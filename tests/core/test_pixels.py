"""Densities of our own: the fast way gives torch's numbers."""

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal

from taut.gaussian import Gaussian
from taut.likelihood.bernoulli import Pixels

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


def test_products_that_overflow_are_done_again():
    """Rows whose factors multiply beyond the largest number, beside rows that do not."""
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
    mean, deviation = torch.randn(4, 3, requires_grad=True), (torch.rand(4, 3) + 0.5).requires_grad_()
    ours, theirs = Gaussian.of(mean, deviation), Independent(Normal(mean, deviation), 1)
    z = torch.randn(5, 4, 3)
    torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z), rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad(one.log_prob(z).sum(), (mean, deviation)) for one in (ours, theirs)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)
    assert ours.expand((5, 4)).log_prob(z).shape == (5, 4)
    torch.manual_seed(0)
    first = ours.rsample((2,))
    torch.manual_seed(0)
    torch.testing.assert_close(first, theirs.rsample((2,)))
