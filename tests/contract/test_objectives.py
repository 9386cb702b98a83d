"""The contract of objectives, over every yaml, and what is particular to some of them."""

import pytest
import torch
from pieces import build, names
from torch.distributions import Independent, Normal, kl_divergence

from taut.errors import UserError
from taut.model import exact_inference
from taut.model.draws import draw
from taut.objective.base import mean_of_others
from taut.objective.elbo import gaussian_kl
from taut.testing import check_objective
from taut.testing.objectives import check_categories, check_paths

pytestmark = pytest.mark.usefixtures("float64")


OF_ITS_BOUND = {"piwae": ["objective.outer=1"], "beta": ["objective.beta=1"], "free_bits": ["objective.nats=0"]}
WITH_A_LOSS_OF_ITS_OWN = ("rws", "gumbel")
"""Their gradients are held against enumeration in tests/objective."""


@pytest.mark.parametrize("name", names("objective"))
def test_an_objective_keeps_its_contract(name):
    """STL is unbiased for one sample alone; three others have the gradient of their bound at one setting alone."""
    recipe = build(f"objective={name}", *OF_ITS_BOUND.get(name, []))[2]
    check_objective(recipe, {"stl": 1, "disarm": 4}.get(name, 2), gradient=name not in WITH_A_LOSS_OF_ITS_OWN)


@pytest.mark.parametrize(
    ("check", "k", "words"),
    [
        (check_paths, 2, ["objective=elbo", "objective.kl=sampled"]),
        (check_paths, 1, ["objective=iwae"]),
        (check_categories, 3, ["objective=iwae"]),
        (check_categories, 3, ["objective=vimco"]),
        (check_paths, 2, ["objective=iwae", "objective.outer=2"]),
        (check_categories, 4, ["objective=iwae", "objective.outer=2"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_mean_gradient_is_that_of_the_mean_bound(check, k, words):
    assert check(build(*words)[2], k)


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
