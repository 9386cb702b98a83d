"""The KL to the prior taken apart: against numerical integrals, enumeration and identities that hold to rounding."""

import math

import pytest
import torch
from budget import assert_mean
from evidence.models import bernoulli_mixture
from pieces import X, build
from scipy import integrate, stats
from torch.distributions import Categorical as Weights
from torch.distributions import Independent, MixtureSameFamily, MultivariateNormal, Normal, OneHotCategorical

from taut.evidence import Rows, Target
from taut.evidence import information as module
from taut.evidence.diagnostics import collapse
from taut.evidence.information import Information, information_of
from taut.evidence.summary import information_summary

pytestmark = pytest.mark.usefixtures("float64")

PRIOR = Independent(Normal(torch.zeros(2, dtype=torch.float64), 1.0), 1)
MEANS = torch.tensor([[0.0, 0.3], [1.5, -0.2], [-0.7, 2.0], [0.2, 0.1], [3.0, -1.0]], dtype=torch.float64)
DEVIATIONS = torch.tensor([[0.5, 0.9], [0.3, 1.1], [0.6, 0.2], [1.0, 0.9], [0.4, 0.7]], dtype=torch.float64)


def _target(q, prior=PRIOR):
    return Target(lambda x, z: prior.log_prob(z), q, prior)


def _q(x):
    """Row i of the table where x is i."""
    index = x[:, 0].long()
    return Independent(Normal(MEANS[index], DEVIATIONS[index]), 1)


def _informed(target, x, seed=0):
    return information_of(Rows(target, x, seed=seed), target.q(x))


X5 = torch.arange(5, dtype=torch.float64).unsqueeze(1)


def _first_axis(x):
    return Independent(Normal(MEANS[x[:, 0].long(), :1], DEVIATIONS[x[:, 0].long(), :1]), 1)


def test_both_parts_are_the_integrals_that_scipy_finds():
    """In one dimension: I(x; z) = h(q(z)) - mean h(q(z|x)), KL(q(z) || p(z)) = E_q(z) log q(z) / p(z)."""
    parts = [stats.norm(m, s) for m, s in zip(MEANS[:, 0].tolist(), DEVIATIONS[:, 0].tolist(), strict=True)]
    density = lambda z: sum(part.pdf(z) for part in parts) / 5  # noqa: E731
    entropy = integrate.quad(lambda z: -density(z) * math.log(density(z)), -7, 9, limit=500)[0]
    mutual = entropy - sum(part.entropy() for part in parts) / 5
    cross = integrate.quad(lambda z: -density(z) * stats.norm.logpdf(z), -7, 9, limit=500)[0]
    target = _target(_first_axis, Independent(Normal(torch.zeros(1), 1.0), 1))
    found = [_informed(target, X5, seed) for seed in range(200)]
    assert_mean(torch.stack([one.mutual.mean() for one in found]), mutual, detects=0.02)
    assert_mean(torch.stack([one.marginal.mean() for one in found]), cross - entropy, detects=0.03)
    spread = torch.stack([one.mutual.mean() for one in found]).var().item()
    stated = sum(one.mutual_variance.sum().item() / 25 for one in found) / 200
    assert stated / spread == pytest.approx(1, abs=6 * (2 / 199) ** 0.5)


def test_the_two_parts_add_up_and_the_first_is_at_most_log_n():
    found = _informed(_target(_q), X5)
    assert (found.mutual <= math.log(5) + 1e-12).all()
    torch.testing.assert_close(found.kl, found.mutual + found.marginal, rtol=0, atol=0)
    closed = (MEANS**2 + DEVIATIONS**2 - 1) / 2 - DEVIATIONS.log()
    torch.testing.assert_close(found.by_dimension, closed, rtol=0, atol=1e-12)
    many = torch.stack([_informed(_target(_q), X5, seed).kl for seed in range(100)])
    assert_mean(many, closed.sum(1), detects=0.3)


def test_data_far_apart_reach_log_n_and_equal_ones_nothing():
    far = _target(lambda x: Independent(Normal(100 * x.expand(-1, 2), 0.1), 1))
    assert _informed(far, X5).mutual.tolist() == pytest.approx([math.log(5)] * 5, abs=1e-12)
    assert information_summary(_informed(far, X5))["mutual_information"]["at_least"]
    same = _target(lambda x: PRIOR.expand((len(x),)))
    found = _informed(same, X5)
    assert found.mutual.abs().max() < 1e-14
    assert found.marginal.abs().max() < 1e-14
    assert found.by_dimension.abs().max() == 0
    summary = information_summary(found)
    assert (summary["active_units"], summary["units"]) == (0, 2)
    assert not summary["mutual_information"]["at_least"]


def test_a_category_is_summed():
    """Written out by hand over 16 images and 2 categories."""
    target, x, _, _ = bernoulli_mixture()
    shares = torch.linspace(0.05, 0.95, 16)
    q = lambda rows: OneHotCategorical(probs=torch.stack([shares, 1 - shares], 1)[_number(rows)])  # noqa: E731
    found = information_of(Rows(Target(target.log_joint, q, target.prior), x[3:9], torch.arange(3, 9)), q(x))
    average = [shares.mean().item(), 1 - shares.mean().item()]
    prior = [0.35, 0.65]
    for i, share in enumerate(shares[3:9].tolist()):
        each = [share, 1 - share]
        mutual = sum(p * math.log(p / m) for p, m in zip(each, average, strict=True))
        marginal = sum(p * math.log(m / w) for p, m, w in zip(each, average, prior, strict=True))
        assert found.mutual[i].item() == pytest.approx(mutual, abs=1e-14)
        assert found.marginal[i].item() == pytest.approx(marginal, abs=1e-14)
    assert found.mutual_variance.abs().max() == 0
    summary = information_summary(found)
    assert (summary["units"], summary["active_units"], summary["kl_by_dimension"]) == (None, None, None)
    sure = OneHotCategorical(probs=torch.eye(2)[_number(x) % 2])
    certain = information_of(Rows(Target(target.log_joint, lambda _: sure, target.prior), x), sure)
    assert certain.mutual.tolist() == pytest.approx([math.log(2)] * 16)


def _number(x):
    """The images of four pixels as numbers from 0 to 15."""
    return (x @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()


def test_the_value_of_a_datum_does_not_depend_on_its_batch(monkeypatch):
    together = _informed(_target(_q), X5)
    monkeypatch.setattr(module, "NUMBERS", 1)
    chunked = _informed(_target(_q), X5)
    alone = information_of(Rows(_target(_q), X5[3:4], torch.tensor([3])), _q(X5))
    for name, values in vars(together).items():
        torch.testing.assert_close(getattr(chunked, name), values, rtol=0, atol=1e-12)
        torch.testing.assert_close(getattr(alone, name)[0], values[3], rtol=0, atol=1e-12)


@pytest.mark.parametrize("words", [["q=full"], ["prior=mixture"], ["prior=uniform"], ["prior=vamp"], ["q=uniform"]])
def test_every_pair_of_q_and_prior_is_taken_apart(words):
    """By dimension where both factorise and a closed form is known; the sums always."""
    joint, q, _ = build("latent_dim=2", *words)
    x = torch.randint(2, (6, *X)).double()
    target = Target.of(joint, q)
    found = _informed(target, x)
    assert found.kl.isfinite().all()
    assert (found.mutual <= math.log(6) + 1e-12).all()
    assert found.mean_z.shape == (6, 2)
    assert found.by_dimension.shape == (6, 2 if words == ["q=uniform"] else 0)


def test_the_largest_dimension_comes_first():
    found = information_summary(_informed(_target(_q), X5))
    closed = ((MEANS**2 + DEVIATIONS**2 - 1) / 2 - DEVIATIONS.log()).mean(0)
    assert [one["dimension"] for one in found["kl_by_dimension"]] == closed.argsort(descending=True).tolist()
    assert found["kl_by_dimension"][0]["value"] == pytest.approx(closed.max().item())
    assert found["kl"]["value"] == pytest.approx(
        found["mutual_information"]["value"] + found["marginal_kl"]["value"], abs=1e-12
    )
    assert found["mutual_information"]["cap"] == pytest.approx(math.log(5))
    assert "standard_error" not in found["mutual_information"]


def test_units_whose_mean_is_not_known_are_not_active_by_its_noise():
    """Sixteen draws of N(0, 1), as many as of 1,000 data: the mean of them moves six times as much as counts."""
    n = 1000
    assert [module.draws_of(size) for size in (1, 360, n)] == [256, 129, 16]
    zeros, z = torch.zeros(n), torch.randn(n, 16, 1)
    noise = z.var(1) / 16
    found = Information(zeros, zeros, zeros, zeros, zeros, *[torch.zeros(n, 0)] * 3, z.mean(1), noise)
    assert information_summary(found)["active_units"] == 0
    moved = Information(
        zeros, zeros, zeros, zeros, zeros, *[torch.zeros(n, 0)] * 3, z.mean(1) + torch.randn(n, 1), noise
    )
    assert information_summary(moved)["active_units"] == 1


def test_a_mixture_as_q_knows_the_density_of_each_datum():
    def q(x):
        means = torch.stack([x.expand(-1, 2), -x.expand(-1, 2)], 1)
        return MixtureSameFamily(Weights(logits=torch.zeros(len(x), 2)), Independent(Normal(means, 0.1), 1))

    found = _informed(_target(q), 5 * X5 + 5)
    assert found.mutual.tolist() == pytest.approx([math.log(5)] * 5, abs=1e-9)


@pytest.mark.parametrize(
    ("active", "units", "said"),
    [
        (0, 2, "0 of 2 latent units are"),
        (1, 50, "1 of 50 latent units is"),
        (4, 50, "4 of 50"),
        (5, 50, None),
        (1, 2, None),
    ],
)
def test_a_collapse_is_said_with_what_helps(active, units, said):
    assert collapse(active, units, units + 0.1) is None, "a narrow q tells x apart by small differences"
    words = collapse(active, units, 0.1)
    if said is None:
        assert words is None
    else:
        assert words is not None
        for part in (said, "callbacks=[default,warmup]", "smaller latent_dim", "objective=iwae k=50"):
            assert part in words


@pytest.mark.parametrize("shared", [True, False])
def test_gaussians_of_one_covariance_are_scored_as_torch_scores_them(shared):
    factors = torch.randn(1 if shared else 6, 3, 3).tril(-1) + torch.diag(torch.tensor([0.2, 1.0, 3.0]))
    every = MultivariateNormal(10 * torch.randn(6, 3), scale_tril=factors.expand(6, 3, 3))
    z = 10 * torch.randn(4, 2, 3)
    found = module._under_every(every, z)
    expected = torch.stack(
        [MultivariateNormal(m, scale_tril=f).log_prob(z) for m, f in zip(every.loc, every.scale_tril, strict=True)], -1
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
