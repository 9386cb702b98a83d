"""A mixture as q: one component, two modes, and a bound whatever K is."""

import pytest
import torch
from budget import assert_mean
from pieces import build
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from taut.errors import UserError
from taut.evidence import Rows, Target
from taut.evidence.gap import decompose
from taut.evidence.optimal_q import Family, Search
from taut.evidence.peaks import components_of
from taut.functional.precision import in_double
from taut.model.draws import draw

pytestmark = pytest.mark.usefixtures("float64")
IMAGES = (3, 1, 4, 4)


def _posterior(left: float = 0.5) -> MixtureSameFamily:
    """A posterior of two modes, far apart and of unlike width."""
    each = Independent(Normal(torch.tensor([[-3.0], [3.0]]), torch.tensor([[0.5], [0.2]])), 1)
    return MixtureSameFamily(Categorical(torch.tensor([left, 1 - left])), each)


def test_one_component_is_diagonal_to_the_bit():
    """Weights, draws, densities and gradients of a training step."""
    results = []
    for words in (["q=diagonal"], ["q=mixture", "q.components=1"]):
        torch.manual_seed(0)
        joint, q, objective = build(*words, "objective=iwae")
        torch.manual_seed(1)
        draws = draw(joint, q, torch.randint(2, IMAGES).double(), 5)
        results.append([draws.log_w, *torch.autograd.grad(objective.surrogate(draws), list(q.parameters()))])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("name", ["mixture", "diagonal"])
def test_two_modes_are_no_gap_for_two_components_and_one_for_a_single_gaussian(name):
    words = ["q=mixture", "q.components=2"] if name == "mixture" else ["q=diagonal"]
    _, q, _ = build(*words, "latent_dim=1")
    start = torch.tensor([[-2.0, 0.0, 2.0, 0.0] if name == "mixture" else [0.5, 0.0]])
    family = Family(lambda p: in_double(q.distribution(p)), lambda x: start.expand(len(x), -1))
    log_joint = lambda x, z: _posterior().log_prob(z) - 2  # noqa: E731
    target = Target(log_joint, lambda x: family.distribution(family.parameters(x)))
    parts = decompose(Rows(target, torch.zeros(1, 1)), family, Search(250, 16, 0.1), k=1000)
    gap = (-2 - parts.best).item()
    if name == "mixture":
        assert abs(gap) < 0.01
    else:
        assert gap == pytest.approx(torch.tensor(2.0).log().item(), abs=0.05)  # it covers one of two equal modes


@pytest.mark.parametrize("k", [1, 2, 3])
def test_weights_of_stratified_draws_are_unbiased_whatever_k_is(k):
    """E mean w = p(x) = 1: scored under the own component instead of the mixture, or begun at the first one."""
    _, q, _ = build("q=mixture", "q.components=2", "latent_dim=1")
    mixture = q.distribution(torch.tensor([[-3.0, -1.0, 2.0, 1.0]]).expand(40_000, -1))
    z = mixture.rsample((k,))
    w = (_posterior(0.8).log_prob(z) - mixture.log_prob(z)).exp().mean(0)
    assert_mean(w, 1.0, detects=0.1)


@pytest.mark.parametrize("name", ["mixture", "flow", "low_rank"])
def test_path_gradients_vanish_for_every_draw_where_q_is_the_posterior(name):
    """A score of q that is left in: log q must be scored with the parameters held constant."""
    prior = ["prior=mixture", "prior.components=2", "prior.learn_weights=false"] if name == "mixture" else []
    joint, q, objective = build(
        *prior, f"q={name}", "objective=stl", "latent_dim=2", "network.hidden=[]",
        *(["q.components=2"] if name == "mixture" else []),
    )  # fmt: skip
    last = q.encoder.net[-1]
    with torch.no_grad():
        for parameter in (*joint.likelihood.parameters(), last.weight, last.bias):
            parameter.zero_()
        if name == "mixture":
            parts = [joint.prior.means, 2 * joint.prior.log_scales]
            last.bias.copy_(torch.cat(parts, 1).flatten())
        elif name == "low_rank":
            last.bias[4:] = -torch.eye(2).flatten()
        else:
            for network in q.couplings.networks:
                network[-1].weight.zero_()
                network[-1].bias.zero_()
    draws = draw(joint, q, torch.randint(2, IMAGES).double(), 3, path_only=True)
    torch.testing.assert_close(draws.log_w, torch.full_like(draws.log_w, -16 * torch.tensor(2.0).log().item()))
    gradients = torch.autograd.grad(objective.surrogate(draws), list(q.parameters()))
    assert max(gradient.abs().max().item() for gradient in gradients) < 1e-12


def test_doubly_reparameterised_gradients_are_refused():
    joint, q, objective = build("q=mixture", "objective=dreg")
    x = torch.zeros(IMAGES)
    with pytest.raises(UserError, match="objective=dreg needs independent draws, but q=mixture draws from its"):
        objective.check(joint, q, 2, x)
    objective.check(joint, q, 1, x)
    joint, q, objective = build("q=mixture", "q.components=1", "objective=dreg")
    objective.check(joint, q, 2, x)


def test_a_quadrature_is_told_of_every_component():
    """Its mean and deviation of the whole would hide two narrow peaks."""
    _, q, _ = build("q=mixture", "q.components=2", "latent_dim=1")
    marks = components_of(q.distribution(torch.tensor([[-3.0, -2.0, 3.0, -4.0]])))
    torch.testing.assert_close(marks.centre, torch.tensor([[-3.0], [3.0]]))
    torch.testing.assert_close(marks.scale, torch.tensor([[-1.0], [-2.0]]).exp())
