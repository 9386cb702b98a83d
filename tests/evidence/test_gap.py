"""The gap: an interval from the right ends, and parts that a formula knows."""

import math
from dataclasses import replace

import pytest
import torch
from pieces import build
from torch.distributions import Independent, MultivariateNormal, Normal

from taut.errors import UserError
from taut.evidence import Exact, Importance, LogEvidence, Rows, Target
from taut.evidence.gap import GapDecomposition, decompose, interval
from taut.evidence.optimal_q import Family, Search, reparameterised
from taut.model.exact_inference import log_marginal
from taut.testing import gaussian_mixture, linear_gaussian

pytestmark = pytest.mark.usefixtures("float64")


def _evidence(name, kind, *values):
    return LogEvidence(name, kind, torch.tensor(values), torch.zeros(len(values)))


LOW = _evidence("low", "lower", -3.0, -2.0)
LOWER = _evidence("lower", "lower", -2.5, -4.0)
HIGH = _evidence("high", "upper", 0.0, -1.0)
HIGHER = _evidence("higher", "upper", -1.0, 2.0)
GUESS = _evidence("guess", "estimate", 9.0, 9.0)
WILD = _evidence("wild", "estimate", -9.0, -9.0)
ELBO = torch.tensor([-5.0, -5.0])


def test_an_interval_runs_from_the_best_lower_to_the_best_upper_estimator():
    found = interval(ELBO, [LOWER, LOW, GUESS, WILD, HIGHER, HIGH])
    assert found.low.tolist() == [2, 3]
    assert found.high.tolist() == [5, 4]
    assert (found.lower, found.upper, found.exact) == ("low", "high", False)


def test_an_upper_bound_beyond_q_goes_before_one_made_of_q():
    """Where q misses a mode struski lies too low, by as much as it likes; a draw of the posterior does not."""
    blind = _evidence("struski", "upper", -3.0, -3.0)
    u_k, bdmc = (
        replace(_evidence(name, "upper", *at), unbiased=True)
        for name, at in (("u_k", (1.0, 1.0)), ("bdmc", (0.0, 0.0)))
    )
    assert interval(ELBO, [LOW, blind, u_k, bdmc]).upper == "bdmc"
    assert interval(ELBO, [LOW, blind, u_k]).upper == "u_k"
    assert interval(ELBO, [LOW, blind, HIGH]).upper == "struski"
    infinite = replace(_evidence("u_k", "upper", math.inf, 1.0), unbiased=True)
    assert interval(ELBO, [LOW, blind, infinite]).upper == "struski"


def test_an_upper_bound_of_heavy_tailed_weights_gives_way_to_one_of_weights_with_a_variance():
    """Its stated noise is too small, so that the least of several is mostly one that lies too low."""
    heavy = replace(_evidence("struski", "upper", -2.0, -2.0), diagnostics={"khat": torch.tensor([0.9, 0.9])})
    light = replace(HIGH, diagnostics={"khat": torch.tensor([0.5, 0.6])})
    assert interval(ELBO, [LOW, heavy, light]).upper == "high"
    assert interval(ELBO, [LOW, heavy, replace(light, diagnostics=heavy.diagnostics)]).upper == "struski"
    assert interval(ELBO, [LOW, heavy]).upper == "struski"


def test_an_upper_bound_of_heavy_tailed_weights_below_the_lower_end_bounds_nothing():
    """Such a bound can lie far too low for its stated noise: the middle of both would lie below a valid lower bound."""
    tail = {"khat": torch.tensor([0.9, 0.9])}
    below = replace(_evidence("struski", "upper", -3.0, -3.0), diagnostics=tail)
    assert interval(ELBO, [LOW, below, replace(HIGH, diagnostics=tail)]).upper == "high"
    assert interval(ELBO, [LOW, below]).high is None
    assert interval(ELBO, [below]).upper == "struski"
    assert interval(ELBO, [LOW, replace(below, diagnostics={})]).upper == "struski"


def test_an_interval_without_one_of_its_ends():
    assert interval(ELBO, [LOW, GUESS]).high is None
    worse = interval(ELBO, [_evidence("naive", "lower", -9.0, -9.0)])
    assert (worse.lower, worse.low.tolist()) == ("elbo", [0, 0])
    assert interval(ELBO, [GUESS, WILD]).low.tolist() == [0, 0]
    assert interval(ELBO, [_evidence("u", "upper", math.inf, 0.0), HIGHER]).upper == "higher"
    exact = interval(ELBO, [LOW, _evidence("exact", "exact", -1.0, -2.0), HIGH])
    assert exact.exact
    assert exact.low.tolist() == exact.high.tolist() == [4, 3]


def _mean_field(d, encoder):
    return Family(lambda p: Independent(Normal(p[:, :d], (p[:, d:] / 2).exp()), 1), encoder)


def _ppca(d=3, n=6):
    """A linear-Gaussian target, its posterior precision and mean, and the mean-field family (estimators 2.13)."""
    known = linear_gaussian(d, 5, n)
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(5, d, generator=generator)
    precision = torch.eye(d) + weight.T @ weight / 0.25
    mean = lambda x: torch.linalg.solve(precision, (x @ weight / 0.25).T).T  # noqa: E731
    return known, precision, mean


SEARCH = Search(steps=600, samples=16, lr=0.05)


@pytest.mark.parametrize("lost", [0.0, 0.3], ids=["a linear encoder", "a crippled encoder"])
def test_the_split_of_probabilistic_pca_is_its_formula(lost):
    """Approximation gap (1/2)(sum log P_ii - log det P); amortisation (1/2) d'Pd for a mean that is off by d."""
    known, precision, mean = _ppca()
    log_variance = -precision.diagonal().log()
    family = _mean_field(3, lambda x: torch.cat([(1 - lost) * mean(x), log_variance.expand(len(x), 3)], 1))
    target = Target(known.target.log_joint, lambda x: family.distribution(family.parameters(x)), known.target.prior)
    parts = decompose(Rows(target, known.x), family, SEARCH, k=20_000)
    approximation = (precision.diagonal().log().sum() - precision.logdet()).item() / 2
    off = lost * mean(known.x)
    amortisation = ((off @ precision) * off).sum(1) / 2
    error = 6 * (parts.best_variance + parts.elbo_variance).sqrt()
    assert abs((parts.approximation(known.log_px) - approximation).mean().item()) < 0.01
    assert ((parts.amortisation - amortisation).abs() < error + 0.01).all()
    assert parts.settled.all()


def test_a_family_that_holds_the_posterior_has_no_approximation_gap():
    known, _, _ = _ppca(2)

    def distribution(p):
        lower = torch.diag_embed(p[:, 2:4].exp()) + torch.nn.functional.pad(p[:, 4:, None], (0, 1, 1, 0))
        return MultivariateNormal(p[:, :2], scale_tril=lower)

    family = Family(distribution, lambda x: torch.zeros(len(x), 5))
    target = Target(known.target.log_joint, lambda x: distribution(torch.zeros(len(x), 5)), known.target.prior)
    parts = decompose(Rows(target, known.x), family, Search(1500, 16, 0.1), k=2000)
    assert parts.approximation(known.log_px).abs().mean() < 0.01


def test_a_search_too_short_says_so():
    known, _, _ = _ppca()
    family = _mean_field(3, lambda x: torch.full((len(x), 6), 3.0))
    target = Target(known.target.log_joint, lambda x: family.distribution(family.parameters(x)), known.target.prior)
    assert not decompose(Rows(target, known.x), family, Search(8, 4, 0.01), k=200).settled.any()


def test_the_best_of_all_starts_is_kept():
    """A search that cannot move leaves the encoder, not the standard member, where the encoder is better."""
    known, precision, mean = _ppca()
    family = _mean_field(3, lambda x: torch.cat([mean(x), -precision.diagonal().log().expand(len(x), 3)], 1))
    target = Target(known.target.log_joint, lambda x: family.distribution(family.parameters(x)), known.target.prior)
    parts = decompose(Rows(target, known.x), family, Search(8, 4, 1e-9), k=4000)
    assert parts.from_encoder.all()
    assert parts.amortisation.abs().max() < 0.1
    assert not parts.settled.any()


def test_an_em_mixture_has_no_gap_at_all():
    joint, q, _ = build("model=mog", "model.components=4", x_shape=(2,))
    x = torch.randn(9, 2)
    parts = decompose(Rows(Target.of(joint, q), x), Family.of(q), k=5)
    truth = log_marginal(joint, x).double().detach()
    assert parts.amortisation.abs().max() == 0
    assert parts.approximation(truth).abs().max() < 1e-9
    assert parts.settled.all()


def test_among_categories_everything_is_amortisation():
    joint, q, _ = build("model=mog", "model.components=4", "q=categorical", x_shape=(2,))
    x = torch.randn(9, 2)
    parts = decompose(Rows(Target.of(joint, q), x), Family.of(q), k=40)
    truth = log_marginal(joint, x).double().detach()
    assert parts.approximation(truth).abs().max() < 1e-9
    torch.testing.assert_close(parts.amortisation, truth - parts.elbo, rtol=0, atol=1e-9)
    assert (parts.amortisation > 0).any()


def test_a_local_search_closes_the_amortisation_gap_of_a_vae_and_stays_a_bound():
    joint, q, _ = build("latent_dim=2")
    x = torch.randint(2, (4, 1, 4, 4)).double()
    target = Target.of(joint, q)
    parts = decompose(Rows(target, x), Family.of(q), Search(300, 16, 0.05), k=2000)
    exact = Exact()(target, x).value
    error = 6 * parts.best_variance.sqrt()
    assert (parts.best >= parts.elbo - error).all()
    assert (parts.best <= exact + error).all()
    assert parts.approximation(exact).mean() < 0.05


@pytest.mark.parametrize("family", ["diagonal", "full"])
@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_draws_from_given_noise_follow_q(family, prior):
    """The same draws as torch's own, for every Gaussian family and for one carried onto a box."""
    _, q, _ = build(f"q={family}", f"prior={prior}", "latent_dim=2")
    posterior = q(torch.randint(2, (3, 1, 4, 4)).double())
    torch.manual_seed(0)
    theirs = posterior.rsample((5,))
    torch.manual_seed(0)
    ours = reparameterised(posterior, torch.randn(5, 3, 2))
    torch.testing.assert_close(ours, theirs)


def test_a_family_without_a_gaussian_is_refused():
    with pytest.raises(UserError, match="Laplace"):
        reparameterised(torch.distributions.Laplace(torch.zeros(3, 2), 1.0), torch.zeros(1, 3, 2))
    with pytest.raises(UserError, match=r"gap\.samples must be even"):
        Search(samples=3)


def test_parts_and_evidence_come_together_in_any_order():
    target, x, _, _ = gaussian_mixture(6)
    whole = Importance(30)(target, x)
    halves = [Importance(30)(target, x[rows], torch.tensor(rows)) for rows in ([0, 2, 4], [1, 3, 5])]
    order = torch.tensor([0, 2, 4, 1, 3, 5]).argsort()
    joined = LogEvidence.cat(halves).select(order)
    torch.testing.assert_close(joined.value, whole.value)
    torch.testing.assert_close(joined.curve, whole.curve)
    torch.testing.assert_close(joined.diagnostics["ess"], whole.diagnostics["ess"])
    part = GapDecomposition(*[torch.arange(3.0)] * 6, torch.ones(3, dtype=torch.bool))
    assert GapDecomposition.cat([part, part]).select(torch.tensor([5, 0])).elbo.tolist() == [2, 0]


def test_an_amortisation_gap_of_nothing_has_no_noise():
    """q without free parameters is its own best member: nothing was measured that could have noise."""
    known, _, _ = _ppca()
    parts = decompose(Rows(known.target, known.x), None, SEARCH, k=50)
    assert (parts.amortisation == 0).all()
    assert (parts.amortisation_variance == 0).all()
    assert (parts.elbo_variance > 0).all()


def test_the_noise_of_the_amortisation_gap_is_that_of_a_difference():
    """Paired, it is the spread of repetitions, and far smaller than that of two ELBOs with noise of their own."""
    known, precision, mean = _ppca()
    log_variance = -precision.diagonal().log()
    family = _mean_field(3, lambda x: torch.cat([0.98 * mean(x), log_variance.expand(len(x), 3)], 1))
    target = Target(known.target.log_joint, lambda x: family.distribution(family.parameters(x)), known.target.prior)
    again = [decompose(Rows(target, known.x, seed=seed), family, Search(30), k=200) for seed in range(30)]
    spread = torch.stack([parts.amortisation for parts in again]).var(0).mean().item()
    stated = torch.stack([parts.amortisation_variance for parts in again]).mean().item()
    assert stated / spread == pytest.approx(1, abs=5 * (2 / (29 * len(known.x))) ** 0.5)  # a variance of 30 draws each
    apart = torch.stack([parts.elbo_variance + parts.best_variance for parts in again]).mean().item()
    assert stated < apart / 2


def test_one_sample_leaves_the_noise_unknown():
    known, _, mean = _ppca()
    family = _mean_field(3, lambda x: torch.cat([mean(x), torch.full((len(x), 3), -2.0)], 1))
    target = Target(known.target.log_joint, lambda x: family.distribution(family.parameters(x)), known.target.prior)
    parts = decompose(Rows(target, known.x), family, Search(8), k=1)
    for noise in (parts.elbo_variance, parts.best_variance, parts.amortisation_variance):
        assert noise.isnan().all()
