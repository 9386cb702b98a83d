"""Completions against exact conditionals: Gaussians, mixtures, pixels by enumeration, quadrature, and ranks."""

import itertools

import numpy as np
import pytest
import torch
from budget import BUDGET, CHECKS, THRESHOLD, assert_mean
from completion.exact import gaussians, pixels
from pieces import build
from scipy.stats import chisquare, norm

from taut.completion import Completions, apply_mask, complete, observed
from taut.completion.complete import MAX_KERNELS, Latents, latents, modes
from taut.functional.precision import exact_arithmetic
from taut.functional.sampling import NoiseKeys
from taut.model import exact_inference
from taut.model.joint import Joint

pytestmark = pytest.mark.usefixtures("float64")

PPCA = ["model=ppca", "latent_dim=2"]
MIXTURE = ["model=mog", "model.components=3"]
PIXELS = [*MIXTURE, "likelihood=bernoulli", "network.hidden=[]", "objective=exact"]
CLUSTERS = ["model=ppca", "latent_dim=2", "prior=mixture", "prior.components=3", "objective=exact"]
GAUSSIAN = {"ppca": PPCA, "fa": ["model=fa", "latent_dim=2"], "mixture": MIXTURE, "clusters": CLUSTERS}
MODELS = {
    **{name: (words, (4,)) for name, words in GAUSSIAN.items()},
    "diagonal": ([*MIXTURE, "likelihood.covariance=diagonal"], (4,)),
    "pixels": (PIXELS, (1, 2, 3)),
    "vae": (["likelihood=gaussian", "latent_dim=2"], (4,)),
    "masked": (["q=masked", "latent_dim=2"], (1, 2, 3)),
    "full": (["q=full", "likelihood=gaussian", "likelihood.shared=true", "latent_dim=2"], (4,)),
    "vamp": (["prior=vamp", "prior.components=3", "latent_dim=2"], (1, 2, 3)),
}
models = pytest.mark.parametrize("name", MODELS)


def _built(words: list[str], x_shape: tuple[int, ...] = (4,)):
    """A model with parameters of its own, some of its data with holes, and q."""
    joint, q, _ = build(*words, x_shape=x_shape)
    with torch.no_grad():
        for parameter in joint.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return joint, q


def _with_holes(joint: Joint, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Data of the model, and the same with half of the cells hidden."""
    _, x = joint.sample(n)
    return x, apply_mask(x, torch.rand(x.shape) < 0.5)


def _complete(joint: Joint, q, x: torch.Tensor, index: torch.Tensor | None = None, **options) -> Completions:
    keys = NoiseKeys(torch.arange(len(x)) if index is None else index, 0, "test")
    return complete(joint, lambda rows: q(x[rows]), x, keys, **{"k": 100, "draws": 5, **options})


def _bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(torch.int64)


@pytest.mark.parametrize("name", GAUSSIAN)
def test_the_mean_is_the_closed_form(name):
    joint, q = _built(GAUSSIAN[name])
    _, x = _with_holes(joint, 40)
    found, model = _complete(joint, q, x), gaussians(joint)
    if name == "clusters":
        assert found.ess.isnan().all()
    for row, mean in zip(x.numpy(), found.mean.numpy(), strict=True):
        hidden = np.isnan(row)
        if hidden.any():
            np.testing.assert_allclose(mean[hidden], model.given(row).mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", GAUSSIAN)
@pytest.mark.parametrize("hidden", [[0, 2], [1, 2, 3], [0, 1, 2, 3]])
def test_draws_have_the_mean_and_the_covariance_of_the_conditional(name, hidden):
    """A bias of 0.01 standard deviations would be seen: of a cell, and of the products that a covariance averages."""
    joint, q = _built(GAUSSIAN[name])
    x, _ = _with_holes(joint, 1)
    x[:, hidden] = torch.nan
    exact = gaussians(joint).given(x[0].numpy())
    whitener = torch.from_numpy(np.linalg.inv(np.linalg.cholesky(exact.covariance)))
    draws = _complete(joint, q, x, draws=900_000).draws[:, 0]
    white = (draws[:, hidden] - torch.from_numpy(exact.mean)) @ whitener.T
    assert_mean(white, 0.0, detects=0.01)
    products = (white.unsqueeze(2) * white.unsqueeze(1)).flatten(1)
    products = products - torch.eye(len(hidden)).flatten()
    assert_mean(products / products.std(0), 0.0, detects=0.01)


def test_pixels_are_filled_as_often_as_they_are_probable():
    joint, q = _built(PIXELS, (1, 2, 3))
    x = torch.tensor([[[[0.0, torch.nan, 1.0], [torch.nan, torch.nan, torch.nan]]]])
    probs = joint.likelihood(torch.eye(3).unsqueeze(1)).mean[:, 0].flatten(1).detach()
    fillings, p = pixels(joint.prior.probs.detach(), probs, x.flatten())
    found = _complete(joint, q, x, draws=900_000)
    hidden = ~observed(x[0]).flatten()
    codes = found.draws[:, 0].flatten(1)[:, hidden] @ torch.tensor([8.0, 4.0, 2.0, 1.0])
    assert_mean((codes.unsqueeze(1) == torch.arange(16)).double(), torch.from_numpy(p), detects=0.005)
    np.testing.assert_allclose(found.mean.flatten()[hidden].numpy(), p @ fillings, rtol=1e-9)
    assert np.array_equal(found.most_probable.flatten()[hidden].numpy(), (p @ fillings > 0.5).astype(float))


def test_the_most_probable_pixels_are_those_of_the_enumeration():
    joint, q = _built(PIXELS, (1, 2, 3))
    _, x = _with_holes(joint, 60)
    found = _complete(joint, q, x)
    probs = joint.likelihood(torch.eye(3).unsqueeze(1)).mean[:, 0].flatten(1).detach()
    for i, row in enumerate(x.flatten(1)):
        fillings, p = pixels(joint.prior.probs.detach(), probs, row)
        chosen = found.most_probable[i].flatten()[row.isnan()].numpy()
        assert np.array_equal(chosen, (p @ fillings > 0.5).astype(float))
        np.testing.assert_allclose(found.mean[i].flatten()[row.isnan()].numpy(), p @ fillings, rtol=1e-9)


@pytest.mark.parametrize("name", ["ppca", "mixture"])
def test_the_most_probable_value_of_a_cell_is_that_of_a_grid(name):
    joint, q = _built(GAUSSIAN[name])
    _, x = _with_holes(joint, 40)
    found, model = _complete(joint, q, x), gaussians(joint)
    for row, chosen in zip(x.numpy(), found.most_probable.numpy(), strict=True):
        exact = model.given(row) if np.isnan(row).any() else None
        for i, cell in enumerate(np.flatnonzero(np.isnan(row))):
            assert chosen[cell] == pytest.approx(exact.mode(i), abs=1e-6)


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_modes_are_those_of_a_dense_grid(k, equal):
    """As high as the highest of 2,001 points between the outermost means, where every mode lies."""
    n = 1000
    weights, means = torch.rand(k, n).softmax(0), 1.5 * torch.randn(k, n)
    stds = torch.ones(k, n) if equal else (0.7 * torch.randn(k, n)).exp()

    def height(x: np.ndarray) -> np.ndarray:
        return np.einsum("kn,k...n->...n", weights.numpy(), norm.pdf(x, means.numpy()[:, None], stds[:, None]))

    grid = np.linspace(means.amin(0).numpy(), means.amax(0).numpy(), 2001)
    best = np.concatenate([height(part).max(0, keepdims=True) for part in np.array_split(grid, 50)]).max(0)
    assert (height(modes(weights, means, stds).numpy()[None])[0] >= best * (1 - 1e-9)).all()


def test_modes_of_cells_that_are_known_are_their_values():
    means = torch.randn(1, 6).expand(4, -1).clone()
    assert torch.equal(modes(torch.full((4, 6), 0.25), means, torch.zeros(4, 6)), means[0])


@models
def test_observed_cells_stay_and_hidden_ones_are_finite(name):
    joint, q = _built(*MODELS[name])
    _, x = _with_holes(joint, 30)
    found, seen = _complete(joint, q, x), observed(x)
    for values in (found.mean, found.most_probable, *found.draws):
        assert values.isfinite().all()
        assert torch.equal(values[seen], x[seen])
    if joint.likelihood.binary:
        assert set(found.draws.unique().tolist()) <= {0.0, 1.0}
        assert set(found.most_probable.unique().tolist()) <= {0.0, 1.0}
        assert not set(found.mean[~seen].unique().tolist()) <= {0.0, 1.0}


@models
def test_nothing_hidden_gives_x_itself_and_its_own_density(name):
    joint, q = _built(*MODELS[name])
    x, _ = _with_holes(joint, 7)
    found = _complete(joint, q, x)
    for values in (found.mean, found.most_probable, *found.draws):
        assert torch.equal(values, x)
    if exact_inference.tractable(joint):
        nearly = apply_mask(
            torch.cat([x, x]), torch.arange(14).view(-1, *[1] * (x.dim() - 1)).expand(14, *x.shape[1:]) < 7
        )
        together = exact_inference.log_marginal(joint, nearly)
        torch.testing.assert_close(together[:7], exact_inference.log_marginal(joint, x), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together[7:], torch.zeros(7), rtol=0, atol=1e-12)


@models
def test_nothing_observed_gives_the_prior_s_answer(name):
    joint, q = _built(*MODELS[name])
    x = torch.full((1, *MODELS[name][1]), torch.nan)
    found = _complete(joint, q, x, k=4000, draws=1)
    if name in GAUSSIAN:
        np.testing.assert_allclose(found.mean[0].numpy(), gaussians(joint).mean, atol=1e-9)
        return
    with torch.no_grad():
        z = joint.prior().sample((100_000,)).unsqueeze(1)
        expected = joint.likelihood(z).mean[:, 0]
    error = expected.std(0) * (1 / len(z) + 1 / found.ess.nan_to_num(1e9)) ** 0.5
    assert ((found.mean[0] - expected.mean(0)).abs() <= 1.5 * THRESHOLD * error).all()


@models
def test_completions_do_not_depend_on_batch_mates(name):
    joint, q = _built(*MODELS[name])
    _, x = _with_holes(joint, 40)
    together, order = _complete(joint, q, x), torch.randperm(40)[:9]
    some = _complete(joint, q, x[order], order)
    alone = Completions.cat([_complete(joint, q, x[i : i + 1], torch.tensor([i])) for i in order.tolist()])
    for other in (some, alone):
        for one, two in zip(vars(other).values(), vars(together.select(order)).values(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12, equal_nan=True)


@models
def test_data_have_noise_of_their_own_and_repeat_it(name):
    joint, q = _built(*MODELS[name])
    x = torch.full((2, *MODELS[name][1]), torch.nan)
    first, again = (_complete(joint, q, x, draws=40) for _ in range(2))
    assert torch.equal(_bits(first.draws), _bits(again.draws))
    assert not torch.equal(first.draws[:, 0], first.draws[:, 1])
    assert not torch.equal(first.draws[0], first.draws[1])


@models
def test_hidden_values_cannot_leak_and_gradients_stay_finite(name):
    """1,000 of 1,000 data: log-densities, q and gradients do not move by a bit when hidden values do."""
    joint, q = _built(*MODELS[name])
    with torch.no_grad():
        _, x = joint.sample(1000)
    seen = torch.rand(x.shape) < 0.6
    others = torch.tensor([0.0, 1e300, torch.inf, -torch.inf, torch.nan, -7.0])[torch.randint(6, x.shape)]
    answers = []
    for data in (x, torch.where(seen, x, others)):
        holes = apply_mask(data, seen)
        torch.manual_seed(1)
        posterior = q(holes)
        z = posterior.sample((2,))
        log_w = joint.log_prob(holes, z) - posterior.log_prob(z)
        modules = torch.nn.ModuleList([joint, q])
        gradients = torch.autograd.grad(log_w.sum(), list(modules.parameters()), allow_unused=True)
        answers.append([log_w.detach(), *(g for g in gradients if g is not None)])
    assert len(answers[0]) > 1
    for one, two in zip(*answers, strict=True):
        assert one.isfinite().all()
        assert torch.equal(_bits(one), _bits(two))


@pytest.mark.parametrize("words", [["latent_dim=2"], PIXELS])
def test_the_density_of_observed_pixels_is_the_sum_over_completions(words):
    """Given every z, and through 700 importance weights."""
    joint, _ = _built(words, (1, 2, 3))
    _, x = _with_holes(joint, 5)
    z = joint.prior().sample((700, 5))
    for i, row in enumerate(x):
        hidden = row.isnan()
        fillings = torch.tensor(list(itertools.product([0.0, 1.0], repeat=int(hidden.sum()))))
        every = row.expand(len(fillings), 1, 2, 3).clone()
        every[:, hidden] = fillings
        each = joint.likelihood(z[:, i : i + 1]).log_prob(every)
        whole = joint.likelihood(z[:, i : i + 1]).log_prob(row.unsqueeze(0))[:, 0]
        torch.testing.assert_close(each.logsumexp(1), whole, rtol=0, atol=1e-10)
        torch.testing.assert_close(each.logsumexp((0, 1)), whole.logsumexp(0), rtol=0, atol=1e-10)


def _curved(latent: int, x_shape: tuple[int, ...], *words: str):
    """A small nonlinear model whose z comes from a line or a plane, with the prior for a proposal."""
    return _built([*words, f"latent_dim={latent}", "q=prior"], x_shape)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("latent", [1, 2])
def test_importance_samples_find_the_mean_that_quadrature_finds(likelihood, latent):
    joint, q = _curved(latent, (1, 2, 2), f"likelihood={likelihood}")
    _, x = _with_holes(joint, 6)
    x[0, 0, 0] = torch.tensor([1.0, torch.nan])
    line = torch.linspace(-7, 7, 2001 if latent == 1 else 201)
    grid = torch.cartesian_prod(*[line] * latent).view(-1, 1, latent)
    k, keys = 20000, NoiseKeys(torch.arange(6), 0, "test")
    with torch.no_grad():
        density = joint.log_prob(x, grid.expand(-1, 6, -1)).softmax(0)
        means = joint.likelihood(grid).mean
        expected = torch.einsum("kb,kb...->b...", density, means.expand(-1, 6, -1, -1, -1))
    found = _complete(joint, q, x, k=k)
    with exact_arithmetic(x.device), torch.random.fork_rng():
        drawn = latents(joint, lambda rows: q(x[rows]), x, keys, k, 1)
        weights = drawn.weights.view(k, 6, 1, 1, 1)
        spread = (weights * (joint.likelihood(drawn.z).mean - expected)).square().sum(0).sqrt()
    assert found.ess.min() > 200
    hidden = x.isnan()
    assert ((found.mean - expected)[hidden].abs() <= THRESHOLD * spread[hidden] + 1e-9).all()
    assert spread[hidden].max() < 0.1
    torch.testing.assert_close(found.ess, 1 / weights.square().sum(0).flatten())


@pytest.mark.parametrize("name", ["ppca", "mixture", "curved"])
def test_ranks_of_the_truth_among_completions_are_uniform(name):
    """Simulation-based calibration (Talts et al., 2018): the rank of a hidden value of 2,000 data among 19.

    Draws of the prior would pass that; they do not where the sign is turned by what is observed (Modrak et al., 2023).
    """
    n, m = 2000, 19
    joint, q = (
        _built(GAUSSIAN[name])
        if name in GAUSSIAN
        else _curved(1, (3,), "likelihood=gaussian", "likelihood.shared=true")
    )
    if name == "curved":
        with torch.no_grad():
            joint.likelihood.log_variance.fill_(-3.0)  # a cell says much about the others
    with torch.no_grad():
        _, x = joint.sample(n)
    cell = torch.randint(x.shape[1], (n,))
    seen = torch.rand(x.shape) < 0.5
    seen[torch.arange(n), cell] = False
    beside = x[torch.arange(n), (cell + 1) % x.shape[1]]
    seen[torch.arange(n), (cell + 1) % x.shape[1]] = True
    draws = _complete(joint, q, apply_mask(x, seen), draws=m, k=300).draws
    below = draws[:, torch.arange(n), cell] < x[torch.arange(n), cell]
    for turned in (torch.zeros(n, dtype=torch.bool), beside < beside.median()):
        ranks = (below ^ turned).sum(0)
        assert chisquare(ranks.bincount(minlength=m + 1).numpy()).pvalue > BUDGET / CHECKS


def test_draws_of_z_follow_the_weights():
    """Each z is picked by the stretch of [0, 1) that is its own."""
    z = torch.arange(4.0).view(4, 1, 1)
    few = Latents(z, torch.tensor([0.1, 0.0, 0.6, 0.3]).log().unsqueeze(1), exact=False)
    uniform = torch.tensor([0.0, 0.0999, 0.1001, 0.6999, 0.7001, 0.9999])
    assert few.resampled(uniform).flatten().tolist() == [0, 0, 2, 2, 3, 3]
    assert few.ess.item() == pytest.approx(1 / (0.01 + 0.36 + 0.09))
    assert few.thinned() is few
    many = Latents(torch.arange(1000.0).view(1000, 1, 1), torch.zeros(1000, 1), exact=False).thinned()
    assert many.z.shape == (MAX_KERNELS, 1, 1)
    assert torch.equal(many.z.flatten(), ((torch.arange(MAX_KERNELS) + 0.5) / MAX_KERNELS * 1000).floor())


def test_the_completions_keep_their_order():
    joint, q = _built(PPCA)
    _, x = _with_holes(joint, 6)
    whole = _complete(joint, q, x)
    parts = [_complete(joint, q, x[some], torch.arange(6)[some]) for some in (slice(0, 2), slice(2, 6))]
    for one, two in zip(vars(Completions.cat(parts)).values(), vars(whole.cpu()).values(), strict=True):
        torch.testing.assert_close(one, two, equal_nan=True)


def test_the_most_probable_level_is_that_of_the_largest_mass():
    """Of a mixture the mean of the levels 0 and 3 lies between them, where there is hardly any mass."""
    joint, q, _ = build(
        "model=mog", "model.components=2", "likelihood=categorical", "network.hidden=[]", x_shape=(1, 1, 2)
    )
    with torch.no_grad():
        logits = torch.tensor([[4.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 3.0]])  # of four levels, by the category
        joint.likelihood.decoder.net[0].weight.copy_(logits.repeat_interleave(2, 0))
    x = torch.tensor([[[[torch.nan, torch.nan]]]])
    found = complete(joint, lambda rows: q(x[rows]), x, NoiseKeys(torch.arange(1), 0, "x"), k=10, draws=2)
    mass = 0.5 * (torch.tensor([4.0, 0.0, 0.0, 0.0]).softmax(0) + torch.tensor([0.0, 0.0, 0.0, 3.0]).softmax(0))
    assert mass.argmax() == 0
    assert found.most_probable.tolist() == [[[[0.0, 0.0]]]]
    torch.testing.assert_close(found.mean[0, 0, 0, 0], mass @ torch.arange(4.0) / 3)
