"""Scores of single data: exact where they can be, the same in any company, and honest about their own noise."""

import pytest
import torch
from budget import assert_mean, assert_not_above
from pieces import X, build

from taut.evidence.score import sample, score
from taut.functional.precision import exact_arithmetic
from taut.functional.sampling import BLOCK_SIZE
from taut.model import exact_inference

pytestmark = pytest.mark.usefixtures("float64")


def _score(joint, q, objective, x, index=None, k=1, samples=8, seed=0):
    index = torch.arange(len(x)) if index is None else index
    return score(joint, q, x, index, bound=objective.bound, k=k, samples=samples, seed=seed, split="val")


def _images(n: int) -> torch.Tensor:
    return torch.randint(2, (n, *X)).double()


def test_scores_are_those_of_the_log_weights():
    joint, q, objective = build("objective=iwae")
    x = _images(3)
    drawn = sample(joint, q, x, torch.arange(3), 6, seed=0, split="val")
    scores = _score(joint, q, objective, x, k=2, samples=6).values
    w = drawn.log_w.exp()
    torch.testing.assert_close(scores["elbo"], w.log().mean(0))
    torch.testing.assert_close(scores["log_px"], w.mean(0).log())
    torch.testing.assert_close(scores["bound"], w.view(3, 2, 3).mean(1).log().mean(0))
    torch.testing.assert_close(scores["elbo"], scores["reconstruction"] - scores["kl"])
    torch.testing.assert_close(scores["gap"], scores["log_px"] - scores["elbo"])
    torch.testing.assert_close(scores["ess"], w.sum(0) ** 2 / (w**2).sum(0))


def test_the_elbo_objective_is_scored_as_a_mean_over_its_k_draws():
    joint, q, objective = build()
    scores = _score(joint, q, objective, _images(3), k=4, samples=8).values
    torch.testing.assert_close(scores["bound"], scores["elbo"])


def test_order_holds_for_every_datum_not_only_on_average():
    joint, q, objective = build("objective=iwae")
    scores = _score(joint, q, objective, _images(20), k=5, samples=20)
    assert (scores.values["elbo"] <= scores.values["bound"] + 1e-12).all()
    assert (scores.values["bound"] <= scores.values["log_px"] + 1e-12).all()
    assert (scores.curve[[0, 1, 3]].diff(dim=0) >= -1e-12).all()  # 1, 2, 10: each tiles the next


@pytest.mark.parametrize("samples", [5, BLOCK_SIZE + 3])
def test_a_datum_scores_the_same_alone_in_any_batch_and_in_any_chunk(samples):
    joint, q, _ = build()
    x, index = _images(7), torch.tensor([4, 9, 0, 11, 2, 6, 30])
    together = sample(joint, q, x, index, samples, seed=3, split="val").log_w
    for chunk_size in (1, 64, 100_000):
        chunked = sample(joint, q, x, index, samples, seed=3, split="val", chunk_size=chunk_size).log_w
        torch.testing.assert_close(chunked, together, rtol=1e-12, atol=1e-12)
    for i in (0, 3, 6):
        alone = sample(joint, q, x[i : i + 1], index[i : i + 1], samples, seed=3, split="val").log_w
        torch.testing.assert_close(alone[:, 0], together[:, i], rtol=1e-12, atol=1e-12)


def test_no_two_data_blocks_splits_or_seeds_share_noise():
    joint, q, _ = build("q=prior")
    x = _images(1).expand(3, *X)

    def pz(**changes):
        settings = {"seed": 0, "split": "val"} | changes
        return sample(joint, q, x, torch.arange(3), 2 * BLOCK_SIZE, **settings).log_pz

    base = pz()
    drawn = torch.cat([base.flatten(), pz(seed=1).flatten(), pz(split="test").flatten()])
    assert len(drawn.unique()) == len(drawn)


def test_scoring_leaves_generator_precision_and_graph_alone():
    joint, q, objective = build()
    x = _images(2)
    torch.set_float32_matmul_precision("medium")
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    scores = _score(joint, q, objective, x)
    assert torch.equal(torch.randn(3), expected)
    assert torch.get_float32_matmul_precision() == "medium"
    torch.set_float32_matmul_precision("highest")
    assert not scores.values["elbo"].requires_grad


def test_autocast_and_tf32_of_the_caller_change_nothing():
    joint, q, objective = build()
    joint.float(), q.float()
    x = _images(4).float()
    quiet = _score(joint, q, objective, x).values["elbo"]
    torch.set_float32_matmul_precision("medium")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loud = _score(joint, q, objective, x).values["elbo"]
    torch.set_float32_matmul_precision("highest")
    assert torch.equal(quiet, loud)
    with exact_arithmetic(torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=ppca", "q=diagonal"],
        ["model=ppca", "q=full", "prior=mixture", "prior.components=2"],
        ["model=ppca", "q=prior"],
        ["model=mog", "model.components=4", "q=categorical"],
        ["model=mog", "model.components=4", "q=uniform"],
    ],
    ids=" ".join,
)
def test_weights_average_to_the_exact_evidence_and_bounds_stay_below(overrides):
    """E[w] = p(x) for any q; the log is below on average. One datum, many rows of independent noise."""
    joint, q, objective = build(*overrides, "latent_dim=1", x_shape=(1,))
    x = torch.randn(1, 1)
    log_px = exact_inference.log_marginal(joint, x)
    many = x.expand(2000, 1)
    drawn = sample(joint, q, many, torch.arange(2000), 16, seed=0, split="val")
    assert_mean((drawn.log_w - log_px).exp().mean(0).detach(), 1.0, detects=0.6)
    scores = _score(joint, q, objective, many, samples=16)
    assert_not_above(scores.values["elbo"], log_px.item())
    assert scores.values["log_px"].allclose(log_px)


def test_with_the_posterior_as_q_there_is_no_gap_and_no_noise():
    joint, q, objective = build("model=mog", "model.components=4")
    scores = _score(joint, q, objective, torch.randn(5, *X), samples=10)
    assert scores.values["gap"].abs().max() < 1e-9
    assert scores.values["ess"].sub(10).abs().max() < 1e-9
    assert scores.noise["elbo"].max() < 1e-20


def test_stated_monte_carlo_error_is_the_spread_of_repetitions():
    joint, q, objective = build("latent_dim=1")
    x = _images(1).expand(1500, *X)
    scores = _score(joint, q, objective, x, samples=64)
    for name in ("elbo", "kl", "reconstruction", "log_px", "gap"):
        stated, seen = scores.noise[name].mean().sqrt(), scores.values[name].std()
        assert stated / seen == pytest.approx(1, abs=0.15), name


def test_mean_of_z_is_the_posterior_mean_or_its_estimate():
    joint, q, objective = build("model=mog", "model.components=4", "q=categorical")
    x = torch.randn(5, *X)
    torch.testing.assert_close(_score(joint, q, objective, x).mean_z, q(x).probs)
    joint, q, objective = build("prior=uniform", "latent_dim=2")
    mean = _score(joint, q, objective, _images(3), samples=4000).mean_z
    assert mean.shape == (3, 2)
    assert mean.abs().max() < 3


def _mixture(*words: str):
    return build("model=mog", "model.components=3", *words, x_shape=(2,))


def test_under_the_exact_posterior_of_a_discrete_z_scores_are_sums_over_z():
    """By Bayes' rule from densities alone; a component without weight adds nothing."""
    joint, q, objective = _mixture()
    joint.prior.logits.data = torch.tensor([0.3, -1.0, -torch.inf])
    x = torch.randn(20, 2)
    scores = _score(joint, q, objective, x, k=2, samples=10)
    component = joint.likelihood(torch.eye(3).unsqueeze(1))
    joints = joint.prior.logits.softmax(0).unsqueeze(-1) * component.log_prob(x).exp()
    posterior = joints / joints.sum(0)
    kl = torch.special.xlogy(posterior, posterior / joint.prior.logits.softmax(0).unsqueeze(-1))[:2].sum(0)
    values = scores.values
    torch.testing.assert_close(values["log_px"], joints.sum(0).log())
    torch.testing.assert_close(values["kl"], kl)
    torch.testing.assert_close(values["reconstruction"], joints.sum(0).log() + kl)
    torch.testing.assert_close(scores.mean_z, posterior.mT)
    assert values["gap"].abs().max() < 1e-12
    assert (values["ess"] == 10).all()
    for name in ("elbo", "bound"):
        torch.testing.assert_close(values[name], values["log_px"])
    torch.testing.assert_close(scores.curve, values["log_px"].expand(len(scores.curve), -1))
    assert {name for name, noise in scores.noise.items() if not noise.any()} == values.keys() - {"ess"}


def test_sums_over_z_are_what_draws_estimate():
    joint, q, objective = _mixture()
    x, k = torch.randn(4, 2), 4000
    drawn, exact = sample(joint, q, x, torch.arange(4), k, seed=0, split="val"), _score(joint, q, objective, x).values
    for name, draws in (("kl", drawn.log_qz - drawn.log_pz), ("reconstruction", drawn.log_px)):
        assert_mean(draws.detach(), exact[name].detach(), detects=0.5)


def test_a_posterior_that_is_not_the_models_shows_its_gap(monkeypatch):
    joint, q, objective = _mixture()
    x = torch.randn(5, 2)
    other = exact_inference.posterior(joint, x + 1)
    monkeypatch.setattr(q, "forward", lambda x: other)
    divergence = torch.distributions.kl_divergence(other, exact_inference.posterior(joint, x))
    torch.testing.assert_close(_score(joint, q, objective, x).values["gap"], divergence)


def test_sums_over_z_do_not_depend_on_how_many_data_are_held(monkeypatch):
    joint, q, objective = _mixture()
    x = torch.randn(7, 2)
    whole = _score(joint, q, objective, x)
    monkeypatch.setattr("taut.evidence.score.NUMBERS", 3 * 3 * 2)
    parts = _score(joint, q, objective, x)
    assert parts.curve.shape == whole.curve.shape
    for name, value in whole.values.items():
        torch.testing.assert_close(parts.values[name], value, rtol=1e-12, atol=1e-12)
