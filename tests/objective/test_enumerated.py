"""Objectives of a discrete z whose q learns by other than the bound's own gradient, against sums over all draws."""

import itertools
from functools import cache

import pytest
import torch
from budget import assert_mean
from pieces import build
from torch import Tensor, nn
from torch.distributions import OneHotCategorical

from taut.errors import UserError
from taut.functional.bounds import iwae
from taut.objective.gumbel import relaxed

pytestmark = pytest.mark.usefixtures("float64")

BITS = ["prior=bernoulli", "q=bernoulli", "latent_dim=2"]
X = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]])
ROWS, STEPS = 300, 100


@cache
def _binary(d: int) -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=d)), dtype=torch.float64)


def _model(*words: str):
    """A model of four pixels, away from where it starts."""
    joint, q, objective = build(*words, "network.hidden=[]", x_shape=(1, 2, 2))
    with torch.no_grad():
        for parameter in (*joint.parameters(), *q.parameters()):
            parameter.add_(0.7 * torch.randn_like(parameter))
    return joint, q, objective


def _flat(value: Tensor, module: nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(module.parameters()), retain_graph=True)])


def _steps(joint, q, objective, k: int) -> Tensor:
    """Gradients of many steps, each the mean over many copies of one datum."""
    found = []
    for _ in range(STEPS):
        value = objective.surrogate(objective.draw(joint, q, X.expand(ROWS, -1, -1, -1), k))
        found.append(torch.cat([_flat(value, joint), _flat(value, q)]))
    return torch.stack(found)


@pytest.mark.parametrize("phase", ["wake", "sleep"])
def test_wake_sleep_has_the_model_climb_the_bound_and_q_its_own_loss(phase):
    """All sixteen pairs of draws of two bits; asleep, all pairs of z and x."""
    joint, q, objective = _model(*BITS, "objective=rws", f"objective.phase={phase}")
    z = _binary(2).unsqueeze(1)
    log_q = q(X).log_prob(z)
    log_w = joint.log_prob(X, z) - log_q
    pairs = [list(pair) for pair in itertools.product(range(4), repeat=2)]
    chance = [log_q[pair].sum(0).exp().detach() for pair in pairs]
    bound = sum(p * iwae(log_w[pair]) for p, pair in zip(chance, pairs, strict=True))
    if phase == "wake":
        weighted = [(log_w[pair].softmax(0).detach() * log_q[pair]).sum(0) for pair in pairs]
        of_q = sum(p * value for p, value in zip(chance, weighted, strict=True))
    else:
        images = _binary(4).view(16, 1, 2, 2)
        of_q = (joint.log_prob(images, z.expand(-1, 16, -1)).exp().detach() * q(images).log_prob(z)).sum()
    expected = torch.cat([_flat(-bound, joint), _flat(-of_q, q)])
    assert_mean(_steps(joint, q, objective, 2), expected, detects=0.15 * expected.norm().item())


def test_wake_sleep_takes_draws_of_a_continuous_z_for_constants():
    joint, q, objective = _model("objective=rws", "latent_dim=2")
    draws = objective.draw(joint, q, X, 3)
    assert not draws.z.requires_grad
    weights = draws.log_w.detach().softmax(0)
    by_hand = -(weights * q(X).log_prob(draws.z.detach())).sum()
    torch.testing.assert_close(_flat(objective.surrogate(draws), q), _flat(by_hand, q))


def test_q_dreams_with_the_holes_of_the_data():
    joint, q, objective = _model(*BITS, "objective=rws", "objective.phase=sleep")
    seen = []
    q.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    objective.draw(joint, q, X.masked_fill(X == 0, torch.nan), 2)
    assert torch.equal(seen[1].isnan(), X == 0)


@pytest.mark.parametrize(
    ("words", "k", "message"),
    [
        ([*BITS, "objective=rws"], 1, "needs k >= 2, but k=1; set k=2 or more, or objective.phase=sleep"),
        (["q=prior", "objective=rws"], 3, "q=prior has no parameters of its own; choose objective=iwae"),
        (["objective=disarm"], 2, "q=diagonal under prior=normal draws no bits; choose prior=bernoulli q=bernoulli"),
        ([*BITS, "objective=disarm"], 3, "k must be even, but k=3; set k=4"),
        (["objective=gumbel"], 3, "q=diagonal gives none; choose prior=bernoulli q=bernoulli"),
        (["model=mog", "q=categorical", "objective=gumbel"], 3, "which likelihood=component looks up in a table"),
        (["objective=reinforce"], 3, "those of q=diagonal can; choose objective=elbo"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_does_not_go_together_is_refused(words, k, message):
    joint, q, objective = build(*words)
    with pytest.raises(UserError, match=message):
        objective.check(joint, q, k, torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize("words", [["bernoulli"], ["categoricals", "prior.categories=2"]], ids=lambda words: words[0])
def test_the_relaxed_gradient_is_that_of_a_quadrature_over_the_noise(words):
    """One bit, or one category of two values: the difference of two Gumbel variables is logistic."""
    name, *more = words
    joint, q, objective = _model(f"prior={name}", f"q={name}", *more, "latent_dim=1", "objective=gumbel")
    grid = (torch.arange(4000) + 0.5) / 4000
    log_odds = q.parameters_of(X)[0]
    gap = log_odds[0] if name == "bernoulli" else log_odds[0] - log_odds[1]
    one = ((gap + grid.logit()) / 0.5).sigmoid()
    z = one[:, None] if name == "bernoulli" else torch.stack([one, 1 - one], -1)
    every = joint.prior().enumerate_support()
    log_q, log_p = q(X).log_prob(every.unsqueeze(1))[:, 0], joint.prior().log_prob(every)
    kl = (log_q.exp() * (log_q - log_p)).sum()
    loss = kl - joint.likelihood(z.unsqueeze(1)).log_prob(X).mean()
    expected = torch.cat([_flat(loss, joint), _flat(loss, q)])
    assert_mean(_steps(joint, q, objective, 2), expected, detects=0.15 * expected.norm().item())


def test_the_largest_of_relaxed_categories_is_a_draw_of_the_discrete_one():
    """Gumbel's trick; of two categories noise of either sign would do, as their difference is symmetric."""
    q = OneHotCategorical(logits=torch.tensor([[0.0, 1.0, 2.5]], dtype=torch.float64))
    largest = relaxed(q, 0.5, 20_000)[:, 0].argmax(-1)
    found = torch.bincount(largest, minlength=3) / len(largest)
    error = (q.probs[0] * (1 - q.probs[0]) / len(largest)).sqrt()
    assert ((found - q.probs[0]).abs() <= 5 * error).all()


def test_what_is_reported_of_a_relaxed_training_is_the_discrete_model():
    """And near temperature 0 the surrogate is minus the ELBO, which a sum over four states gives."""
    joint, q, objective = _model(*BITS, "objective=gumbel", "objective.temperature=0.001")
    x = X.expand(2000, -1, -1, -1)
    with torch.no_grad():
        draws = objective.draw(joint, q, x, 3)
        assert ((draws.z == 0) | (draws.z == 1)).all()
        torch.testing.assert_close(draws.log_w, joint.log_prob(x, draws.z) - q(x).log_prob(draws.z))
        z = _binary(2).unsqueeze(1)
        log_q = q(X).log_prob(z)
        truth = (log_q.exp() * (joint.log_prob(X, z) - log_q)).sum()
        values = torch.stack([-objective.surrogate(objective.draw(joint, q, x[:50], 3)) for _ in range(200)])
    assert_mean(values, truth, detects=0.1)
    assert_mean(objective.bound(draws.log_w), truth, detects=0.3)
