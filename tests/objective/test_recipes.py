"""What one objective is at the limits of its settings, and the gradients that are not those of the reported bound."""

import pytest
import torch
from pieces import build
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from taut.errors import UserError
from taut.functional import bounds
from taut.model.draws import Draws, draw
from taut.objective import free_bits
from taut.objective.base import Objective
from taut.objective.free_bits import FreeBits
from taut.objective.piwae import Piwae
from taut.objective.tvo import Tvo
from taut.objective.vr_iwae import VrIwae

pytestmark = pytest.mark.usefixtures("float64")

LINEAR = ["model=ppca", "q=diagonal", "latent_dim=3", "network.hidden=[]"]
CATEGORIES = ["model=mog", "model.components=3", "q=categorical", "network.hidden=[]"]


def _gradients(value: Tensor, *modules: nn.Module) -> list[Tensor]:
    parameters = [p for module in modules for p in module.parameters()]
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def _step(words: list[str], objective: list[str], x: Tensor, k: int, kl_weight: float = 1.0) -> tuple[Tensor, ...]:
    """Bound and gradients of one step, from one seed."""
    torch.manual_seed(3)
    joint, q, recipe = build(*words, *objective, x_shape=tuple(x.shape[1:]))
    draws = draw(joint, q, x, k, kl_weight=kl_weight, path_only=recipe.path_only)
    return recipe.bound(draws.log_w_detached), *_gradients(recipe.surrogate(draws), joint, q)


@pytest.mark.parametrize(
    ("one", "other", "models"),
    [
        (["objective=iwae", "objective.outer=6"], ["objective=elbo", "objective.kl=sampled"], "both"),
        (["objective=piwae", "objective.outer=1"], ["objective=iwae"], "linear"),
        (["objective=ciwae", "objective.beta=0"], ["objective=iwae"], "both"),
        (["objective=ciwae", "objective.beta=1"], ["objective=elbo", "objective.kl=sampled"], "both"),
        (["objective=vr_iwae", "objective.alpha=0"], ["objective=iwae"], "both"),
        (["objective=tvo", "objective.pieces=1"], ["objective=elbo", "objective.kl=sampled"], "both"),
        (["objective=beta", "objective.beta=1"], ["objective=elbo"], "both"),
        (["objective=free_bits", "objective.nats=0"], ["objective=elbo"], "linear"),
        (["objective=reinforce"], ["objective=elbo"], "categories"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_at_a_limit_an_objective_is_another_on_the_same_draws(one, other, models):
    x = torch.randn(4, 2)
    for words in {"linear": [LINEAR], "categories": [CATEGORIES], "both": [LINEAR, CATEGORIES]}[models]:
        for kl_weight in (1.0, 0.3):
            left, right = (_step(words, objective, x, 6, kl_weight) for objective in (one, other))
            for ours, theirs in zip(left, right, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def _far_apart() -> tuple[nn.Module, nn.Module, Draws]:
    """Six draws for each datum whose weights span hundreds of nats, so that most are nothing to the largest."""
    joint, q, _ = build(*LINEAR, x_shape=(2,))
    draws = draw(joint, q, torch.randn(4, 2) * 30, 6)
    assert draws.log_w.std(0).min() > 50
    return joint, q, draws


def test_piwae_gives_the_model_the_gradient_of_one_bound_and_q_that_of_several():
    """Two backward passes, one for each, are the witness."""
    joint, q, draws = _far_apart()
    surrogate = Piwae(3).surrogate(draws)
    for ours, theirs in zip(
        _gradients(surrogate, joint), _gradients(-bounds.iwae(draws.log_w).mean(), joint), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    several = -bounds.block_bound(draws.log_w, 2).mean()
    for ours, theirs in zip(_gradients(surrogate, q), _gradients(several, q), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    # as mixed precision scales what is minimised
    for ours, theirs in zip(_gradients(8 * surrogate, q), _gradients(8 * several, q), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_weighted_kl_is_minimised_and_never_reported():
    x = torch.randn(4, 2)
    bound, *gradients = _step(LINEAR, ["objective=beta", "objective.beta=3"], x, 5, kl_weight=0.5)
    plain, *_ = _step(LINEAR, ["objective=elbo"], x, 5)
    _, *weighted = _step(LINEAR, ["objective=elbo"], x, 5, kl_weight=1.5)
    assert torch.equal(bound, plain)
    for ours, theirs in zip(gradients, weighted, strict=True):
        assert torch.equal(ours, theirs)


def _kl(draws: Draws) -> Tensor:
    """By torch's formula for one coordinate."""
    q, prior = (Normal(d.mean, d.stddev) for d in (draws.q, draws.prior))
    return kl_divergence(q, prior)


def test_bits_are_free_below_the_limit_in_the_mean_over_the_batch():
    joint, q, _ = build(*LINEAR, x_shape=(2,))
    draws = draw(joint, q, torch.randn(9, 2), 2)
    means = _kl(draws).mean(0)
    nats = means.sort().values[:2].mean().item()  # between the least and the next
    paid = torch.cat([means[means > nats], torch.full((1,), nats)]).sum()
    assert (means > nats).sum() == 2
    expected = paid - draws.log_px.mean()
    surrogate = FreeBits(nats).surrogate(draws)
    torch.testing.assert_close(surrogate, expected)
    for ours, theirs in zip(_gradients(surrogate, q), _gradients(expected, q), strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(FreeBits(nats).bound(draws.log_w), draws.log_w.mean(0))


def test_all_processes_agree_on_what_is_free(monkeypatch):
    """Means over halves of a batch lie on other sides of the limit than that of the whole."""
    joint, q, _ = build(*LINEAR, x_shape=(2,))
    x = torch.randn(8, 2) * torch.tensor([[0.1], [4.0]]).repeat_interleave(4, 0)
    draws = draw(joint, q, x, 1)
    kl = _kl(draws)
    nats = kl.mean(0).mean().item()
    assert ((kl[:4].mean(0) > nats) != (kl[4:].mean(0) > nats)).any()

    def of(rows: slice) -> Draws:
        own = Independent(Normal(draws.q.mean[rows], draws.q.stddev[rows]), 1)
        return Draws(draws.log_px[:, rows], draws.log_pz[:, rows], draws.log_qz[:, rows],
                     x[rows], draws.z[:, rows], draws.prior, own)  # fmt: skip

    sums = torch.cat([kl.detach().sum(0), torch.tensor([8.0])])
    monkeypatch.setattr(free_bits.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(free_bits.distributed, "all_reduce", lambda own: own.copy_(sums))
    halves = [FreeBits(nats).surrogate(of(rows)) for rows in (slice(0, 4), slice(4, 8))]
    monkeypatch.undo()
    for ours, theirs in zip(
        _gradients((halves[0] + halves[1]) / 2, q), _gradients(FreeBits(nats).surrogate(draws), q), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_kind_of_a_bound_is_said():
    recipes: list[tuple[Objective, str]] = [
        (VrIwae(0.0), "lower"), (VrIwae(-0.1), "estimate"), (Tvo(), "lower"), (Tvo(end="right"), "estimate"),
    ]  # fmt: skip
    assert [recipe.kind for recipe, _ in recipes] == [kind for _, kind in recipes]
    assert VrIwae(0.0).name == "vr_iwae"
    assert Tvo(4, 0.125).path == pytest.approx([0, 0.125, 0.25, 0.5, 1])


@pytest.mark.parametrize(
    ("words", "k", "message"),
    [
        (["objective=piwae"], 12, "objective.outer=8 bounds share the k=12 draws evenly, so k must be a multiple of 8"),
        (["objective=iwae", "objective.outer=4"], 1, "objective.outer=4 bounds share the k=1"),
        (["model=mog", "q=categorical", "objective=piwae"], 8, "objective=piwae needs a q with reparameterised"),
        (["objective=free_bits", "q=full"], 1, "objective=free_bits needs the KL of every coordinate"),
        (["objective=free_bits", "prior=mixture"], 1, "objective=free_bits needs the KL of every coordinate"),
        (["model=mog", "q=categorical", "objective=tvo"], 1, "objective=tvo with q=categorical .* needs k >= 2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_a_recipe_cannot_train_is_refused(words, k, message):
    joint, q, objective = build(*words)
    with pytest.raises(UserError, match=message):
        objective.check(joint, q, k, torch.zeros(2, 1, 4, 4))


BITS = ["prior=bernoulli", "q=bernoulli"]
LAYERS = ["prior=layers", "prior.sizes=[2,1]", "prior.hidden=[4]", "q=layers", "q.hidden=[4]"]
WAYS_OUT = {
    "back through few bits": (
        [*BITS, "objective=iwae", "objective.backward=2"],
        r"objective\.backward=2 needs a q with .* which q=bernoulli lacks; leave objective\.backward out\.",
        [[*BITS, "objective=iwae"]],
    ),
    "paths of bits": (
        [*BITS, "objective=dreg", "objective.backward=2"],
        r"objective=dreg needs .* q=bernoulli lacks; choose objective=vimco or iwae, with k=2 or more\.",
        [[*BITS, "objective=vimco"], [*BITS, "objective=iwae"]],
    ),
    "paths of an exact category": (
        ["model=mog", "objective=stl"],
        r"which q=exact lacks; choose objective=iwae\.",
        [["model=mog", "objective=iwae"]],
    ),
    "paths of an exact Gaussian": (
        ["model=ppca", "objective=stl"],
        "which q=exact lacks; choose objective=iwae, or q=diagonal or q=full",
        [["model=ppca", "objective=iwae"], *(["model=ppca", "objective=stl", f"q={q}"] for q in ("diagonal", "full"))],
    ),
    "paths of a q without parameters": (
        ["q=prior", "objective=stl"],
        "which q=prior lacks; choose objective=iwae, or q=diagonal or q=full",
        [["q=prior", "objective=iwae"], ["objective=stl"], ["q=full", "objective=stl"]],
    ),
    "free bits of layers": (
        [*LAYERS, "objective=free_bits"],
        "which q=layers under prior=layers lacks; choose objective=elbo, or a z of one layer",
        [[*LAYERS, "objective=elbo"], ["objective=free_bits"]],
    ),
    "free bits of an exact category": (
        ["model=mog", "objective=free_bits"],
        "which q=exact under prior=categorical lacks; choose objective=elbo",
        [["model=mog", "objective=elbo"]],
    ),
}


@pytest.mark.parametrize(("words", "message", "ways"), WAYS_OUT.values(), ids=WAYS_OUT)
def test_a_refusal_names_what_the_model_can_be_trained_with(words, message, ways):
    x = torch.zeros(2, 1, 4, 4)
    joint, q, objective = build(*words)
    with pytest.raises(UserError, match=message):
        objective.check(joint, q, 4, x)
    for way in ways:
        joint, q, objective = build(*way)
        objective.check(joint, q, 4, x)


@pytest.mark.parametrize("objective", ["vimco", "reinforce"])
def test_draws_of_another_kind_are_refused_before_their_number(objective):
    joint, q, recipe = build(f"objective={objective}")
    with pytest.raises(UserError, match="is for draws that cannot be reparameterised"):
        recipe.check(joint, q, 1, torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["objective=iwae", "objective.outer=2", "objective.backward=3"], "leave one of the two out"),
        (["objective=ciwae", "objective.beta=1.5"], r"objective.beta must be a number from 0 \(iwae\) to 1"),
        (["objective=vr_iwae", "objective.alpha=1"], "objective.alpha must be a finite number below 1, got 1"),
        (["objective=tvo", "objective.first=1"], "objective.first a number between 0 and 1"),
        (["objective=beta", "objective.beta=0"], "objective.beta must be a finite number above 0"),
        (["objective=free_bits", "objective.nats=-1"], "objective.nats must be a finite number >= 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_setting_out_of_range_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        build(*words)
