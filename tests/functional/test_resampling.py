"""Few draws in the place of all: unbiased, to the last digit, over the one uniform number that chooses them."""

from types import SimpleNamespace

import pytest
import torch
from pieces import config
from torch.testing import assert_close

from taut.errors import UserError
from taut.functional.resampling import resample, threshold
from taut.model.draws import draw
from taut.objective.dreg import Dreg
from taut.objective.iwae import Iwae
from taut.training.build import build_model

pytestmark = pytest.mark.usefixtures("float64")
WEIGHTS = {
    "equal": torch.ones(7),
    "one": torch.tensor([0.0, 0, 1, 0, 0]),
    "few": torch.tensor([0.0, 3, 0, 1, 0, 0]),
    "steep": torch.exp(-torch.arange(12.0)),
    "large": torch.tensor([5.0, 1, 1, 1, 1, 1, 5]),
}


def _data(x):
    """As much of a data set as a model asks for."""
    rows = lambda *_: x  # noqa: E731
    return SimpleNamespace(training_rows=rows, starting_rows=rows, rows_of=rows, stored=SimpleNamespace(train=x))


def pieces(weights, m):
    """Every interval of u on which the same draws are chosen: its length, and a number within."""
    chance = (weights / threshold(weights[:, None], m).clamp_min(1e-300)).clamp_max(1.0)
    edges = torch.cat([torch.tensor([0.0, 1.0]), chance.cumsum(0) % 1]).sort().values
    lengths = edges.diff()
    return [(length, left + length / 2) for length, left in zip(lengths, edges[:-1], strict=True) if length > 1e-12]


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_each_draw_counts_as_much_as_its_weight_on_average(name, m):
    weights = WEIGHTS[name].double() / WEIGHTS[name].double().sum()
    mean, total = torch.zeros_like(weights), 0.0
    for length, u in pieces(weights, m):
        index, resampled = resample(weights[:, None], m, u[None])
        chosen = index[resampled > 0]
        assert len(set(chosen.tolist())) == len(chosen) == min(m, int((weights > 0).sum()))
        mean.index_add_(0, index.flatten(), length * resampled.flatten())
        total += length
    assert total == pytest.approx(1.0, abs=1e-9)
    assert_close(mean, weights, rtol=1e-9, atol=1e-11)


def test_a_weight_that_is_sure_to_be_chosen_keeps_its_value():
    weights = WEIGHTS["large"].double() / 15
    for _, u in pieces(weights, 4):
        index, resampled = resample(weights[:, None], 4, u[None])
        kept = {int(i): float(s) for i, s in zip(index, resampled, strict=True)}
        assert kept[0] == kept[6] == pytest.approx(1 / 3)


def test_no_weight_at_all_counts_nothing():
    _, weights = resample(torch.zeros(4, 2), 3, torch.tensor([0.1, 0.9]))
    assert not weights.any()


@pytest.mark.parametrize("objective", [Iwae, Dreg])
@pytest.mark.parametrize("m", [1, 2, 4])
@pytest.mark.parametrize("kl_weight", [1.0, 0.3])
def test_the_gradient_is_that_of_all_draws_on_average(objective, m, kl_weight, monkeypatch):
    """For one datum and the same noise, integrated over u exactly."""
    cfg = config("objective=iwae", "q=diagonal", "k=6")
    x = torch.bernoulli(torch.full((20, *cfg.x_shape), 0.4))
    data = _data(x)
    model = build_model(cfg, data).double()
    parameters = [*model.parameters()]

    def gradient(backward, u=None):
        if u is not None:
            monkeypatch.setattr(torch, "rand", lambda *shape, device=None: u[None])
        recipe = objective(backward)
        torch.manual_seed(3)
        how = {"path_only": recipe.path_only, "backward": recipe.backward, "kl_weight": kl_weight}
        draws = draw(model.joint, model.q, x[:1], 6, **how)
        found = torch.autograd.grad(recipe.surrogate(draws), parameters, allow_unused=True)
        flat = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        return torch.cat([g.flatten() for g in flat]), draws

    want, all_draws = gradient("all")
    with torch.no_grad():
        weights = torch.softmax(all_draws.tempered_log_w[:, 0], 0)
    parts = [(length, gradient(m, u)) for length, u in pieces(weights, m)]
    for _, (_, draws) in parts:
        assert draws.z.shape[0] == m
        assert_close(draws.log_w_detached, all_draws.log_w)
    assert_close(sum(length * one for length, (one, _) in parts), want, rtol=1e-8, atol=1e-10)


def test_draws_without_a_path_are_refused():
    cfg = config("model=mog", "likelihood=bernoulli", "q=categorical", "objective=iwae", "k=6", "objective.backward=2")
    x = torch.bernoulli(torch.full((20, *cfg.x_shape), 0.4))
    data = _data(x)
    with pytest.raises(UserError, match="reparameterised"):
        build_model(cfg, data)
