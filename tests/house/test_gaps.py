"""Promises that only a seeded bug showed to be untested: each test names the bug it would see."""

import csv
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands.jobs import QUIET, run
from pieces import X, build, config, names
from scipy.special import logsumexp
from torch.distributions import MultivariateNormal, OneHotCategorical

from taut.data.base import Batch
from taut.evidence.score import Scores, sample, score
from taut.functional.consistency import Void
from taut.model.draws import Draws, draw
from taut.objective.base import Objective
from taut.objective.vimco import score_term
from taut.training.build import build_model
from taut.training.callbacks.checkpoints import best, early_stopping
from taut.training.metrics import NotANumber, ScoreMeter
from taut.training.module import LatentVariableModel

pytestmark = pytest.mark.usefixtures("float64")


def _images(n: int) -> torch.Tensor:
    return torch.randint(2, (n, *X)).double()


def test_vimco_weighs_each_draw_by_what_it_adds_to_the_bound():
    """A baseline without its log K, or on another axis, keeps the mean gradient and ruins its variance."""
    log_w = torch.randn(4, 3)
    log_qz = torch.zeros(4, 3, requires_grad=True)
    score_term(log_w, log_qz).sum().backward()
    w = log_w.numpy()
    for k in range(4):
        others = np.delete(w, k, 0)
        replaced = np.concatenate([others, others.mean(0, keepdims=True)])
        signal = logsumexp(w, 0) - logsumexp(replaced, 0)
        np.testing.assert_allclose(log_qz.grad[k], signal, atol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_warm_up_weighs_the_prior_and_q_of_every_draw(weight):
    """A warm-up that reaches the analytic KL alone."""
    joint, q, elbo = build("objective.kl=sampled")
    draws = draw(joint, q, _images(5), 4)
    light = Draws(**{**vars(draws), "kl_weight": weight})
    expected = draws.log_px + weight * (draws.log_pz - draws.log_qz)
    torch.testing.assert_close(light.tempered_log_w, expected)
    torch.testing.assert_close(elbo.surrogate(light), -expected.mean())
    for name in ("iwae", "stl"):
        bound = expected.logsumexp(0) - np.log(4)
        torch.testing.assert_close(build(f"objective={name}")[2].surrogate(light), -bound.mean())


MIXTURE = ["model=mog", "model.components=4", "q=categorical"]


@pytest.mark.parametrize("overrides", [["q=diagonal"], ["q=full"], MIXTURE], ids=["diagonal", "full", "categorical"])
def test_an_encoder_reads_columns_in_no_unit(overrides):
    """An encoder that meets raw columns: fine on pixels, saturated on minutes and dollars."""
    x = torch.randn(50, 3)
    _, q, _ = build(*overrides, x_shape=(3,))
    q.initialise(x)
    mean = q(x).mean
    q.initialise(1000 * x - 70)
    torch.testing.assert_close(q(1000 * x - 70).mean, mean, rtol=1e-9, atol=1e-9)


def test_an_encoder_reads_pixels_as_they_are():
    _, q, _ = build()
    x = torch.rand(50, *X)
    mean = q(x).mean
    q.initialise(x)
    torch.testing.assert_close(q(x).mean, mean, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["diagonal", "full"])
def test_under_a_box_prior_q_lives_in_the_box(name):
    """A q that leaves the support of the prior, where every log-weight is minus infinity; or a lost Jacobian."""
    _, q, _ = build("prior=uniform", f"q={name}", "latent_dim=1")
    posterior = q(_images(2))
    assert posterior.sample((10_000,)).abs().max() < 3
    grid = torch.linspace(-3, 3, 60_001)[1:-1]
    mass = posterior.log_prob(grid.view(-1, 1, 1)).exp().sum(0) * (grid[1] - grid[0])
    torch.testing.assert_close(mass, torch.ones(2), rtol=1e-3, atol=0)


def test_a_uniform_q_fills_its_box():
    """A box that ends at zero: every bound stays a bound, far below."""
    _, q, _ = build("q=uniform", "latent_dim=2")
    corners = torch.tensor([[-2.99, 2.99], [2.99, -2.99], [2.99, 2.99]]).unsqueeze(1)
    torch.testing.assert_close(q(_images(1)).log_prob(corners), torch.full((3, 1), -2 * np.log(6)))


@pytest.mark.parametrize("name", ["diagonal", "full"])
def test_the_second_head_of_a_gaussian_q_is_the_log_variance(name):
    """A log-variance read as a log-deviation: every bound stays a bound, and every published start is another."""
    _, q, _ = build(f"q={name}", "latent_dim=2", "network.hidden=[]", x_shape=(3,))
    mean, log_variance = torch.tensor([0.5, -1.0]), torch.tensor([0.2, -1.4])
    layer = q.encoder.net[0]
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.bias[:4] = torch.cat([mean, log_variance])
    posterior = q(torch.randn(6, 3))
    torch.testing.assert_close(posterior.mean, mean.expand(6, 2))
    torch.testing.assert_close(posterior.variance, log_variance.exp().expand(6, 2))


def test_m_step_of_a_linear_likelihood_is_the_regression_on_any_posterior():
    """An M-step that relies on z and x averaging to zero, as they do only at the optimum and in full batches."""
    joint, _, _ = build("model=ppca", "latent_dim=2", x_shape=(5,))
    joint.likelihood.initialise(torch.randn(30, 5))
    x, z = torch.randn(40, 5) + 3, torch.randn(40, 2) - 2
    factor = torch.randn(40, 2, 2).tril(-1) + torch.eye(2)
    joint.likelihood.maximise(joint.likelihood.statistics(x, MultivariateNormal(z, scale_tril=factor)))
    design = torch.cat([z, torch.ones(40, 1)], 1)
    second = design.mT @ design
    second[:2, :2] += (factor @ factor.mT).sum(0)
    solution = np.linalg.solve(second.numpy(), (design.mT @ x).numpy())  # [3, 5]
    residual = x.square().sum().item() - float((solution * (design.mT @ x).numpy()).sum())
    np.testing.assert_allclose(joint.likelihood.weight.detach(), solution[:2].T, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(joint.likelihood.mean.detach(), solution[2], rtol=1e-9, atol=1e-10)
    assert joint.likelihood.variance.item() == pytest.approx(residual / 200, rel=1e-9)


def test_a_component_that_explains_no_row_is_left_alone():
    """A division by an empty count: one NaN that the next E-step spreads to every component."""
    joint, _, _ = build("model=mog", "model.components=2", x_shape=(3,))
    x = torch.randn(20, 3)
    joint.likelihood.initialise(x)
    before = joint.likelihood.means.detach().clone(), joint.likelihood.covariances().detach()
    first = OneHotCategorical(torch.tensor([1.0, 0.0]).expand(20, 2))
    joint.likelihood.maximise(joint.likelihood.statistics(x, first))
    torch.testing.assert_close(joint.likelihood.means[1], before[0][1])
    torch.testing.assert_close(joint.likelihood.covariances()[1], before[1][1])
    torch.testing.assert_close(joint.likelihood.means[0], x.mean(0))


def test_pseudo_inputs_start_at_training_rows_and_stay_in_their_range():
    """A VampPrior that starts at noise, or whose pseudo-inputs wander to where q was never trained."""
    joint, _, _ = build("prior=vamp", "prior.components=4")
    prior, rows, z = joint.prior, 0.2 + 0.5 * torch.rand(20, *X), torch.randn(7, 3)
    prior.initialise(rows)
    assert all((rows == pseudo).flatten(1).all(1).any() for pseudo in prior.pseudo_inputs.detach())
    for far, end in ((100.0, rows.max()), (-100.0, rows.min())):
        with torch.no_grad():
            prior.pseudo_inputs.fill_(far)
        outside = prior().log_prob(z)
        with torch.no_grad():
            prior.pseudo_inputs.fill_(end)
        torch.testing.assert_close(outside, prior().log_prob(z))


def test_a_pixel_that_is_never_on_starts_at_the_published_clip():
    """An offset of minus infinity, and a NaN in the first step."""
    joint, _, _ = build()
    joint.likelihood.initialise(torch.zeros(8, *X))
    torch.testing.assert_close(joint.likelihood.offset.sigmoid(), torch.full(X, 0.001))


def test_a_component_s_samples_have_its_covariance():
    """Samples through the transposed factor: the right mean, and another ellipse."""
    joint, _, _ = build("model=mog", "model.components=2", x_shape=(3,))
    with torch.no_grad():
        joint.likelihood.log_scales.normal_(std=0.5)
        joint.likelihood.lower.normal_()
    z = torch.eye(2)[1].expand(100_000, 2)
    covariance = joint.likelihood.covariances()[1].detach()
    error = joint.likelihood(z).sample().mT.cov() - covariance
    scale = covariance.diagonal().sqrt()
    assert (error / torch.outer(scale, scale)).abs().max() < 6 * (2 / 100_000) ** 0.5


def test_stepwise_sums_are_those_of_one_row_whatever_the_batches_hold():
    """Sums of whole batches: a short last batch counts for less, and its average row for nothing in particular."""
    joint, _, em = build("model=mog", "model.components=2", "objective.minibatch=true", x_shape=(3,))
    x = torch.randn(30, 3)
    joint.likelihood.initialise(x)
    maximiser = em.optimizer(joint, joint.parameters(), torch.optim.SGD)
    for rows in x.split([20, 7, 3]):
        maximiser.step(lambda rows=rows: em.expect(joint, rows))
        assert maximiser.sums["prior"]["counts"].sum().item() == pytest.approx(1)


def test_the_curve_is_the_bound_at_each_block_size():
    joint, q, objective = build("objective=iwae")
    settings = {"seed": 0, "split": "val"}
    x, rows = _images(3), torch.arange(3)
    curve = score(joint, q, x, rows, bound=objective.bound, k=1, samples=10, **settings).curve
    w = sample(joint, q, x, rows, 10, **settings).log_w.exp()
    expected = [w.view(-1, k, 3).mean(1).log().mean(0) for k in (1, 2, 5, 10)]
    torch.testing.assert_close(curve, torch.stack(expected))


def test_the_mean_of_one_draw_is_that_draw():
    """An estimate of E[z] divided by another number than K, where q has no mean in closed form."""
    joint, q, _ = build("prior=uniform")
    x = _images(3)
    drawn = sample(joint, q, x, torch.arange(3), 1, seed=0, split="val")
    torch.testing.assert_close(q(x).log_prob(drawn.mean_z), drawn.log_qz[0])


def _scores(n: int, **values: torch.Tensor) -> Scores:
    z = torch.full((n, 2), 5.0)
    return Scores(values, {}, torch.zeros(1, n), mean_z=z, noise_z=torch.zeros_like(z))


def test_a_unit_that_is_the_same_for_every_datum_is_not_active():
    """A second moment in place of a variance."""
    meter = ScoreMeter(["a"], 1, (2,), "val")
    meter.update(_scores(9, a=torch.zeros(9)), torch.arange(9))
    assert meter.compute().scores["active_units"]["value"] == 0


def test_a_nan_in_any_score_is_refused():
    meter = ScoreMeter(["a", "b"], 1, (2,), "test")
    with pytest.raises(NotANumber, match=r"test/b of row 8 is nan"):
        meter.update(_scores(2, a=torch.zeros(2), b=torch.tensor([0.0, torch.nan])), torch.tensor([3, 8]))


def test_more_of_a_bound_is_better():
    """A selection that keeps the worst weights, or stops at the first progress."""
    assert early_stopping().mode == "max"
    assert best().mode == "max"


# --- the training shell: what a step of training really minimises ---


def _model(monkeypatch, *overrides: str, rank: int = 0, world: int = 1) -> tuple[LatentVariableModel, dict]:
    cfg = config("k_eval=6", "k_test=9", *overrides)
    rows = lambda *_: _images(40)  # noqa: E731
    data = SimpleNamespace(training_rows=rows, starting_rows=rows, rows_of=rows, stored=SimpleNamespace(train=rows()))
    model = build_model(cfg, data)
    logged = {}
    monkeypatch.setattr(model, "log", lambda name, value, **_: logged.update({name: float(value)}))
    monkeypatch.setattr(model, "log_dict", lambda values, **_: logged.update(values))
    trainer = SimpleNamespace(
        world_size=world,
        global_rank=rank,
        global_step=0,
        is_last_batch=False,
        sanity_checking=False,
        should_stop=False,
        max_steps=-1,
        accumulate_grad_batches=1,
        precision="32-true",
        strategy=None,
        optimizers=[],
    )
    monkeypatch.setattr(type(model), "trainer", trainer, raising=False)
    model.on_train_start()
    return model, logged


STEPS = [
    ["objective=elbo", "k=3"],
    ["objective=stl", "k=3"],
    ["objective=dreg", "k=3"],
    ["objective.outer=1", "objective=piwae", "k=3"],
    *([f"objective={name}", "k=3"] for name in ("iwae", "ciwae", "vr_iwae", "tvo", "beta", "free_bits")),
    *([*MIXTURE, "likelihood=bernoulli", f"objective={name}", "k=3"] for name in ("vimco", "reinforce", "rws")),
    ["prior=bernoulli", "q=bernoulli", "objective=disarm", "k=4"],
    ["prior=bernoulli", "q=bernoulli", "objective=gumbel", "k=3"],
]


@pytest.mark.parametrize("overrides", STEPS, ids=lambda words: words[-2])
def test_a_training_step_follows_its_objective(overrides, monkeypatch):
    """A step that forgets K, the path gradient, the warm-up or the size of its shard: it trains, to somewhere else."""
    model, logged = _model(monkeypatch, *overrides, world=2)
    x = _images(3)
    model.kl_weight = 0.3

    def gradient(loss: torch.Tensor) -> torch.Tensor:
        model.zero_grad(set_to_none=False)
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone()

    torch.manual_seed(1)
    batch = Batch(x, torch.arange(3), 5)
    stepped = gradient(model.training_step(batch, 0))
    model.on_train_batch_end(None, batch, 0)
    torch.manual_seed(1)
    if type(model.objective).draw is Objective.draw:
        draws = draw(model.joint, model.q, x, 3, path_only=model.objective.name in ("stl", "dreg"))
    else:
        draws = model.objective.draw(model.joint, model.q, x, model.k)
    surrogate = model.objective.surrogate(replace(draws, kl_weight=0.3))
    torch.testing.assert_close(stepped, gradient(surrogate * 3 * 2 / 5), rtol=1e-10, atol=1e-12)
    assert logged["train/bound"] == pytest.approx(model.objective.bound(draws.log_w).mean().item(), rel=1e-12)


def test_no_two_steps_or_ranks_share_noise(monkeypatch):
    model, _ = _model(monkeypatch)
    seeds = []
    for step in range(20):
        for rank in range(3):
            model.trainer.global_step, model.trainer.global_rank, model.trainer.world_size = step, rank, 3
            model.on_train_batch_start(Batch(_images(1), torch.arange(1), 1), 0)
            seeds.append(torch.initial_seed())
    assert len(set(seeds)) == 60


def test_evaluation_samples_are_a_multiple_of_k_and_never_fewer_than_asked(monkeypatch):
    model, _ = _model(monkeypatch, "model=iwae", "k=4")
    assert model.samples == {"val": 8, "test": 12}


def test_a_split_is_scored_alike_each_time_and_unlike_another_split(monkeypatch):
    """A meter that is not reset, noise that moves between epochs, or a test split that repeats validation noise."""
    model, logged = _model(monkeypatch, "k_eval=8", "k_test=8")
    first, second = (Batch(_images(n), torch.arange(n), n) for n in (5, 7))
    seen = []
    for batch in (first, second, first):
        model.validation_step(batch, 0)
        model.on_validation_epoch_end()
        seen.append((logged["val/elbo"], model.summaries["val"].n))
    model.test_step(first, 0)
    model.on_test_epoch_end()
    assert seen[2] == seen[0] != seen[1]
    assert [n for _, n in seen] == [5, 7, 5]
    assert logged["test/elbo"] != logged["val/elbo"]
    model.seed += 1
    model.validation_step(first, 0)
    model.on_validation_epoch_end()
    assert logged["val/elbo"] != seen[0][0]


@pytest.mark.parametrize("alpha", [0.5, -0.5])
def test_an_estimate_may_lie_above_a_mass_and_a_lower_bound_may_not(alpha, monkeypatch):
    model, logged = _model(monkeypatch, "objective=vr_iwae", f"objective.alpha={alpha}", "k_eval=8")
    monkeypatch.setattr(model.objective, "bound", lambda log_w: 100 + log_w.mean(0))
    model.validation_step(Batch(_images(5), torch.arange(5), 5), 0)
    if alpha < 0:
        model.on_validation_epoch_end()
        assert logged["val/bound"] > 0
        return
    with pytest.raises(Void, match="the bound at k = 1 is"):
        model.on_validation_epoch_end()


def test_training_on_a_bound_that_is_not_finite_names_the_row(monkeypatch):
    model, _ = _model(monkeypatch)
    x = _images(3)
    x[1] = torch.inf
    for rows in (_images(3), x, x):  # what follows is not finite either
        batch = Batch(rows, torch.tensor([4, 17, 8]), 3)
        model.training_step(batch, 0)
    with pytest.raises(NotANumber, match=r"bound of row 17 is not finite at step 1;"):
        model.on_train_batch_end(None, batch, 0)


def test_reconstructions_are_means_not_samples(monkeypatch):
    model, _ = _model(monkeypatch)
    pixels = model.reconstruct(_images(3))
    assert ((pixels > 0) & (pixels < 1)).all()


def test_every_objective_has_a_step_here_or_a_closed_form():
    covered = {words[-2].split("=")[1] for words in STEPS} | {"em", "exact"}
    assert covered == set(names("objective"))


def test_the_test_split_is_scored_by_the_best_weights_not_the_last(tmp_path):
    """All rows in every split and an exact log p(x): the test must repeat the best validation to rounding."""
    path = tmp_path / "rows.npy"
    np.save(path, torch.randn(60, 3).numpy())
    model = ["model=ppca", "objective=exact", "latent_dim=1", "optimizer.lr=2"]
    data = ["data=table", f"data.path={path}", "data.val_fraction=0", "data.test_fraction=0"]
    epochs = ["trainer.max_epochs=6", "trainer.check_val_every_n_epoch=1", "trainer.precision=64-true"]
    result = run(tmp_path / "run", *model, *data, *epochs, *QUIET)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        bounds = [float(row["val/bound"]) for row in csv.DictReader(file)]
    assert max(bounds) - bounds[-1] > 0.01
    assert result["validation"]["bound"] == pytest.approx(max(bounds), abs=1e-9)
    assert result["scores"]["bound"]["value"] == pytest.approx(max(bounds), abs=1e-9)
