"""The E-step over rows with missing cells: the sums that factors of every mask give, by rows and by brute force."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from taut.functional.incomplete import Incomplete

pytestmark = pytest.mark.usefixtures("float64")


def _gaussians(d, count):
    mixing = torch.eye(d) + torch.randn(count, d, d) / (2 * d**0.5)
    return torch.randn(count, d), torch.linalg.cholesky(mixing @ mixing.mT)


def _by_rows(x, log_weights, means, factors):
    """One row, one mixture and one component after the other, from Bishop (2006), section 2.3.1."""
    covariances = factors @ factors.mT
    log_px, r = x.new_empty(len(log_weights), len(x)), x.new_empty(len(x), *log_weights.shape)
    mean, within = x.new_zeros(len(x), *means.shape), x.new_zeros(len(x), *factors.shape)
    for i, row in enumerate(x):
        o = (~row.isnan()).nonzero().squeeze(1)
        h = row.isnan().nonzero().squeeze(1)
        scores = torch.zeros(len(means))
        for c, (m, s) in enumerate(zip(means, covariances, strict=True)):
            if len(o):
                scores[c] = MultivariateNormal(m[o], s[o][:, o]).log_prob(row[o])
            pull = s[h][:, o] @ torch.linalg.inv(s[o][:, o])
            mean[i, c, o], mean[i, c, h] = row[o], m[h] + pull @ (row[o] - m[o])
            within[i, c, h.unsqueeze(1), h] = s[h][:, h] - pull @ s[o][:, h]
        joint = scores.view(log_weights.shape) + log_weights
        log_px[:, i], r[i] = joint.logsumexp(-1), joint.softmax(-1)
    r, inverse = r.flatten(1), torch.linalg.inv(factors)
    w = torch.einsum("cij,ncj->nci", inverse, mean - means)
    second = torch.einsum("nc,nci,ncj->cij", r, w, w)
    second += inverse @ torch.einsum("nc,ncij->cij", r, within) @ inverse.mT
    return log_px, {"counts": r.sum(0), "first": torch.einsum("nc,nci->ci", r, w), "second": second}


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("d", [1, 5, 40])
def test_the_sums_are_those_of_every_row_by_itself(d, rate):
    """Rows alone with their mask, rows that share one, complete and empty ones; 40 cells do not fit one integer."""
    x = 2 * torch.randn(30, d)
    x[torch.rand(30, d) < rate] = torch.nan
    x[3:10] = torch.where(x[2].isnan(), torch.nan, torch.randn(7, d))
    x[10], x[11:13], x[13] = torch.nan, torch.randn(2, d), torch.nan
    log_weights = torch.randn(2, 3).log_softmax(-1)
    gaussians = _gaussians(d, 6)
    found = Incomplete.of(x).expect(log_weights, *gaussians)
    expected = _by_rows(x, log_weights, *gaussians)
    assert found is not None
    torch.testing.assert_close(found[0], expected[0], rtol=1e-9, atol=1e-9)
    for name, value in expected[1].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-9, atol=1e-8, msg=name)


def test_masks_are_found_once_and_factorised_once_for_all_their_rows():
    x = torch.randn(1000, 6)
    x[:600, 0] = x[600:, 3] = x[600:, 4] = x[600:, 5] = x[600:, 0] = torch.nan
    few = Incomplete.of(x)
    assert sorted((tuple(one.block.shape), one.by_observed) for one in few.alike) == [((1, 1), False), ((1, 2), True)]
    assert sum(int((one.rows < 1000).sum()) for one in few.alike) == 1000


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_where_a_coordinate_nearly_follows_from_the_others_nothing_is_answered(ratio):
    """The share of a variance that is left given all others, below 1e-6 and above it."""
    left = 1e-6 * ratio
    covariance = torch.tensor([[1.0, math.sqrt(1 - left)], [math.sqrt(1 - left), 1.0]])
    x = torch.tensor([[0.5, torch.nan], [0.1, 0.2]])
    # units of a coordinate change nothing
    factor = torch.linalg.cholesky(covariance) * torch.tensor([[1e-4], [1e3]])
    found = Incomplete.of(x).expect(torch.zeros(1, 1), torch.zeros(1, 2), factor.unsqueeze(0))
    assert (found is None) == (ratio < 1)
