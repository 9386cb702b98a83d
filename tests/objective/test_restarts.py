"""Many starts in one pass are the starts one by one, and the best that has a maximum is kept."""

import numpy as np
import pytest
import torch
from pieces import build
from sklearn.datasets import load_wine
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from taut.functional.missing import apply_mask
from taut.model.likelihood.component import Component, clusters
from taut.objective.em import _first, best_of, expect

pytestmark = pytest.mark.usefixtures("float64")


def _clusters(n: int = 240, size: int = 3) -> torch.Tensor:
    centres = torch.randn(7, size) * 5
    return centres[torch.randint(7, (n,))] + torch.randn(n, size) * torch.rand(size)


def _alone(x: torch.Tensor, seed: int, covariance: str, tolerance: float) -> float:
    """Mean log p(x) where EM from the clusters of this seed ends."""
    joint, _, em = build("model=mog", "model.components=3", f"likelihood.covariance={covariance}", x_shape=(3,))
    likelihood = joint.likelihood
    likelihood.measure(x)
    inside = likelihood.starting_rows(x)
    likelihood.start(inside, clusters(inside, 3, seed))
    joint.prior.maximise({"counts": likelihood.counts})
    em.tolerance = tolerance
    em.optimizer(joint, joint.parameters(), torch.optim.SGD)
    while not em.converged:
        em.expect(joint, x)
        em.end_of_epoch()
    return expect(joint, x)[0].mean().item()


@pytest.mark.parametrize("share", [0.0, 0.2])
@pytest.mark.parametrize("covariance", ["full", "diagonal", "spherical"])
def test_the_best_of_several_is_the_best_of_each_alone(covariance, share):
    x = _clusters()
    x = apply_mask(x, torch.rand(x.shape) >= share) if share else x
    joint, _, _ = build("model=mog", "model.components=3", f"likelihood.covariance={covariance}", x_shape=(3,))
    joint.likelihood.initialise(x)
    best_of(joint, x, range(4), 1e-9)
    alone = [_alone(x, seed, covariance, 1e-9) for seed in range(4)]
    assert expect(joint, x)[0].mean().item() == pytest.approx(max(alone), abs=1e-5)
    assert max(alone) - min(alone) > 1e-3
    assert joint.likelihood.counts.sum().item() == pytest.approx(len(x))


def test_several_mixtures_of_one_table_have_the_log_px_and_the_sums_of_each():
    x, weights = _clusters(), torch.randn(2, 3).log_softmax(-1)
    both = Component((3,), 6)
    both.initialise(x)
    for rows in (x, apply_mask(x, torch.rand(x.shape) > 0.2)):
        log_px, sums = both.expect(rows, weights)
        for part in range(2):
            own, one = slice(3 * part, 3 * part + 3), Component((3,), 3)
            one.measure(x)
            for name, parameter in one.named_parameters():
                parameter.data.copy_(both.get_parameter(name).detach()[own])
            expected, expected_sums = one.expect(rows, weights[part])
            torch.testing.assert_close(log_px[part], expected, rtol=0, atol=1e-10)
            for name, value in expected_sums.items():
                torch.testing.assert_close(sums[name][own], value, rtol=1e-8, atol=1e-8)


def test_a_start_whose_likelihood_has_no_maximum_is_kept_only_if_all_are_such():
    means = torch.tensor([-3.0, -1.0, 90.0])
    assert _first(means, torch.tensor([True, True, False])) == 1
    assert _first(means, torch.tensor([False, False, False])) == 2


def test_wine_from_five_starts_is_as_good_as_scikit_learn_s():
    x = torch.as_tensor(StandardScaler().fit_transform(load_wine().data))
    ours, theirs = [], []
    for seed in range(3):
        joint, _, _ = build("model=mog", "model.components=3", x_shape=(13,))
        joint.likelihood.initialise(x)
        best_of(joint, x, range(5 * seed, 5 * seed + 5), 1e-6)
        ours.append(expect(joint, x)[0].mean().item())
        theirs.append(GaussianMixture(3, n_init=5, random_state=seed).fit(x.numpy()).score(x.numpy()))
    assert np.median(ours) >= np.median(theirs)


def test_more_clusters_than_distinct_rows_leave_components_empty_and_finite():
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]]).repeat(6, 1)
    joint, _, _ = build("model=mog", "model.components=4", x_shape=(2,))
    joint.likelihood.initialise(x)
    assert all(value.isfinite().all() for value in joint.likelihood.parameters())
    assert joint.likelihood.limits(torch.zeros(1, 4))


def test_rows_beyond_those_that_k_means_looks_at_have_their_nearest_centre(monkeypatch):
    x = torch.cat([torch.randn(150, 2), 20 + torch.randn(150, 2)])
    monkeypatch.setattr("taut.model.likelihood.component.KMEANS_ROWS", 50)
    labels = clusters(x, 2, 0)
    assert len(set(labels[:150].tolist())) == len(set(labels[150:].tolist())) == 1
    assert labels[0] != labels[-1]
