"""Several categories behind networks, against sums over all of their C^D values."""

import itertools

import pytest
import torch
from budget import assert_mean
from pieces import build, perturbed
from torch import Tensor
from torch.nn.functional import one_hot

from taut.errors import UserError
from taut.evidence import AIS, Exact, Importance, Naive, Target, Uniform
from taut.evidence.optimal_q import Family
from taut.evidence.rows import Rows
from taut.functional.bounds import iwae
from taut.objective.free_bits import kl_of_coordinates

pytestmark = pytest.mark.usefixtures("float64")
CATEGORIES = ["prior=categoricals", "q=categoricals", "prior.categories=3", "network.hidden=[]"]


def _values(d: int) -> Tensor:
    return one_hot(torch.tensor(list(itertools.product(range(3), repeat=d))), 3).flatten(1).double()


def _log_joint(joint, x: Tensor) -> Tensor:
    """log p(x, z) for all z, ``[3^d, b]``, by hand."""
    log_odds = joint.prior.logits.log_softmax(-1)
    z = _values(len(log_odds))
    return (z @ log_odds.flatten()).unsqueeze(1) + joint.likelihood(z.unsqueeze(1)).log_prob(x)


def _perturbed(*words: str, d: int):
    return perturbed(*CATEGORIES, *words, f"latent_dim={d}")


def test_the_bound_is_below_a_sum_over_all_states_and_evidence_finds_that_sum():
    joint, q, objective = _perturbed("objective=vimco", d=4)
    x = torch.randint(2, (3, 1, 2, 2)).double()
    with torch.no_grad():
        truth = _log_joint(joint, x).logsumexp(0)
        bounds = torch.stack([objective.bound(objective.draw(joint, q, x, 10).log_w) for _ in range(200)])
        assert (bounds.mean(0) < truth).all()
        rows = Rows(Target.of(joint, q), x)
        torch.testing.assert_close(Exact().estimate(rows).value, truth, rtol=1e-12, atol=1e-12)
        for evidence in (Importance(k=2000), Naive(k=2000), Uniform(k=2000)):
            found = evidence.estimate(rows)
            assert ((found.value - truth).abs() < 5 * found.standard_error + 1e-3).all(), evidence.name


def test_the_gradient_is_that_of_the_sum_over_all_pairs_of_states():
    """Two categories of three values and k = 2: 81 pairs of draws."""
    joint, q, objective = _perturbed("objective=vimco", d=2)
    x, z = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]]), _values(2)
    log_q = (z.view(-1, 2, 3) * q.parameters_of(x).view(2, 3).log_softmax(-1)).sum((1, 2)).unsqueeze(1)
    log_w = _log_joint(joint, x) - log_q
    pairs = [list(pair) for pair in itertools.product(range(9), repeat=2)]
    mean = torch.stack([(log_q[rows].sum(0).exp() * iwae(log_w[rows])).sum() for rows in pairs]).sum()
    parameters = [*joint.parameters(), *q.parameters()]
    flat = lambda value: torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])  # noqa: E731
    expected = flat(-mean)
    many = x.expand(300, -1, -1, -1)
    steps = torch.stack([flat(objective.surrogate(objective.draw(joint, q, many, 2))) for _ in range(80)])
    assert_mean(steps, expected, detects=0.2 * expected.norm().item())


def test_the_kl_of_each_category_adds_up_to_a_sum_over_all_states():
    joint, q, _ = _perturbed("objective=free_bits", d=2)
    x = torch.randint(2, (3, 1, 2, 2)).double()
    log_q, log_p = (d.log_prob(_values(2).unsqueeze(1)) for d in (q(x), joint.prior()))
    found = kl_of_coordinates(q(x), joint.prior())
    assert found.shape == (3, 2)
    torch.testing.assert_close(found.sum(1), (log_q.exp() * (log_q - log_p)).sum(0))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prior=categoricals"], "makes it several categories; choose q=categoricals"),
        (["q=categoricals"], "a z of several categories, which prior=normal does not make it"),
        (["prior=categoricals", "q=bernoulli"], "q=bernoulli is for a binary z"),
        (["prior=categoricals", "q=categorical"], "makes it several; choose q=categoricals"),
        ([*CATEGORIES, "likelihood=component"], "makes it several of them; choose model=mog"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_several_categories_do_not_go_with_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        build(*words)


def test_more_values_than_are_summed_over_are_neither_summed_nor_moved_by_gradients():
    joint, q, objective = build(*CATEGORIES, "latent_dim=7", "objective=dreg")
    with pytest.raises(UserError, match="objective=dreg needs a q with reparameterised draws"):
        objective.check(joint, q, 5, torch.zeros(2, 1, 4, 4))
    assert Family.of(q) is None
    with pytest.raises(UserError, match="z is made of categories here"):
        AIS().check(Target.of(joint, q))
    with pytest.raises(UserError, match="evidence=exact does not fit"):
        Exact().check(Target.of(joint, q))
