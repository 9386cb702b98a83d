"""Many starts in one pass are the starts one by one, and the best that has a maximum is kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pieces import build
from sklearn.datasets import load_wine
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from taut.functional.missing import apply_mask
from taut.model.joint import Joint
from taut.model.likelihood.component import Component, clusters
from taut.objective import restarts
from taut.objective.em import expect
from taut.objective.restarts import Mixture, _best, best_of

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
@pytest.mark.parametrize("covariance", ["full", "diagonal", "spherical", "tied"])
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
    ends = [(-3.0, True), (-1.0, True), (90.0, False)]
    low, high, spike = (Mixture({}, torch.ones(1), mean, bounded, True) for mean, bounded in ends)
    assert _best([low, high, spike, replace(high, mean=0.0, ended=False)]) is high
    assert _best([replace(low, bounded=False), spike]) is spike


def _joint(x: torch.Tensor) -> Joint:
    joint, _, _ = build("model=mog", "model.components=3", x_shape=(3,))
    joint.likelihood.initialise(x)
    return joint


def test_a_start_that_is_behind_and_gains_is_not_dropped():
    """Of these four the one that ends highest is not the highest in the first dozen iterations."""
    torch.manual_seed(6)
    x = _clusters()
    joint = _joint(x)
    best_of(joint, x, range(4), 1e-6)
    assert expect(joint, x)[0].mean().item() > max(_alone(x, seed, "full", 1e-6) for seed in range(1, 4)) + 0.1


def _of_a_large_table(monkeypatch, **settings) -> tuple[torch.Tensor, Joint]:
    monkeypatch.setattr(restarts, "SOME", 300)
    for name, value in settings.items():
        monkeypatch.setattr(restarts, name, value)
    x = _clusters(1200)
    return x, _joint(x)


def test_starts_that_are_dropped_come_back_where_those_they_were_dropped_for_have_no_maximum(monkeypatch):
    # at the floor as soon as one of the four has left the table
    fake = {"_bounded": lambda _, starts: torch.full((starts,), starts == 4), "PATIENCE": 1}
    x, joint = _of_a_large_table(monkeypatch, **fake)
    led, real = [], restarts._led

    def watched(*arguments):
        led.append(real(*arguments))
        return led[-1]

    monkeypatch.setattr(restarts, "_led", watched)
    best_of(joint, x, range(4), 1e-9)
    _, first, again = led
    assert 0 < len(again) == sum(not one.ended for one in first) < 4
    best = max(one.mean for one in first + again if one.ended)
    assert expect(joint, x)[0].mean().item() == pytest.approx(best, abs=1e-9)


def test_of_a_large_table_starts_go_to_their_ends_in_some_rows_first(monkeypatch):
    x, joint = _of_a_large_table(monkeypatch)
    passes, real = [], Component.expect

    def watched(table, rows, weights):
        passes.append((len(rows), len(weights)))
        return real(table, rows, weights)

    monkeypatch.setattr(Component, "expect", watched)
    best_of(joint, x, range(4), 1e-6)
    some, every = ([starts for rows, starts in passes if rows == n] for n in (300, 1200))
    assert (some[0], every[0]) == (4, 3), "one is far behind in the few rows"
    assert sum(every) < sum(some)
    alone = max(_alone(x, seed, "full", 1e-6) for seed in range(4))
    assert expect(joint, x)[0].mean().item() >= alone - 1e-4


def test_a_start_that_some_rows_lead_to_the_floor_begins_anew_in_all(monkeypatch):
    x, joint = _of_a_large_table(monkeypatch)
    given, real = [], restarts._led

    def watched(template, rows, mixtures, *settings):
        given.append(mixtures)
        found = real(template, rows, mixtures, *settings)
        return [replace(one, bounded=i > 1) for i, one in enumerate(found)] if len(rows) == 300 else found

    monkeypatch.setattr(restarts, "_led", watched)
    best_of(joint, x, range(4), 1e-3)
    started, tried = given
    assert [one for one in tried if one in started] == started[:2]


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
