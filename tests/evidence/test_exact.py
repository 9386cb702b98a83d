"""Exact values against scipy and sums written out by hand, to 1e-9; peaks of any width to 1e-6, or a refusal."""

from itertools import product

import numpy as np
import pytest
import torch
from evidence.models import bernoulli_mixture, boxed, curved
from pieces import build
from scipy import stats
from scipy.special import logsumexp
from torch.distributions import Bernoulli, Categorical, Exponential, Independent, MixtureSameFamily, Normal

from taut.errors import UserError
from taut.evidence import Exact, Target, exact, peaks
from taut.evidence.exact import Drawn
from taut.evidence.quadrature import Marks, graded
from taut.testing import gaussian_mixture, linear_gaussian

pytestmark = pytest.mark.usefixtures("float64")

CASES = {
    "gaussian, 1 dimension": lambda: linear_gaussian(1, 4, 5),
    "gaussian, 2 dimensions": lambda: linear_gaussian(2, 4, 5),
    "gaussian, sharp": lambda: linear_gaussian(2, 4, 3, noise=0.01),
    "mixture of Gaussians": lambda: gaussian_mixture(7),
    "mixture of Bernoullis": bernoulli_mixture,
    "two modes": curved,
    "two modes narrower than the grid": lambda: curved(1e-3, shift=0.0137),
    "a box": boxed,
}


@pytest.mark.parametrize("name", CASES)
def test_exact_is_exact(name):
    target, x, _, truth = CASES[name]()
    found = Exact()(target, x)
    assert found.kind == "exact"
    torch.testing.assert_close(found.value, truth, rtol=1e-11, atol=1e-9)
    assert found.variance.max() == 0


def test_all_images_of_a_mixture_share_one_probability():
    target, x, _, _ = bernoulli_mixture()
    assert Exact()(target, x).value.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_a_model_with_a_closed_form_uses_it():
    joint, q, _ = build("model=ppca", "q=diagonal", x_shape=(6,))
    x = torch.randn(4, 6)
    weight, variance = joint.likelihood.weight.detach(), joint.likelihood.variance.item()
    covariance = (weight @ weight.T + variance * torch.eye(6)).numpy()
    truth = stats.multivariate_normal(joint.likelihood.mean.detach().numpy(), covariance).logpdf(x.numpy())
    torch.testing.assert_close(Exact()(Target.of(joint, q), x).value, torch.as_tensor(truth), rtol=0, atol=1e-9)


def test_a_mixture_prior_under_a_line_is_a_mixture():
    joint, q, _ = build("model=ppca", "q=diagonal", "prior=mixture", "prior.components=3", "latent_dim=1", x_shape=(2,))
    x = torch.randn(4, 2)
    closed = Target.of(joint, q)
    summed = Target(closed.log_joint, closed.q, closed.prior)  # forgets its closed form, and integrates
    torch.testing.assert_close(Exact()(summed, x).value, Exact()(closed, x).value, rtol=0, atol=1e-9)


def test_a_posterior_far_from_prior_and_q_is_found():
    """Ten deviations are not enough for x = 40 under a sharp likelihood; a one-sided support has one end."""
    prior = Independent(Normal(torch.zeros(1), 1.0), 1)
    far = Target(
        lambda x, z: prior.log_prob(z) + Normal(z, 0.1).log_prob(x).sum(-1),
        lambda x: Independent(Normal(torch.zeros(len(x), 1), 1.0), 1),
        prior,
    )
    x = torch.tensor([[40.0], [-300.0], [0.1]])
    truth = torch.as_tensor(stats.norm(0, 1.01**0.5).logpdf(x[:, 0].numpy()))
    torch.testing.assert_close(Exact()(far, x).value, truth, rtol=1e-12, atol=1e-9)
    half = Independent(Exponential(torch.ones(1)), 1)
    one_sided = Target(
        lambda x, z: half.log_prob(z) + Normal(z, 1.0).log_prob(x).sum(-1),
        lambda x: Independent(Exponential(torch.ones(len(x), 1)), 1),
        half,
    )
    truth = stats.exponnorm(1.0).logpdf(0.7)
    assert Exact()(one_sided, torch.tensor([[0.7]])).value.item() == pytest.approx(truth, abs=1e-9)


def test_what_does_not_fit_is_refused_with_what_would():
    target, x, _, _ = linear_gaussian(3, 4, 2)
    with pytest.raises(UserError, match=r"3-dimensional z .*evidence=importance or ais"):
        Exact()(target, x)


def test_a_quadrature_that_does_not_settle_is_no_value():
    prior = Independent(Normal(torch.zeros(1), 1.0), 1)
    jumps = Target(
        lambda x, z: prior.log_prob(z) + (1e4 * z[..., 0] + 1).sin().sign(),
        lambda x: Independent(Normal(torch.zeros(len(x), 1), 1.0), 1),
        prior,
    )
    with pytest.raises(UserError, match="row 0 does not settle"):
        Exact()(jumps, torch.zeros(1, 1))


def _mixture(seed, d):
    """Weights, means and deviations of 2 to 5 Gaussians, one of them broad, the others down to 1e-6."""
    generator = torch.Generator().manual_seed(seed)
    components = 2 + seed % 4
    weights = (2 * torch.randn(components, generator=generator)).softmax(0)
    means = 2 * torch.randn(components, d, generator=generator)
    stds = 10 ** (-1 - 5 * torch.rand(components, d if seed % 2 else 1, generator=generator)).expand(-1, d)
    return weights, means, torch.cat([torch.ones(1, d), stds[1:]])


def _under(prior, likelihood, q_deviation):
    d = prior.event_shape[0]
    return Target(
        lambda x, z: prior.log_prob(z) + likelihood(z).log_prob(x),
        lambda x: Independent(Normal(torch.zeros(len(x), d), q_deviation), 1),
        prior,
    )


def _prior(weights, means, stds):
    return MixtureSameFamily(Categorical(probs=weights), Independent(Normal(means, stds), 1))


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_narrow_components_of_a_prior_are_found_wherever_they_are(seed, d):
    """x = Wz + noise is a mixture in closed form; q knows nothing and is narrow or broad."""
    parts = _mixture(seed, d)
    generator = torch.Generator().manual_seed(100 + seed)
    weight, noise = torch.randn(2, d, generator=generator), 10 ** (-0.2 * seed)
    z = parts[1][seed % len(parts[1])]  # the datum of one component
    x = (weight @ z + noise * torch.randn(2, generator=generator)).unsqueeze(0)
    truth = logsumexp(
        [
            np.log(p.item())
            + stats.multivariate_normal(weight @ m, weight * s**2 @ weight.T + noise**2 * torch.eye(2)).logpdf(x[0])
            for p, m, s in zip(*parts, strict=True)
        ]
    )
    target = _under(_prior(*parts), lambda z: Independent(Normal(z @ weight.T, noise), 1), 0.01 if seed % 3 else 1.0)
    assert Exact()(target, x).value.item() == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_narrow_components_under_pixels(seed, d):
    """Each component integrated by itself, by numpy's Gauss-Hermite rule of 80 nodes."""
    weights, means, stds = _mixture(seed, d)
    weight = torch.randn(6, d, generator=torch.Generator().manual_seed(200 + seed))
    x = (torch.arange(6) % 2).double().unsqueeze(0)
    nodes, masses = np.polynomial.hermite_e.hermegauss(80)
    grid = torch.tensor(list(product(nodes, repeat=d)))
    mass = torch.tensor(list(product(masses, repeat=d))).prod(1) / (2 * torch.pi) ** (d / 2)
    likelihood = lambda z: Independent(Bernoulli(logits=z @ weight.T), 1)  # noqa: E731
    each = [(mass * likelihood(m + s * grid).log_prob(x).exp()).sum() for m, s in zip(means, stds, strict=True)]
    truth = (weights * torch.stack(each)).sum().log().item()
    target = _under(_prior(weights, means, stds), likelihood, 0.3)
    assert Exact()(target, x).value.item() == pytest.approx(truth, abs=1e-8)


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6])
def test_a_narrow_likelihood_is_found_from_any_q(noise):
    prior = Independent(Normal(torch.zeros(2), 1.0), 1)
    target = _under(prior, lambda z: Independent(Normal(z, noise), 1), 1.0)
    x = torch.tensor([[0.73, -1.91]])
    truth = stats.norm(0, (1 + noise**2) ** 0.5).logpdf(x.numpy()).sum()
    assert Exact()(target, x).value.item() == pytest.approx(truth, abs=1e-6)


def test_an_oblique_ridge_is_right_or_refused():
    """A ridge as long as the prior and as narrow as the noise takes more cells the narrower it is."""
    prior, weight = Independent(Normal(torch.zeros(2), 1.0), 1), torch.tensor([[0.6, 0.8]])
    x = torch.tensor([[0.5]])
    for noise in (0.3, 0.03):
        target = _under(prior, lambda z, noise=noise: Independent(Normal(z @ weight.T, noise), 1), 1.0)
        truth = stats.norm(0, (1 + noise**2) ** 0.5).logpdf(0.5)
        assert Exact()(target, x).value.item() == pytest.approx(truth, abs=1e-6)
    with pytest.raises(UserError, match=r"row 0 does not settle: .* use evidence=importance or ais"):
        Exact()(_under(prior, lambda z: Independent(Normal(z @ weight.T, 1e-5), 1), 1.0), x)


def test_an_integral_below_what_samples_find_is_refused(monkeypatch):
    """A quadrature that is told of no narrow component, which equal draws of all components meet."""
    parts = torch.tensor([0.5, 0.5]), torch.tensor([[0.0, 0.0], [0.7, 0.3]]), torch.tensor([[1.0, 1.0], [1e-3, 1e-3]])
    target = _under(_prior(*parts), lambda z: Independent(Normal(z, 0.5), 1), 1.0)
    x = torch.tensor([[0.7, 0.3]])
    near, far = (stats.norm(0, (std**2 + 0.25) ** 0.5).pdf([(0.0, 0.0), (0.7, 0.3)]) for std in (1e-3, 1.0))
    truth = np.log(0.5 * near[0].prod() + 0.5 * far[1].prod())
    assert Exact()(target, x).value.item() == pytest.approx(truth, abs=1e-8)
    monkeypatch.setattr(exact.peaks, "marked", lambda *_: Marks(torch.zeros(1, 2), torch.ones(1, 2)))
    with pytest.raises(
        UserError, match=r"row 0 misses mass: importance sampling from the prior finds .* not by chance"
    ):
        Exact()(target, x)


@pytest.mark.parametrize(
    "weights",
    [
        lambda n: torch.distributions.Pareto(1.0, 1.5).sample(n) / 3,
        lambda n: (torch.rand(n) < 0.999).double() / 0.999,
        lambda n: (torch.rand(n) < 0.001).double() / 0.001,
        lambda n: (3 * torch.randn(n) - 4.5).exp(),
    ],
    ids=["no variance", "rarely none", "rarely one", "log-normal"],
)
def test_honest_samples_contradict_no_honest_integral(weights):
    """Mean 1, with tails of every kind: not once in 2,000 times; of "rarely none" no standard error is to be had."""
    every = weights((2000, 1024)).log()
    nothing = torch.zeros(1024, 1), torch.zeros(1024)
    assert not any(Drawn("q", *nothing, log_w).contradicts(torch.tensor(0.0)) for log_w in every)


def test_samples_that_find_twice_as_much_contradict():
    log_w = (0.5 * torch.randn(1024) - 0.125).exp().log()
    nothing = torch.zeros(1024, 1), torch.zeros(1024)
    assert Drawn("q", *nothing, log_w).contradicts(torch.tensor(-0.69))
    assert not Drawn("q", *nothing, log_w).contradicts(torch.tensor(0.0))
    lonely = torch.cat([torch.full((1023,), -torch.inf), torch.tensor([40.0])])  # by a factor that Markov rules out
    assert Drawn("q", *nothing, lonely).contradicts(torch.tensor(0.0))


def test_narrow_components_of_a_prior_mark_the_grid():
    """Mean and deviations of every component, whatever its weight, and of q."""
    weights, means, stds = _mixture(3, 2)
    target = _under(_prior(weights, means, stds), lambda z: Independent(Normal(z, 0.5), 1), 0.01)
    seen = []
    log_f = lambda z: target.log_joint(torch.zeros(1, 2), z.unsqueeze(1))[:, 0]  # noqa: E731
    found = peaks.marked(log_f, [target.prior, target.q(torch.zeros(1, 2))], [], peaks.limits(target.prior))
    for mean, std in zip([*means, torch.zeros(2)], [*stds, torch.full((2,), 0.01)], strict=True):
        seen.append(((found.centre == mean).all(1) & (found.scale == std).all(1)).any())
    assert all(seen)


def test_a_narrow_likelihood_blind_to_marks_is_found_by_its_slopes(monkeypatch):
    """Between two nodes f can reach about as high as their difference: no mark is needed where it has slopes."""
    target, x, _, truth = curved(1e-3, shift=0.0137)
    monkeypatch.setattr(exact.peaks, "marked", lambda *_: Marks(torch.zeros(1, 1), torch.ones(1, 1)))
    torch.testing.assert_close(Exact()(target, x).value, truth, rtol=1e-11, atol=1e-9)


def test_the_search_climbs_to_a_peak_and_tells_its_width():
    """From 7 away to a peak 10^-5 wide, within a hundredth of its deviations; its width to a factor of 2."""
    centre, std = torch.tensor([[3.3, -4.7]]), torch.tensor([[1e-5, 2e-2]])
    log_f = lambda z: Normal(centre, std).log_prob(z).sum(-1)  # noqa: E731
    ends = torch.full((2,), -torch.inf), torch.full((2,), torch.inf)
    found = peaks.climbed(log_f, torch.tensor([[-1.0, 0.9]]), torch.ones(1, 2), ends)
    assert ((found.centre - centre).abs() < 0.2 * std).all()
    assert ((found.scale / std >= 0.99) & (found.scale / std <= 2.01)).all()


@pytest.mark.parametrize("d", [1, 2])
def test_the_grid_tiles_its_box_and_is_as_fine_as_its_marks(d):
    """Every cell that a peak reaches is at most 2.5 of its deviations wide along each axis; the areas add up."""
    low, high = torch.full((d,), -4.0), torch.arange(5.0, 5.0 + d)
    scales = torch.tensor([[1e-6, 1.0], [1e-2, 1e-3], [3.0, 3.0]])[:, :d]
    found = Marks(torch.tensor([[0.1234, -2.0], [3.9, 3.9], [0.0, 0.0]])[:, :d], scales)
    corner, width = graded(low, high, found)
    assert width.prod(1).sum().item() == pytest.approx((high - low).prod().item(), rel=1e-12)
    assert ((corner >= low - 1e-12) & (corner + width <= high + 1e-12)).all()
    assert len(torch.unique(corner, dim=0)) == len(corner)
    for centre, scale in zip(found.centre, scales, strict=True):
        reached = ((corner <= centre + 5 * scale) & (corner + width >= centre - 5 * scale)).all(1)
        assert reached.any()
        assert (width[reached] <= 2.5 * scale).all()
    assert len(corner) < 2500, "and no finer elsewhere"
