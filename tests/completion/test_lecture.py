"""The lecture: every completion summed, K of them drawn, and the gap as a KL, each against another way to get it."""

import math

import pytest
import torch
from scipy.stats import entropy

from taut.completion.lecture.lecture import (
    LEARNED,
    POSTERIOR,
    UNIFORM,
    BernoulliMixture,
    Learned,
    Lecture,
    completed,
    completions,
    divergence,
    hidden_in_the_middle,
    lecture,
    number_of,
)
from taut.errors import UserError

PIXELS, REPETITIONS = 6, 400


def _images(n: int, seed: int = 1) -> torch.Tensor:
    """Binary 4x4 images of a few noisy prototypes."""
    generator = torch.Generator().manual_seed(seed)
    prototypes = torch.rand(3, 16, generator=generator) < 0.5
    chosen = torch.randint(3, (n,), generator=generator)
    flips = torch.rand(n, 16, generator=generator) < 0.1
    return (prototypes[chosen] ^ flips).double().view(n, 4, 4)


def _given(seed: int = 0) -> Lecture:
    rows = _images(200)
    return lecture(rows, rows[:3], components=4, pixels=PIXELS, k=20, repetitions=REPETITIONS, seed=seed)


@pytest.fixture(scope="module")
def found() -> Lecture:
    """One small lecture."""
    return _given()


def test_all_completions_sum_to_the_closed_form(found):
    assert (found.summed - found.exact).abs().max() < 1e-10
    assert (found.exact < -1).all()


def test_the_mixture_sums_to_one_and_marginalises():
    """The closed form against the sum over images, which the class does not use."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, 5, generator=generator, dtype=torch.float64)
    model = BernoulliMixture(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log(), logits)
    every = completions(5)
    assert model.log_prob(every).exp().sum().item() == pytest.approx(1, abs=1e-12)
    seen = torch.tensor([True, False, True, True, False])
    whole = completed(every[9], seen, completions(2))
    assert model.log_prob(every[9:10], seen).item() == pytest.approx(
        model.log_prob(whole).logsumexp(0).item(), abs=1e-12
    )


def test_em_never_decreases_the_likelihood():
    """Each round with half a count of each colour is EM for a posterior: the penalised log-likelihood grows."""
    x = _images(300).flatten(1)
    fitted, start = BernoulliMixture.fit(x, 3, 0), BernoulliMixture.fit(x, 1, 0)
    assert fitted.log_prob(x).mean() > start.log_prob(x).mean() + 1
    assert fitted.log_weights.exp().sum().item() == pytest.approx(1, abs=1e-12)
    r = fitted.log_table(x).softmax(1)
    ones = (r.mT @ x + 0.5) / (r.sum(0).unsqueeze(1) + 1)
    assert (fitted.logits.sigmoid() - ones).abs().max() < 1e-3  # a fixed point


def test_completions_are_numbered():
    every = completions(5)
    assert every.shape == (32, 5)
    assert number_of(every).tolist() == list(range(32))


@pytest.mark.parametrize("pixels", [0, 17])
def test_more_pixels_than_can_be_summed_are_refused(pixels):
    with pytest.raises(UserError, match=r"lecture\.pixels must be 1 to 16, .* got \d+\."):
        completions(pixels)


def test_the_middle_is_hidden():
    assert (~hidden_in_the_middle(16, 8, 8)).view(8, 8).nonzero().tolist() == [
        [r, c] for r in range(2, 6) for c in range(2, 6)
    ]
    assert int((~hidden_in_the_middle(5, 7, 6)).sum()) == 5


def test_divergence_is_that_of_scipy():
    log_q, log_p = (torch.randn(9, 2, dtype=torch.float64).log_softmax(0) for _ in range(2))
    expected = entropy(log_q.exp().numpy(), log_p.exp().numpy())
    assert torch.allclose(divergence(log_q, log_p), torch.from_numpy(expected), rtol=1e-12)


@pytest.mark.parametrize("name", [UNIFORM, LEARNED, POSTERIOR])
def test_estimates_are_unbiased_and_their_logs_lie_below(found, name):
    """E[estimate] = p(x_obs) at every K within 6 standard errors; E[log w] = log p - KL at K = 1."""
    error = found.methods[name].error
    for values in error.exp():
        spread = values.std(0) / REPETITIONS**0.5
        assert ((values.mean(0) - 1).abs() <= 6 * spread + 1e-9).all()
    first = error[0]
    spread = first.std(0) / REPETITIONS**0.5
    assert ((first.mean(0) + found.methods[name].gap).abs() <= 6 * spread + 1e-9).all()
    means = error.mean(1)
    assert (means <= 6 * error.std(1) / REPETITIONS**0.5 + 1e-9).all()


def test_uniform_is_worst_and_the_posterior_has_no_gap(found):
    gaps = {name: one.gap.mean().item() for name, one in found.methods.items()}
    assert gaps[UNIFORM] > gaps[LEARNED] > gaps[POSTERIOR]
    assert abs(gaps[POSTERIOR]) < 1e-10
    assert found.methods[POSTERIOR].error.abs().max() < 1e-10
    assert torch.allclose(found.methods[POSTERIOR].ess, torch.ones(3).double())
    assert gaps[UNIFORM] < PIXELS * math.log(2)


def test_the_learned_q_is_a_distribution_and_draws_from_itself():
    seen = hidden_in_the_middle(4, 4, 4)
    model = BernoulliMixture.fit(_images(200).flatten(1), 3, 0)
    q, x = Learned.fit(model, seen, 0), _images(1).flatten()
    log_q = q.log_prob(x, completions(4))
    assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-12)
    n = 20_000
    drawn = number_of(q.draw(x, n, torch.Generator().manual_seed(0))).bincount(minlength=16) / n
    assert ((drawn - log_q.exp()).abs() <= 6 * (log_q.exp() / n).sqrt() + 1e-9).all()


def test_the_posterior_draws_completions_with_their_probability():
    seen = hidden_in_the_middle(4, 4, 4)
    model, x = BernoulliMixture.fit(_images(200).flatten(1), 3, 0), _images(1).flatten()
    p = model.log_prob(completed(x, seen, completions(4))).softmax(0)
    n = 20_000
    drawn = number_of(model.complete(x, seen, n, torch.Generator().manual_seed(0))).bincount(minlength=16) / n
    assert ((drawn - p).abs() <= 6 * (p / n).sqrt() + 1e-9).all()


def test_the_same_seed_gives_the_same_bits_and_the_global_generator_rests(found):
    before = torch.get_rng_state()
    again = _given()
    assert torch.equal(before, torch.get_rng_state())
    for name, one in found.methods.items():
        assert torch.equal(one.error, again.methods[name].error)
    assert not torch.equal(found.methods[UNIFORM].error, _given(1).methods[UNIFORM].error)
