"""The contract of objectives: special cases, exactness under the posterior, and gradients against exact ones."""

import itertools

import numpy as np
import pytest
import torch
from budget import assert_mean
from pieces import build, names
from torch.distributions import Independent, Normal, kl_divergence

from taut.errors import UserError
from taut.functional import bounds
from taut.model import exact_inference
from taut.model.draws import draw
from taut.objective.base import mean_of_others
from taut.objective.elbo import gaussian_kl

pytestmark = pytest.mark.usefixtures("float64")
objectives = pytest.mark.parametrize("name", names("objective"))


@objectives
def test_one_sample_is_the_elbo(name):
    _, _, objective = build(f"objective={name}")
    log_w = torch.randn(1, 5)
    torch.testing.assert_close(objective.bound(log_w), log_w[0])


@objectives
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(
    "model", [["model=ppca"], ["model=fa"], ["model=mog", "model.components=4"]], ids=["ppca", "fa", "mog"]
)
def test_under_the_posterior_the_bound_is_log_px(name, k, model):
    joint, q, objective = build(*model, f"objective={name}")
    x = torch.randn(5, 1, 4, 4)
    bound = objective.bound(draw(joint, q, x, k).log_w)
    torch.testing.assert_close(bound, exact_inference.log_marginal(joint, x), rtol=1e-11, atol=1e-11)


@objectives
def test_bounds_read_samples_first(name):
    _, _, objective = build(f"objective={name}")
    log_w = torch.randn(3, 5)
    bound = objective.bound(log_w)
    assert bound.shape == (5,)
    torch.testing.assert_close(bound[2], objective.bound(log_w[:, 2:3])[0])


def _flat(*modules: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for m in modules for p in m.parameters() if p.grad is not None])


def _gradient(value: torch.Tensor, *modules: torch.nn.Module) -> torch.Tensor:
    for module in modules:
        module.zero_grad(set_to_none=False)
    value.backward()
    return _flat(*modules).clone()


def _gaussian(*overrides: str):
    joint, q, objective = build(
        "model=ppca", "q=diagonal", "latent_dim=1", "network.hidden=[]", *overrides, x_shape=(2,)
    )
    return joint, q, objective


def _quadrature_bound(joint, q, x, k: int, per_sample: bool) -> torch.Tensor:
    """E of the K-sample bound (or of the ELBO) by Gauss-Hermite quadrature over the noise of each sample."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    grid = torch.tensor(np.stack(np.meshgrid(*[nodes] * k, indexing="ij")).reshape(k, -1))
    mass = torch.tensor(np.prod(np.stack(np.meshgrid(*[weights] * k, indexing="ij")).reshape(k, -1), 0))
    mass = mass / mass.sum()
    posterior = q(x)
    z = posterior.mean + posterior.base_dist.scale * grid.unsqueeze(-1)  # [k, nodes, 1]: one datum, many noises
    log_w = joint.log_prob(x.expand(grid.shape[1], -1), z) - posterior.log_prob(z)
    return (mass * (bounds.elbo(log_w) if per_sample else bounds.iwae(log_w))).sum()


@pytest.mark.parametrize(
    ("name", "k", "extra"),
    [
        ("elbo", 2, ["objective.kl=sampled"]),
        ("elbo", 2, ["objective.kl=analytic"]),
        ("iwae", 1, []),
        ("iwae", 2, []),
        ("dreg", 2, []),
        ("stl", 1, []),
    ],
)
def test_mean_gradient_is_the_exact_one_where_draws_are_reparameterised(name, k, extra):
    joint, q, objective = _gaussian(f"objective={name}", *extra)
    x = torch.tensor([[0.5, -1.0]])
    truth = -_gradient(_quadrature_bound(joint, q, x, k, per_sample=name == "elbo"), joint, q)
    many = x.expand(400, -1)
    gradients = torch.stack(
        [
            _gradient(objective.surrogate(draw(joint, q, many, k, path_only=objective.path_only)), joint, q)
            for _ in range(120)
        ]
    )
    assert_mean(gradients, truth, detects=0.06 * truth.norm().item())


@pytest.mark.parametrize(("name", "k"), [("elbo", 2), ("iwae", 2), ("iwae", 3), ("vimco", 2), ("vimco", 3)])
def test_mean_gradient_is_the_exact_one_for_categories(name, k):
    joint, q, objective = build(
        "model=mog",
        "model.components=3",
        "q=categorical",
        f"objective={name}",
        "network.hidden=[]",
        x_shape=(2,),
    )
    x = torch.tensor([[0.5, -1.0]])
    every = torch.eye(3).unsqueeze(1)
    log_q = q(x).log_prob(every)  # [3, 1]
    log_w = joint.log_prob(x, every) - log_q
    truth = torch.zeros(())
    for chosen in itertools.product(range(3), repeat=k):
        rows = list(chosen)
        value = bounds.elbo(log_w[rows]) if name == "elbo" else bounds.iwae(log_w[rows])
        truth = truth + (log_q[rows].sum(0).exp() * value).sum()
    truth = -_gradient(truth, joint, q)
    many = x.expand(400, -1)
    gradients = torch.stack([_gradient(objective.surrogate(draw(joint, q, many, k)), joint, q) for _ in range(150)])
    assert_mean(gradients, truth, detects=0.12 * truth.norm().item())


@pytest.mark.parametrize(
    "model", [["model=ppca"], ["model=fa"], ["model=mog", "model.components=4"]], ids=["ppca", "fa", "mog"]
)
def test_gradient_of_exact_has_no_noise(model):
    joint, q, objective = build(*model, "objective=exact")
    x = torch.randn(5, 1, 4, 4)
    truth = _gradient(-exact_inference.log_marginal(joint, x).mean(), joint)
    for _ in range(3):
        torch.testing.assert_close(
            _gradient(objective.surrogate(draw(joint, q, x, 1)), joint), truth, rtol=1e-9, atol=1e-10
        )


def _at_the_posterior(name: str):
    """A full q that equals the posterior of probabilistic PCA: linear mean, constant covariance."""
    joint, q, objective = build(
        "model=ppca", "q=full", f"objective={name}", "network.hidden=[]", "latent_dim=2", x_shape=(3,)
    )
    exact = exact_inference.posterior(joint, torch.zeros(1, 3))
    gain = torch.stack([exact_inference.posterior(joint, row[None]).mean[0] for row in torch.eye(3)], 1) - exact.mean.T
    factor = exact.scale_tril[0]
    with torch.no_grad():
        layer = q.encoder.net[0]
        layer.weight.zero_()
        layer.weight[:2] = gain
        layer.bias.copy_(torch.cat([exact.mean[0], 2 * factor.diagonal().log(), factor[1, :1]]))
    return joint, q, objective


@pytest.mark.parametrize("name", ["stl", "dreg"])
@pytest.mark.parametrize("k", [1, 4])
def test_path_gradients_of_q_vanish_at_the_posterior_for_every_draw(name, k):
    joint, q, objective = _at_the_posterior(name)
    x = torch.randn(6, 3)
    gradient = _gradient(objective.surrogate(draw(joint, q, x, k, path_only=True)), q)
    assert gradient.abs().max().item() < 1e-12
    _, _, plain = build("objective=iwae")
    noisy = _gradient(plain.surrogate(draw(joint, q, x, k)), q)
    assert noisy.abs().max().item() > 1e-3


def test_dreg_has_the_bound_of_iwae_and_less_noise_than_it():
    joint, q, dreg = _gaussian("objective=dreg")
    _, _, iwae = _gaussian("objective=iwae")
    x = torch.tensor([[0.5, -1.0]]).expand(50, -1)
    spread = {
        o.name: torch.stack(
            [_gradient(o.surrogate(draw(joint, q, x, 20, path_only=o.path_only)), q) for _ in range(100)]
        )
        for o in (dreg, iwae)
    }
    assert spread["dreg"].var(0).sum() < 0.7 * spread["iwae"].var(0).sum()


@pytest.mark.parametrize(("left", "right"), [("diagonal", "full"), ("full", "diagonal"), ("diagonal", "diagonal")])
def test_gaussian_kl_equals_monte_carlo_free_formula(left, right):
    def instantiate(kind: str):
        mean = torch.randn(4, 3)
        if kind == "diagonal":
            return Independent(Normal(mean, torch.rand(4, 3) + 0.5), 1)
        return torch.distributions.MultivariateNormal(mean, scale_tril=torch.randn(4, 3, 3).tril(-1) + torch.eye(3))

    def dense(d):
        return d.covariance_matrix if hasattr(d, "covariance_matrix") else torch.diag_embed(d.variance)

    q, p = instantiate(left), instantiate(right)
    precision, difference = torch.linalg.inv(dense(p)), p.mean - q.mean
    expected = 0.5 * (
        torch.einsum("bij,bji->b", precision, dense(q))
        + torch.einsum("bi,bij,bj->b", difference, precision, difference)
        - 3
        + torch.logdet(dense(p))
        - torch.logdet(dense(q))
    )
    torch.testing.assert_close(gaussian_kl(q, p), expected)
    if left == right == "diagonal":
        torch.testing.assert_close(kl_divergence(q, p), expected)


def test_kl_weight_touches_the_surrogate_and_never_the_bound():
    joint, q, objective = build()
    x = torch.randint(2, (5, 1, 4, 4)).double()
    draws = draw(joint, q, x, 4)
    light = type(draws)(**{**vars(draws), "kl_weight": 0.0})
    assert torch.equal(objective.bound(light.log_w), objective.bound(draws.log_w))
    torch.testing.assert_close(objective.surrogate(light), -draws.log_px.mean())


REFUSED = [
    (["model=mog", "k=50"], 50, "objective=em uses the exact"),
    (["model=mog", "q=categorical"], 1, "objective=em needs q=exact"),
    (["model=mog", "q=categorical", "objective=stl"], 4, "objective=stl needs a q with reparameterised"),
    (["model=mog", "q=categorical", "objective=dreg"], 4, "objective=dreg needs a q with reparameterised"),
    (["model=mog", "q=categorical", "objective=iwae"], 1, "k >= 2"),
    (["model=mog", "q=categorical", "objective=vimco"], 1, "k >= 2"),
    (["q=prior", "prior=mixture"], 1, "k >= 2"),
    (["objective=vimco"], 5, "can; choose objective=iwae"),
    (["objective=exact"], 1, "objective=exact needs q=exact"),
    (["prior=mixture", "objective.kl=analytic"], 1, "objective.kl=analytic needs a Gaussian"),
    (["model=mog", "likelihood=bernoulli"], 1, "objective=em has no closed-form maximum"),
]


@pytest.mark.parametrize(
    ("overrides", "k", "message"), REFUSED, ids=lambda v: " ".join(v) if isinstance(v, list) else None
)
def test_meaningless_combinations_are_refused_with_a_way_out(overrides, k, message):
    joint, q, objective = build(*overrides)
    with pytest.raises(UserError, match=message):
        objective.check(joint, q, k, torch.zeros(2, 1, 4, 4))


def test_mean_of_others_leaves_one_out():
    values = torch.tensor([[1.0], [2.0], [6.0]])
    assert mean_of_others(values).flatten().tolist() == [4.0, 3.5, 1.5]
    assert mean_of_others(values[:1]).flatten().tolist() == [1.0]
