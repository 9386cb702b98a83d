"""Binary latents behind networks, against sums over all of their 2^d values."""

import itertools
from functools import cache

import pytest
import torch
from budget import assert_mean
from pieces import build, perturbed
from torch import Tensor

from taut.errors import UserError
from taut.evidence import AIS, Exact, Importance, Naive, Target, Uniform
from taut.evidence.optimal_q import Family
from taut.evidence.rows import Rows
from taut.model.draws import draw

pytestmark = pytest.mark.usefixtures("float64")
BITS = ["prior=bernoulli", "q=bernoulli", "network.hidden=[]"]


@cache
def _values(d: int) -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=d)), dtype=torch.float64)


def _log_joint(joint, x: Tensor) -> Tensor:
    """log p(x, z) for all z, ``[2^d, b]``, by hand."""
    z = _values(joint.prior.z_shape[0])
    odds = joint.prior.logits
    log_pz = (z * odds).sum(-1) - torch.nn.functional.softplus(odds).sum()
    return log_pz.unsqueeze(1) + joint.likelihood(z.unsqueeze(1)).log_prob(x)


def _perturbed(*words: str, bits: int, x_shape: tuple[int, ...] = (1, 2, 2)):
    return perturbed(*BITS, *words, f"latent_dim={bits}", x_shape=x_shape)


def test_the_bound_of_ten_bits_is_below_a_sum_over_1024_states_and_evidence_finds_that_sum():
    joint, q, objective = _perturbed("objective=vimco", bits=10)
    x = torch.randint(2, (3, 1, 2, 2)).double()
    with torch.no_grad():
        truth = _log_joint(joint, x).logsumexp(0)
        for k in (1, 20):
            bounds = torch.stack([objective.bound(draw(joint, q, x, k).log_w) for _ in range(300)])
            assert (bounds.mean(0) < truth).all()
        target = Target.of(joint, q)
        rows = Rows(target, x)
        torch.testing.assert_close(Exact().estimate(rows).value, truth, rtol=1e-12, atol=1e-12)
        for evidence in (Importance(k=4000), Naive(k=4000), Uniform(k=4000)):
            found = evidence.estimate(rows)
            assert ((found.value - truth).abs() < 5 * found.standard_error + 1e-3).all(), evidence.name


@pytest.mark.parametrize("name", ["elbo", "vimco", "free_bits"])
def test_gradients_are_those_of_the_sum_over_all_pairs_of_states(name):
    """Two bits and k = 2: sixteen pairs of draws."""
    words = ["objective.nats=0"] if name == "free_bits" else []
    joint, q, objective = _perturbed(f"objective={name}", *words, bits=2)
    x, z = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]]), _values(2)
    log_q = q(x).log_prob(z.unsqueeze(1))
    log_w = _log_joint(joint, x) - log_q
    pairs = [list(pair) for pair in itertools.product(range(4), repeat=2)]
    mean = torch.stack([(log_q[rows].sum(0).exp() * objective.bound(log_w[rows])).sum() for rows in pairs]).sum()
    parameters = [*joint.parameters(), *q.parameters()]
    flat = lambda value: torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])  # noqa: E731
    expected = flat(-mean)
    many = x.expand(300, -1, -1, -1)
    steps = torch.stack([flat(objective.surrogate(objective.draw(joint, q, many, 2))) for _ in range(100)])
    assert_mean(steps, expected, detects=0.15 * expected.norm().item())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prior=bernoulli"], "makes it binary; choose q=bernoulli"),
        (["q=bernoulli"], "q=bernoulli is for a binary z, which prior=normal does not make it"),
        (["prior=bernoulli", "q=categorical"], "makes it binary; choose q=bernoulli, or prior=categorical"),
        (["prior=bernoulli", "q=bernoulli", "likelihood=component"], "prior=bernoulli makes it binary"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_binary_latents_do_not_go_with_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        build(*words)


def test_more_bits_than_are_summed_over_are_neither_summed_nor_moved_by_gradients():
    joint, q, objective = build(*BITS, "latent_dim=11", "objective=dreg")
    target, x = Target.of(joint, q), torch.zeros(2, 1, 4, 4)
    with pytest.raises(UserError, match="objective=dreg needs a q with reparameterised draws"):
        objective.check(joint, q, 5, x)
    assert Family.of(q) is None
    with pytest.raises(UserError, match="z is binary here"):
        AIS().check(target)
    with pytest.raises(UserError, match="evidence=exact does not fit"):
        Exact().check(target)
