"""Several stochastic layers against a linear-Gaussian chain, which is known exactly."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pieces import build
from scipy.stats import multivariate_normal

from taut.errors import UserError
from taut.evidence import Rows, Target
from taut.evidence.ais import AIS
from taut.evidence.diagnostics import ACTIVE
from taut.evidence.exact import Exact
from taut.evidence.gap import decompose
from taut.evidence.information import information_of
from taut.evidence.optimal_q import Family, Search
from taut.evidence.score import score
from taut.evidence.summary import information_summary
from taut.functional.precision import in_double
from taut.model.draws import draw
from taut.training.metrics import ScoreMeter

pytestmark = pytest.mark.usefixtures("float64")
LINEAR = ("prior=layers", "prior.hidden=[]", "likelihood=linear", "network.hidden=[]")


def _chain(q: str, sizes: str, columns: int = 3):
    """A chain whose networks are linear maps and whose variances are constant, and log p(x) by scipy.

    h2 is N(0, I), h1 is N(A h2 + a, S), x is N(W h1 + m, s^2 I).
    """
    words = [f"prior.sizes={sizes}", f"q={q}", *(["q.hidden=[]"] if q == "layers" else [])]
    torch.manual_seed(3)
    model: Any = build(*LINEAR, *words, x_shape=(columns,))
    joint, posterior, _ = model
    (between,) = joint.prior.between
    layer = between.network.net[0]
    lower = joint.prior.layers[0]
    with torch.no_grad():
        joint.likelihood.loadings.normal_()
        layer.weight[lower:] = 0
        layer.bias.copy_(torch.randn(2 * lower) - 0.5)
    a, s = layer.weight[:lower].detach(), layer.bias[lower:].detach().exp()
    shift = layer.bias[:lower].detach()
    z = torch.cat([torch.zeros(1, sum(joint.prior.layers)), torch.eye(sum(joint.prior.layers))])
    means = joint.likelihood(z).mean.detach()
    m, w = means[0], (means[1:] - means[0])[:lower].mT
    noise = joint.likelihood.variance.item()
    covariance = w @ (a @ a.mT + s.diag()) @ w.mT + noise * torch.eye(columns)
    exact = multivariate_normal((m + w @ shift).numpy(), covariance.numpy())
    x = torch.from_numpy(exact.rvs(4, random_state=0)).reshape(4, columns)
    log_px = torch.from_numpy(exact.logpdf(x.numpy()))
    return SimpleNamespace(
        joint=joint, q=posterior, x=x, log_px=log_px, a=a, s=s, shift=shift, m=m, w=w, noise=noise, lower=lower
    )


def _exact_by_hand(chain) -> None:
    """Make q the posterior of a chain of one coordinate in each layer: Gaussian conditioning, written down."""
    a, s, shift = chain.a.item(), chain.s.item(), chain.shift.item()
    message = chain.noise / chain.w.square().sum()  # x says of h1 that it is N(u (x - m), message)
    u = chain.w[:, 0] / chain.w.square().sum()
    with torch.no_grad():
        weight, bias = chain.q.encoder.net[0].weight, chain.q.encoder.net[0].bias
        if len(weight) == 4:
            # the top first: of h2, x says through h1 that a h2 + shift is N(u (x - m), message + s)
            variance = 1 / (1 + a**2 / (message + s))
            gain = variance * a / (message + s)
            weight.copy_(torch.stack([gain * u, 0 * u, u, 0 * u]))
            by_m = (u @ chain.m).item()
            bias.copy_(torch.tensor([-gain * (by_m + shift), variance.log(), -by_m, message.log()]))
            return
        prior = a**2 + s
        variance = 1 / (1 / prior + 1 / message)
        weight.copy_(torch.stack([variance / message * u, 0 * u]))
        centre = variance * (shift / prior - (u @ chain.m) / message)
        bias.copy_(torch.stack([centre, variance.log()]))
        up = chain.q.between[0].network.net[0]
        variance = 1 / (1 + a**2 / s)
        up.weight.copy_(torch.tensor([[variance * a / s], [0.0]]))
        up.bias.copy_(torch.tensor([-variance * a / s * shift, math.log(variance)]))


@pytest.mark.parametrize("q", ["layers", "ladder"])
def test_under_the_exact_posterior_every_weight_is_the_density_of_x(q):
    chain = _chain(q, "[1,1]")
    _exact_by_hand(chain)
    log_w = draw(chain.joint, chain.q, chain.x, 6).log_w
    torch.testing.assert_close(log_w, chain.log_px.expand(6, -1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("q", ["layers", "ladder", "full"])
def test_bounds_rise_to_log_p_of_x_from_below_and_annealing_reaches_it(q):
    chain = _chain(q, "[2,2]")
    chain.joint.requires_grad_(False)
    with torch.no_grad():
        chain.q.encoder.net[0].weight.mul_(
            0.3
        )  # an untrained q that is far off is where annealing takes thousands of steps
    log_w = draw(chain.joint, chain.q, chain.x, 2**15).log_w.detach()
    blocks = log_w.unflatten(0, (2**9, 2**6)).logsumexp(1) - math.log(2**6)
    error = blocks.std(0) / 2**4.5
    assert (log_w.mean(0) < blocks.mean(0)).all()
    assert (blocks.mean(0) < chain.log_px + 4 * error).all()
    estimate = AIS(100, 32, 3)(Target.of(chain.joint, chain.q), chain.x[2:])
    assert ((estimate.value - chain.log_px[2:]).abs() < 4 * estimate.variance.sqrt()).all()
    assert (estimate.variance.sqrt() < 0.3).all()


def test_quadrature_finds_the_same_integral():
    chain = _chain("layers", "[1,1]")
    found = Exact()(Target.of(chain.joint, chain.q), chain.x[:2])
    torch.testing.assert_close(found.value, chain.log_px[:2], rtol=0, atol=1e-7)


def test_one_layer_is_a_normal_prior_and_a_diagonal_q_to_the_bit():
    results = []
    x = torch.randint(2, (3, 1, 4, 4)).double()
    for words in (["q=diagonal"], ["prior=layers", "prior.sizes=[3]", "q=layers"]):
        torch.manual_seed(0)
        joint, q, objective = build(*words, "objective=iwae")
        torch.manual_seed(1)
        draws = draw(joint, q, x, 5)
        results.append([draws.z, draws.log_pz, draws.log_qz, draws.log_w])
        results[-1] += torch.autograd.grad(objective.surrogate(draws), list(q.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_x_is_made_of_the_first_layer_alone():
    joint, _, _ = build("prior=layers", "prior.sizes=[3,2]")
    z = joint.prior().sample((5,))
    other = torch.cat([z[:, :3], torch.randn(5, 2)], 1)
    x = joint.likelihood(z).sample()
    assert torch.equal(joint.likelihood(z).log_prob(x), joint.likelihood(other).log_prob(x))
    assert torch.equal(joint.likelihood(z).log_prob(x), joint.likelihood(z[:, :3]).log_prob(x))
    assert not torch.equal(joint.prior().log_prob(z), joint.prior().log_prob(other))


def test_the_top_layer_has_a_standard_normal_marginal_and_the_draws_follow_the_density():
    """E exp(log r - log p) = 1 for any density r: with the order of layers or their places mixed up it is not."""
    chain = _chain("layers", "[2,1]")
    z = chain.joint.prior().sample((40_000,))
    joined = torch.cat([chain.a, torch.ones(1, 1)])
    own = torch.block_diag(chain.s.diag(), torch.zeros(1, 1)) + joined @ joined.mT
    expected = multivariate_normal([*chain.shift.tolist(), 0.0], own.numpy())
    found = chain.joint.prior().log_prob(z[:50]).detach()
    torch.testing.assert_close(found, torch.from_numpy(expected.logpdf(z[:50].numpy())))
    error = own.diagonal().sqrt() / 200
    assert ((z.mean(0) - torch.tensor([*chain.shift.tolist(), 0.0])).abs() < 5 * error).all()
    torch.testing.assert_close(z.mT.cov(), own, rtol=0.05, atol=0.05)


def test_the_kl_of_each_layer_is_that_of_its_gaussians():
    chain = _chain("layers", "[1,1]")
    # h1 is N(m, v) and h2 = b h1 + c + w e: what p(h1 | h2) errs by is h1 (1 - a b) - a c - shift - a w e
    mean, v = (part[:, 0].detach() for part in chain.q.parameters_of(chain.x).chunk(2, -1))
    v = v.exp()
    up = chain.q.between[0].network.net[0]
    with torch.no_grad():
        up.weight[1] = 0
        up.bias[1] = -1.0
    scores = score(
        chain.joint, chain.q, chain.x, torch.arange(4), bound=lambda w: w[0], k=1, samples=4000, seed=0, split="val"
    )
    b, c, w = up.weight[0].item(), up.bias[0].item(), math.exp(-1.0)
    a, s, shift = chain.a.item(), chain.s.item(), chain.shift.item()
    squared = (mean * (1 - a * b) - a * c - shift).square() + v * (1 - a * b) ** 2 + a**2 * w
    first = -0.5 * (1 + v.log()) + 0.5 * (math.log(s) + squared / s)
    second = -0.5 * (1 + math.log(w)) + 0.5 * ((b * mean + c).square() + b**2 * v + w)
    for name, expected in {"kl_1": first, "kl_2": second}.items():
        error = scores.noise[name].sqrt()
        assert ((scores.values[name] - expected).abs() < 5 * error).all()
        assert (error < 0.1 * (1 + expected.abs())).all()
    torch.testing.assert_close(scores.values["kl_1"] + scores.values["kl_2"], scores.values["kl"])
    with torch.no_grad():
        rows = Rows(Target.of(chain.joint, chain.q), chain.x)
        measured = information_of(rows, chain.q(chain.x))
        told = information_summary(measured, chain.joint.prior.layers)["by_layer"]
    errors = measured.by_layer_variance.sqrt()
    assert ((measured.by_layer - torch.stack([first, second], 1)).abs() < 5 * errors).all()
    torch.testing.assert_close(measured.by_layer.sum(1), measured.kl)
    assert [one["kl"]["value"] for one in told] == measured.by_layer.mean(0).tolist()
    active = (measured.mean_z.var(0, correction=0) - measured.noise_z.mean(0) > ACTIVE).int().tolist()
    assert [(one["units"], one["active_units"]) for one in told] == [(1, count) for count in active]


def test_active_units_are_counted_in_each_layer():
    chain = _chain("layers", "[2,1]")
    scores = score(
        chain.joint, chain.q, chain.x, torch.arange(4), bound=lambda w: w[0], k=1, samples=4, seed=0, split="val"
    )
    scores.mean_z.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0])[:, None] * torch.tensor([1.0, 0.0, 1.0]))
    scores.noise_z.zero_()
    meter = ScoreMeter(["kl", "kl_1"], len(scores.curve), (2, 1), "val")
    meter.update(scores, torch.arange(4))
    found = meter.compute().scores
    counts = [found[name]["value"] for name in ("active_units", "active_units_1", "active_units_2")]
    assert counts == [2.0, 1.0, 1.0]


def test_a_path_gradient_leaves_out_the_score_of_what_the_ladder_borrows():
    """log q(z | x) of stl and dreg reaches the networks between layers, which are the prior's, through z alone."""
    chain = _chain("ladder", "[2,2]")
    own = [*chain.joint.prior.parameters(), *chain.q.parameters()]
    draws = draw(chain.joint, chain.q, chain.x, 3, path_only=True)
    found = torch.autograd.grad(draws.log_qz.sum(), own, retain_graph=True)
    (by_z,) = torch.autograd.grad(draws.log_qz.sum(), draws.z, retain_graph=True)
    through_z = torch.autograd.grad(draws.z, own, by_z)
    for one, other in zip(found, through_z, strict=True):
        torch.testing.assert_close(one, other)
    assert any(part.abs().max() > 0.01 for part in through_z)


@pytest.mark.parametrize("q", ["layers", "ladder"])
def test_the_best_member_of_the_family_is_searched_for(q):
    """With one coordinate in each layer the posterior is a ladder, and a q=layers whose h2 given h1 is right."""
    chain = _chain(q, "[1,1]")
    _exact_by_hand(chain)
    with torch.no_grad():
        chain.q.encoder.net[0].bias += 0.7
    family = Family.of(chain.q)
    assert family is not None
    parts = decompose(Rows(Target.of(chain.joint, chain.q), chain.x), family, Search(120, 8, 0.1), k=200)
    assert (parts.amortisation > 0.05).all()
    torch.testing.assert_close(parts.best, chain.log_px, rtol=0, atol=0.01)


def test_a_copy_in_double_precision_and_an_expanded_one_are_the_same_chain():
    for q in ("layers", "ladder"):
        chain = _chain(q, "[2,1]")
        once = chain.q(chain.x[:1])
        z = once.sample((3,))
        torch.testing.assert_close(once.expand((4,)).log_prob(z.expand(3, 4, -1)), once.log_prob(z).expand(3, 4))
        assert torch.equal(in_double(once).log_prob(z), once.log_prob(z))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["q=layers"],
            "q=layers draws the layers of z one after another, but prior=normal has none; choose prior=layers, or "
            "q=diagonal.",
        ),
        (
            ["q=ladder", "prior=mixture"],
            "q=ladder draws the layers of z one after another, but prior=mixture has none; choose prior=layers, or "
            "q=diagonal.",
        ),
    ],
)
def test_a_q_of_layers_needs_a_prior_of_layers(words, sentence):
    with pytest.raises(UserError) as caught:
        build(*words)
    assert str(caught.value) == sentence
