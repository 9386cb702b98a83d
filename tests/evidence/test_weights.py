"""Diagnostics: what the weights say about themselves."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from budget import assert_mean, assert_not_above
from pieces import build
from scipy.special import digamma
from scipy.stats import multivariate_normal
from torch.distributions import MixtureSameFamily, MultivariateNormal, OneHotCategorical

from taut.evidence import AIS, Importance, LogEvidence, Naive, Rows, elbo
from taut.evidence.diagnostics import reliability_warnings, warning_sentences
from taut.evidence.gap import GapDecomposition
from taut.evidence.loop import EvalResult
from taut.evidence.summary import assessed, certified, plain, scored, taken_apart
from taut.evidence.target import Target
from taut.evidence.weights import Weights
from taut.testing import linear_gaussian

pytestmark = pytest.mark.usefixtures("float64")


def _gaussian_weights(q_variance: float, k: int, n: int) -> torch.Tensor:
    """p = N(0, 1) weighed by q = N(0, q_variance)."""
    z = torch.randn(k, n, generator=torch.Generator().manual_seed(4)) * q_variance**0.5
    return -z.square() / 2 + z.square() / (2 * q_variance) + math.log(q_variance) / 2


@pytest.mark.parametrize("q_variance", [0.3, 0.5, 0.81])
def test_khat_finds_the_known_tail(q_variance):
    found = Weights(_gaussian_weights(q_variance, 40_000, 12)).khat
    assert found.mean().item() == pytest.approx(1 - q_variance, abs=0.15)


@pytest.mark.parametrize("q_variance", [1.2, 2.0])
def test_khat_of_bounded_weights_is_not_above_zero(q_variance):
    """Of a q that is wider than the posterior: every moment exists."""
    assert Weights(_gaussian_weights(q_variance, 40_000, 12)).khat.max().item() <= 0


def test_khat_is_unmoved_by_scale_and_knows_when_it_knows_nothing():
    log_w = _gaussian_weights(0.5, 2000, 3)
    torch.testing.assert_close(Weights(log_w - 5000).khat, Weights(log_w).khat, rtol=1e-6, atol=1e-6)
    assert Weights(log_w[:10]).khat.isnan().all()
    assert Weights(torch.zeros(500, 2)).khat.isnan().all()
    some = log_w.clone()
    some[:100] = -torch.inf
    torch.testing.assert_close(Weights(some).khat, Weights(log_w[100:]).khat)
    assert Weights(torch.full((50, 1), -torch.inf)).khat.isnan().all()


def test_weights_of_zero_leave_no_nan():
    weights = Weights(torch.full((40, 2), -torch.inf))
    assert weights.iwae.tolist() == [-math.inf] * 2
    for name in ("ess", "max_weight", "iwae_variance"):
        assert getattr(weights, name).tolist() == [0, 0], name
    assert weights.jackknife.tolist() == [-math.inf] * 2


def test_extrapolation_removes_the_first_order_bias():
    """log of a mean of exponentials: digamma(K) - log K is -1/(2K) to first order, and 2 L_K - L_(K/2) cancels it."""
    log_w = torch.empty(20, 40_000).exponential_(generator=torch.Generator().manual_seed(0)).log()
    diagnostics = Weights(log_w).diagnostics()
    assert_mean(diagnostics["extrapolated"], 0.0, detects=0.02)
    level = {k: float(digamma(k)) - math.log(k) for k in (19, 20)}
    assert_mean(diagnostics["bias"], 19 * (level[19] - level[20]), detects=0.01)


def _evidence(name="importance", kind="lower", value=0.0, k=1000, **diagnostics):
    found = {key: torch.full((10,), number) for key, number in diagnostics.items()}
    return LogEvidence(name, kind, torch.full((10,), value), torch.zeros(10), k, True, found)


GOOD = {"ess": 500.0, "max_weight": 0.01, "khat": 0.2}
DOUBTFUL = [
    (_evidence(**GOOD | {"khat": 0.8}), "k-hat is above 0.7 for 100%"),
    (_evidence(**GOOD | {"ess": 3.0}), "the effective sample size is 3.0 of 1000 samples"),
    (_evidence(**GOOD | {"max_weight": 0.6}), "more than half of the weight"),
    (_evidence(value=-math.inf), "no sample of 10 of 10 data had any mass"),
    (_evidence("struski", "upper", math.inf), "bounds nothing"),
    (_evidence("jackknife", "estimate", math.inf), "it is +infinite for 10 of 10 data, and so is the mean"),
    (_evidence(k=24, **GOOD | {"khat": math.nan}), "24 samples are too few for k-hat (25 or more tell it)"),
    (_evidence("struski", "upper", **GOOD, correction=3.0), "heavy"),
    (_evidence("ais", ess=12.0, k=16, max_weight=0.1, acceptance=0.05), "accepts 5%"),
    (_evidence("ais", ess=1.2, k=16, max_weight=0.1, acceptance=0.65), "the effective sample size is 1.2 of 16 chains"),
    (_evidence("jackknife", "estimate", **GOOD, bias=-0.9), "moves importance sampling by 0.90 nats"),
]


@pytest.mark.parametrize(("evidence", "words"), DOUBTFUL, ids=[words for _, words in DOUBTFUL])
def test_doubts_are_said_in_words(evidence, words):
    assert words in " ".join(doubt.text for doubt in reliability_warnings(evidence))


def test_plus_infinity_is_not_a_want_of_mass():
    assert "no mass found" not in [
        doubt.short for doubt in reliability_warnings(_evidence("jackknife", "estimate", math.inf))
    ]


def test_few_weights_whose_k_hat_is_known_of_all_data_together_are_not_doubted_for_want_of_one():
    assert not reliability_warnings(_evidence(k=18, **GOOD))


def test_k_hat_speaks_of_the_data_that_have_one():
    khat = torch.tensor([0.9] * 3 + [math.nan] * 7)
    said = " ".join(doubt.text for doubt in reliability_warnings(replace(_evidence(), diagnostics={"khat": khat})))
    assert "above 0.7 for 100% of the 3 of 10 data that have one" in said
    summary = scored(replace(_evidence(), diagnostics={"khat": khat}))["diagnostics"]["khat"]
    assert summary["n"] == 3
    assert summary["mean"] == pytest.approx(0.9)


@pytest.mark.parametrize("estimator", [Importance(1), Naive(1), AIS(2, 1, 1)], ids=["importance", "naive", "ais"])
def test_one_sample_does_not_tell_its_noise(estimator):
    """0 would say that there is none; null in the file and an empty cell say that nobody knows."""
    known = linear_gaussian(2, 4, 3)
    found = estimator(known.target, known.x)
    assert found.variance.isnan().all()
    assert plain(scored(found))["monte_carlo_error"] is None
    own = elbo(Rows(known.target, known.x), 1)
    assert own.variance.isnan().all()
    sure = replace(_evidence("exact", "upper", 9.0), value=found.value + 1, variance=torch.zeros(3))
    result = assessed(EvalResult(own, [found, sure], torch.zeros(21, 3)), 0.95, annealable=True)
    gap = result["gap"]
    assert math.isnan(gap["high"]["monte_carlo_error"])
    assert math.isnan(gap["low"]["monte_carlo_error"]) or (gap["lower"], gap["low"]["value"]) == ("elbo", 0)
    crossed = assessed(
        EvalResult(own, [found, replace(sure, value=found.value - 1)], torch.zeros(21, 3)), 0.95, annealable=True
    )
    assert not any("lies above" in words for words in crossed["warnings"]), "of an unknown noise nothing can be said"


def test_good_weights_raise_no_doubt():
    assert reliability_warnings(_evidence(**GOOD)) == []
    assert reliability_warnings(_evidence("ais", ess=14.0, k=16, max_weight=0.1, acceptance=0.66)) == []
    assert reliability_warnings(_evidence("exact", "exact")) == []


def test_a_certificate_holds_however_heavy_the_tail():
    """Markov: 5% at most of the certified values lie above the truth, here with weights that have no variance."""
    w = torch.distributions.Pareto(1.0, 1.5).sample((20, 4000)) / 3  # mean 1
    weights = Weights(w.log())
    found = LogEvidence("importance", "lower", weights.iwae, weights.iwae_variance, 20, unbiased=True)
    single = [found.select(torch.tensor([i])).certificate(0.95) for i in range(4000)]
    assert sum(value > 0 for value in single) / 4000 <= 0.05
    means = [found.select(torch.arange(i, i + 8)).certificate(0.95) for i in range(0, 4000, 8)]
    assert sum(value > 0 for value in means) / 500 <= 0.05
    assert found.certificate(0.95) == pytest.approx(found.mean - math.log(20) / 4000)
    with pytest.raises(ValueError, match="not the log of an unbiased"):
        LogEvidence("jackknife", "estimate", weights.iwae, weights.iwae_variance).certificate()


def test_an_upper_certificate_is_above():
    found = LogEvidence("bdmc", "upper", torch.zeros(4), torch.zeros(4), unbiased=True)
    assert found.certificate(0.95) == pytest.approx(math.log(20) / 4)


REPETITIONS, ESTIMATORS, CONFIDENCE = 4000, 3, 0.95


def _tight(generator, estimators):
    """Markov-tight: Z-hat is 20 with probability 1/20 and 0 otherwise; 1 on average. All estimators of three data."""
    hit = torch.rand(estimators, generator=generator) < 1 - CONFIDENCE
    value = torch.where(hit, math.log(1 / (1 - CONFIDENCE)) + 1e-9, -torch.inf)
    # the noise of the first datum alone, so that the product over the data is as tight
    return [
        LogEvidence(f"e{i}", "lower", torch.tensor([one, 0.0, 0.0]), torch.zeros(3), 1, unbiased=True)
        for i, one in enumerate(value.tolist())
    ]


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_the_certificate_of_several_estimators_holds_where_markov_is_tight(side):
    """5% at most of 4,000 evaluations may claim too much; the best of three certificates fails in 14%."""
    generator = torch.Generator().manual_seed(7)
    failed = torch.zeros(REPETITIONS)
    best = torch.zeros(REPETITIONS)
    for i in range(REPETITIONS):
        found = _tight(generator, ESTIMATORS)
        if side == "upper":
            found = [replace(one, kind="upper", value=-one.value) for one in found]
        together = certified(found, found, CONFIDENCE)["certificate" if side == "lower" else "upper_certificate"]
        sign = 1 if side == "lower" else -1
        failed[i] = together is not None and sign * together["value"] > 0
        best[i] = max(sign * one.certificate(CONFIDENCE) for one in found) > 0
    assert_not_above(failed, 1 - CONFIDENCE)
    assert best.mean() > 0.12, "what the best of several would do"


@pytest.mark.parametrize("copies", [1, 3])
def test_the_certificate_of_equal_estimators_is_that_of_one(copies):
    """However they depend on each other: three times the same fails as often as once, and costs nothing."""
    generator = torch.Generator().manual_seed(8)
    failed = torch.zeros(REPETITIONS)
    for i in range(REPETITIONS):
        found = _tight(generator, 1) * copies
        together = certified(found, found, CONFIDENCE)["certificate"]
        failed[i] = together is not None and together["value"] > 0
        if together is not None:
            assert together["value"] == pytest.approx(found[0].certificate(CONFIDENCE), abs=1e-12)
    assert failed.mean() > 0.04, "as tight as it may be"
    assert_not_above(failed, 1 - CONFIDENCE)


def test_the_certificate_is_the_log_of_the_mean_of_products():
    one, two = (
        LogEvidence(name, "lower", torch.tensor(value), torch.zeros(2), 5, unbiased=True)
        for name, value in {"importance": [-3.0, -4.0], "ais": [-2.0, -4.5]}.items()
    )
    expected = math.log((math.exp(-7.0) + math.exp(-6.5)) / 2 * 0.1) / 2
    assert certified([one, two], [one, two], 0.9)["certificate"]["value"] == pytest.approx(expected)
    spoiled = certified([one, two], [one], 0.9)["certificate"]
    assert spoiled["value"] == pytest.approx(math.log(math.exp(-7.0) / 2 * 0.1) / 2), "a rejected one counts as 0"
    assert (spoiled["estimators"], spoiled["confidence"]) == (["importance"], 0.9)
    assert certified([one, two], [], 0.9)["certificate"] is None
    guess = _evidence("jackknife", "estimate")
    assert certified([guess], [guess], 0.9) == {"certificate": None, "upper_certificate": None}


def _noisy(name, kind, truth, std):
    """An estimator of five data, each with a normal noise of its own size."""
    return LogEvidence(name, kind, truth + std * torch.randn(5), std.square())


NOISE = {"elbo": (-3.0, 0.2), "ais": (-2.0, 0.7), "struski": (-1.0, 1.1)}


def test_the_errors_of_the_gap_are_those_of_independent_noise():
    r"""Both ends of the interval: $\sqrt{\sum_n s_{1n}^2 + s_{2n}^2} / N$, and repetitions spread as much."""
    truths = {name: torch.linspace(-1, 1, 5) + at for name, (at, _) in NOISE.items()}
    stds = {name: size * torch.arange(1.0, 6.0) / 5 for name, (_, size) in NOISE.items()}
    ends, times = {"low": ("ais", []), "high": ("struski", [])}, 400
    for _ in range(times):
        elbo_, lower, upper = (
            _noisy(name, kind, truths[name], stds[name])
            for name, kind in {"elbo": "lower", "ais": "lower", "struski": "upper"}.items()
        )
        found = assessed(EvalResult(elbo_, [lower, upper], torch.zeros(21, 5)), 0.95, annealable=True)["gap"]
        for end, (name, values) in ends.items():
            exact = (stds["elbo"].square() + stds[name].square()).sum().sqrt().item() / 5
            assert found[end]["monte_carlo_error"] == pytest.approx(exact, rel=1e-6)
            values.append(found[end]["value"] / exact)
    for _, values in ends.values():
        assert torch.tensor(values).std().item() == pytest.approx(1, rel=6 / (2 * times) ** 0.5)


def test_a_gap_of_nothing_has_no_error():
    """Where no bound beats the ELBO the low end is 0, whatever the noise of the ELBO."""
    own = _noisy("elbo", "lower", torch.zeros(5), torch.ones(5))
    found = assessed(EvalResult(own, [], torch.zeros(21, 5)), 0.95, annealable=True)["gap"]
    assert (found["lower"], found["low"]["value"], found["low"]["monte_carlo_error"]) == ("elbo", 0.0, 0.0)


def test_the_errors_of_the_approximation_gap_are_those_of_both_its_parts():
    variance = torch.tensor([0.04, 0.09])
    parts = GapDecomposition(
        *[torch.zeros(2)] * 2, variance, 2 * variance, 3 * variance, torch.zeros(2), torch.ones(2) > 0
    )
    bounds_ = [
        LogEvidence("ais", "lower", torch.ones(2), 4 * variance),
        LogEvidence("u", "upper", torch.ones(2), variance),
    ]
    own = LogEvidence("elbo", "lower", torch.zeros(2), variance)
    found = taken_apart(parts, EvalResult(own, bounds_, torch.zeros(21, 2)))
    one = math.sqrt(0.13) / 2
    assert found["approximation"]["low"]["monte_carlo_error"] == pytest.approx(math.sqrt(6) * one)
    assert found["approximation"]["high"]["monte_carlo_error"] == pytest.approx(math.sqrt(3) * one)
    assert found["amortisation"]["monte_carlo_error"] == pytest.approx(math.sqrt(3) * one)


def _mixture(monkeypatch, q_of=lambda q: q):
    joint, q, _ = build("model=mog", "model.components=3", x_shape=(2,))
    x = 3 * torch.randn(6, 2, dtype=torch.float64)
    joint.likelihood.initialise(x)
    target = Target.of(joint, q)
    monkeypatch.setattr("taut.evidence.rows.log_weights", lambda *_, **__: pytest.fail("drawn"))
    return x, joint, replace(target, q=q_of(q))


def test_under_the_posterior_of_a_mixture_nothing_is_drawn(monkeypatch):
    """Every weight is p(x): the sum over the components, by scipy."""
    x, joint, target = _mixture(monkeypatch)
    with torch.no_grad():
        found = Rows(target, x).weights(5).log_w
        means, covariances = joint.likelihood.means, joint.likelihood.covariances()
        parts = [multivariate_normal(m, c).pdf(x) for m, c in zip(means.numpy(), covariances.numpy(), strict=True)]
    expected = np.log(joint.prior.probs.detach().numpy() @ np.stack(parts))
    np.testing.assert_allclose(found, np.broadcast_to(expected, (5, 6)), rtol=1e-6)


def test_a_posterior_that_a_single_value_of_z_denies_is_drawn_from(monkeypatch):
    """The third value has 1e-9 of what it should have: none of a thousand draws would meet it."""

    def off(q):
        def given(x):
            probs = q(x).probs.double()
            return OneHotCategorical(probs * torch.tensor([1.0, 1.0, 1e-9], dtype=torch.float64))

        return given

    x, _, target = _mixture(monkeypatch, off)
    with torch.no_grad(), pytest.raises(pytest.fail.Exception, match="drawn"):
        Rows(target, x).weights(5)


@pytest.mark.parametrize("words", [["model=ppca"], ["model=fa"], ["model=ppca", "prior=mixture", "prior.components=3"]])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_nothing_is_drawn_under_the_posterior_of_a_linear_model(words, share, monkeypatch):
    joint, q, _ = build(*words, "latent_dim=2", x_shape=(5,))
    x = torch.randn(40, 5)
    joint.likelihood.initialise(x)
    x = x.masked_fill(torch.rand(x.shape) < share, torch.nan)
    drawn = Rows(Target.of(joint, q), x).drawn(100, "", lambda rows: q(x[rows]))
    monkeypatch.setattr("taut.evidence.rows.log_weights", None)
    rows = Rows(Target.of(joint, q), x)
    for value in (Importance(100).estimate(rows).value, elbo(rows, 50).value):
        torch.testing.assert_close(value, drawn.mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1e-3])
def test_a_mixture_that_is_wrong_in_a_component_that_hardly_counts_is_drawn_from(shift):
    """No draw of q would meet that component; its own do."""
    joint, q, _ = build("model=ppca", "prior=mixture", "prior.components=2", "latent_dim=2", x_shape=(5,))
    x = torch.randn(3, 5)
    joint.likelihood.initialise(x)
    joint.prior.means.data.copy_(torch.tensor([[0.0, 0.0], [6.0, 6.0]]))

    def asked(rows):
        right = q(rows)
        parts = right.component_distribution
        means = parts.loc + shift * torch.tensor([[0.0], [1.0]])
        wrong = MultivariateNormal(means, scale_tril=parts.scale_tril)
        return MixtureSameFamily(right.mixture_distribution, wrong)

    target = replace(Target.of(joint, q), q=asked)
    assert target.posterior
    assert bool((Rows(target, x).weights(100).log_w.std(0) == 0).all()) == (shift == 0)


def test_what_holds_for_several_estimators_is_said_once_and_names_a_way_out():
    bad = GOOD | {"khat": 0.8}
    several = [_evidence(**bad), _evidence("jackknife", "estimate", **bad), _evidence("struski", "upper", **bad)]
    (sentence,) = warning_sentences(several, annealable=True)
    assert sentence.startswith("importance, jackknife and struski: k-hat is above 0.7 for 100% of the data: ")
    assert "'evidence=[importance,ais,struski]' limit=50 runs them" in sentence
    (softened,) = warning_sentences(several, annealable=True, closed=True)
    assert "may be far" not in softened
    assert "only a mode that q misses could lie between" in softened
    # nothing that was done already, or cannot be done
    with_ais = [*several, _evidence("ais", ess=1.2, k=16, acceptance=0.65)]
    for sentences in (warning_sentences(with_ais, annealable=True), warning_sentences(several, annealable=False)):
        assert not any("ais,struski" in sentence for sentence in sentences)
    assert len(warning_sentences(with_ais, annealable=True)) == 2
    (again,) = warning_sentences([*several, _evidence("tolerance_lower", **GOOD)], annealable=True)
    assert "ais,struski" not in again


@pytest.mark.parametrize(("width", "closed"), [(0.0, True), (0.09, True), (0.11, False), (-0.01, False)], ids=str)
def test_k_hat_is_softened_where_the_bracket_is_narrower_than_the_error_over_the_data(width, closed):
    """0, 1, ..., 9 have a standard deviation of sqrt(82.5 / 9), and their mean an error of 0.9574."""
    values = torch.arange(10) / 9.574271  # an error of 0.1
    low = replace(_evidence(**GOOD | {"khat": 0.8}), value=values)
    high = replace(_evidence("struski", "upper"), value=values + width)
    bound = replace(_evidence("elbo"), value=values - 1)
    result = assessed(EvalResult(bound, [low, high], torch.zeros(21, 10)), 0.95, annealable=True)
    (sentence,) = result["warnings"]
    assert ("only a mode" in sentence) == closed
    tail = replace(high, diagnostics={"khat": torch.full((10,), 0.8)})
    both = assessed(EvalResult(bound, [low, tail], torch.zeros(21, 10)), 0.95, annealable=True)
    assert not any("only a mode" in one for one in both["warnings"]), "both ends of one heavy tail"


def test_a_better_bound_than_that_of_poor_weights_is_to_be_quoted():
    """0.3 nats above at errors of 0.03 and 0.04 of the means: six of 0.05. At 0.1 nothing is said."""
    low, bound = _evidence(**GOOD | {"khat": 0.8}), _evidence("elbo")
    own = replace(low, value=torch.zeros(10), variance=torch.full((10,), 0.009))
    for above, said in ((0.3, True), (0.1, False)):
        chains = _evidence("ais", ess=9.0, k=16, acceptance=0.65)
        best = replace(chains, value=torch.full((10,), above), variance=torch.full((10,), 0.016))
        elbo = replace(bound, value=torch.full((10,), -1.0))
        result = assessed(EvalResult(elbo, [own, best], torch.zeros(21, 10)), 0.95, annealable=True)
        told = [one for one in result["warnings"] if "quote" in one]
        assert told == (["importance: 0.3 nats below ais, 6 Monte Carlo errors: quote ais."] if said else [])


@pytest.mark.parametrize("scale", [10.0, 100.0, 1e3, 1e5])
def test_khat_of_the_worst_weights_is_not_that_of_the_best(scale):
    """Above a spread of 745 nats all weights but one round to zero: equal ones, which have no tail."""
    khat = Weights(scale * torch.randn(200, 3)).khat
    assert khat.min() > 0.05 * scale
    assert khat.isfinite().all()
