"""Densities against scipy, and the contracts that taut has for its own pieces."""

from functools import partial

import torch
from mylab.likelihood import Gumbel
from mylab.prior import Student
from scipy import stats
from torch import nn

from taut.model.networks import MLPDecoder
from taut.testing import check_likelihood, check_prior


class Heads(nn.Module):
    """Two heads that are the first coordinate of z: a decoder whose output is known."""

    def __init__(self, latent: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z[..., :1].expand(*z.shape[:-1], *self.shape)


def test_the_prior_is_students_t():
    p = Student(3, df=4.0)()
    z = p.sample((5, 7))
    assert z.shape == (5, 7, 3)
    expected = stats.t(4).logpdf(z.numpy()).sum(-1)
    torch.testing.assert_close(p.log_prob(z), torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


def test_the_likelihood_is_gumbels_in_the_units_of_the_data():
    likelihood = Gumbel((2,), 1, Heads, min_scale=0.5)
    x = torch.tensor([[0.0, 10.0], [2.0, 50.0]], dtype=torch.float64)  # standard deviations 1 and 20
    likelihood.initialise(x)
    d = likelihood(torch.zeros(3, 2, 1, dtype=torch.float64))
    assert d.log_prob(x).shape == (3, 2)
    expected = stats.gumbel_r([1.0, 30.0], [1.5, 30.0]).logpdf(x.numpy())
    torch.testing.assert_close(d.log_prob(x)[0], torch.from_numpy(expected.sum(-1)), rtol=1e-12, atol=1e-12)
    # of a row with a missing cell the density is that of the other
    holes = torch.tensor([[0.0, torch.nan], [2.0, 50.0]], dtype=torch.float64)
    torch.testing.assert_close(d.log_prob(holes)[0, 0].item(), expected[0, 0], rtol=1e-12, atol=1e-12)


def test_both_keep_their_contracts():
    prior = Student(2)
    check_prior(prior)
    likelihood = Gumbel((3,), 2, partial(MLPDecoder, hidden=[4], activation="tanh"))
    check_likelihood(likelihood, prior().sample((5, 4)))
