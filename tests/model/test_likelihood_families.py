"""Likelihoods of independent cells against scipy, enumeration and quadrature, and what they refuse."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from taut.model.likelihood.gaussian import Gaussian
from taut.model.likelihood.laplace import Laplace
from taut.model.likelihood.student_t import StudentT

pytestmark = pytest.mark.usefixtures("float64")
Z = torch.zeros(1, 1, 1)


class Nothing(nn.Module):
    """A decoder whose output is 0, so that the heads are the offset of the likelihood."""

    def __init__(self, latent: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z.new_zeros(*z.shape[:-1], *self.shape)


def made(family, heads, rows=None, **options):
    """A likelihood of one row's width whose heads are these numbers, one list for each head, behind some rows."""
    likelihood = family((len(heads[0]),), 1, Nothing, **options)
    if rows is not None:
        likelihood.initialise(torch.tensor(rows))
    with torch.no_grad():
        likelihood.offset.copy_(torch.tensor(heads).view(likelihood.offset.shape))
    return likelihood


def assert_cells(likelihood, x, expected, mean, std):
    """Densities of the cells one by one, and moments, at the same z."""
    d = likelihood(Z)
    cells = d.base_dist.log_prob(torch.tensor(x))[0, 0]
    torch.testing.assert_close(cells, torch.tensor(expected), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(d.log_prob(torch.tensor([x]))[0, 0], cells.sum(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(d.mean[0, 0], torch.tensor(np.array(mean)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(d.stddev[0, 0], torch.tensor(np.array(std)), rtol=1e-9, atol=1e-9)


ROWS = [[0.0, 10.0], [2.0, 50.0]]
"""Means 1 and 30, standard deviations 1 and 20."""
F, G, H = [0.5, -1.0], [0.3, -0.2], [1.0, -2.0]


def test_laplace_cells_are_scipys_in_the_units_of_the_rows():
    family = stats.laplace(np.array([1.5, 10.0]), np.array([1.0, 20.0]) * (0.25 + np.exp(G)))
    likelihood = made(Laplace, [F, G], ROWS, min_scale=0.25)
    assert_cells(likelihood, [1.7, -40.0], family.logpdf([1.7, -40.0]), family.mean(), family.std())


def test_student_t_cells_are_scipys_in_the_units_of_the_rows():
    scale = np.array([1.0, 20.0]) * (0.25 + np.exp(G))
    family = stats.t(3 + np.log1p(np.exp(H)), np.array([1.5, 10.0]), scale)
    likelihood = made(StudentT, [F, G, H], ROWS, min_scale=0.25)
    assert_cells(likelihood, [1.7, -400.0], family.logpdf([1.7, -400.0]), family.mean(), family.std())


def test_gaussian_cells_have_one_sigma_for_each_column():
    likelihood = made(Gaussian, [F], ROWS, shared="columns", min_variance=0.25)
    with torch.no_grad():
        likelihood.log_variance.copy_(torch.tensor(G))
    family = stats.norm([1.5, 10.0], np.array([1.0, 20.0]) * np.sqrt(0.25 + np.exp(G)))
    assert_cells(likelihood, [1.7, -40.0], family.logpdf([1.7, -40.0]), family.mean(), family.std())


def test_caps_and_floors_of_a_scale_say_where_they_bind():
    likelihood = made(Laplace, [[0.0] * 3, [15.0, -9.0, 0.0]], [[0.0, 1.0, 3.0], [1.0, 2.0, 3.0]])
    assert likelihood.limits(Z) == [
        "1 of 3 columns have one value in all training rows, so they have no unit of their own: theirs is 1, and log "
        "p(x) depends on it; leave them out.",
        "the log-scale of 1 of 3 columns is at its cap of 15 (in units of their standard deviation) for some data, "
        "where log p(x) depends on the cap.",
        "the scale of 1 of 3 columns is mostly the floor likelihood.min_scale=0.01 (of their standard deviation), so "
        "log p(x) depends on the floor.",
    ]
