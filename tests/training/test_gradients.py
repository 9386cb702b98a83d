"""Signal to noise of gradients: of made ones, and against K on a model that sits near its optimum."""

import numpy as np
import pytest
import torch
from pieces import build

from taut.functional.signal_to_noise import GradientSums, SignalToNoise, slope
from taut.model import exact_inference
from taut.training.gradients import signal_to_noise

pytestmark = pytest.mark.usefixtures("float64")


def _sums(gradients: torch.Tensor) -> SignalToNoise:
    sums = GradientSums(gradients.shape[1], gradients.device)
    for number, gradient in enumerate(gradients):
        sums.add(number, gradient)
    return sums.ratio()


def test_the_ratio_of_made_gradients_is_found_within_its_error():
    """|m| / (s sqrt p) of N(m, s^2 I); a biased signal would be off by s^2 p / n in its square, here by 8 errors."""
    mean = torch.tensor([0.3, -0.2, 0.1, 0.0, 0.0])
    truth = mean.norm().item() / (2 * 5**0.5)
    found = [_sums(mean + 2 * torch.randn(200, 5)) for _ in range(40)]
    squares = np.array([ratio.value**2 for ratio in found])
    assert abs(squares.mean() - truth**2) < 5 * squares.std() / len(found) ** 0.5
    stated = np.mean([2 * ratio.value * ratio.error for ratio in found if ratio.value > 0])
    assert stated == pytest.approx(squares.std(), rel=0.5)
    none = [_sums(2 * torch.randn(200, 5)) for _ in range(40)]
    assert sum(ratio.told for ratio in none) <= 4
    assert all(ratio.told for ratio in (_sums(mean + 0.1 * torch.randn(40, 5)),))


def test_the_slope_is_that_of_numpy_s_weighted_least_squares():
    ks, values, errors = [1, 4, 16, 64], [3.0, 1.7, 0.7, 0.5], [0.1, 0.1, 0.1, 0.05]
    ratios = [SignalToNoise(v, e, v, 1.0) for v, e in zip(values, errors, strict=True)]
    weights = np.array(values) / np.array(errors)
    (expected, _), covariance = np.polyfit(np.log(ks), np.log(values), 1, w=weights, cov="unscaled")
    assert slope(ks, ratios) == pytest.approx((expected, covariance[0, 0] ** 0.5))
    unseen = SignalToNoise(0.1, 0.2, 0.1, 1.0)
    assert slope([*ks, 256], [*ratios, unseen]) == slope(ks, ratios)
    assert slope([1, 4], [ratios[0], unseen]) is None


def _near_the_optimum():
    """A line in the plane; q is its posterior and the data are its own, but for 0.03 in every parameter."""
    joint, q, _ = build("model=ppca", "q=diagonal", "latent_dim=1", "network.hidden=[]", x_shape=(2,))
    x = joint.sample(400)[1]
    with torch.no_grad():
        at_zero, *at_axes = (
            exact_inference.posterior(joint, row) for row in (torch.zeros(1, 2), *torch.eye(2)[:, None])
        )
        layer = q.encoder.net[0]
        layer.weight.zero_()
        layer.weight[0] = torch.cat([(one.mean - at_zero.mean)[0] for one in at_axes])
        layer.bias.copy_(torch.cat([at_zero.mean[0], 2 * at_zero.scale_tril[0, 0].log()]))
        for parameter in (*joint.parameters(), *q.parameters()):
            parameter.add_(0.03 * torch.randn_like(parameter))
    return joint, q, x


def test_the_signal_of_q_drowns_under_iwae_and_grows_under_dreg_and_for_the_model(trainings):
    """Rainforth et al. (2018): K^-1/2, K^1/2 for the model, and with DReG (Tucker et al., 2019) K^1/2 for q as well.

    The powers hold for large K; at these they are off by up to 0.1.
    """
    joint, q, x = _near_the_optimum()
    found, fall = {}, {}
    for name, ks, rows in (("iwae", [2, 8, 32], 400), ("dreg", [8, 32, 128], 40)):
        recipe = build(f"objective={name}")[2]
        for part, ratios in signal_to_noise(joint, q, recipe, x[:rows], ks, draws=200).items():
            found[name, part] = slope(ks, ratios)
            fall[name, part] = ratios[0].signal / ratios[-1].signal
    for key, expected in {("iwae", "q"): -0.5, ("iwae", "model"): 0.5, ("dreg", "q"): 0.5}.items():
        value, error = found[key]
        assert error < 0.08, key
        assert abs(value - expected) < 0.1 + 4 * error, (key, value, error)
    # of L_K, so in K^-1; a gradient with a bias keeps it
    assert fall["dreg", "q"] == pytest.approx(128 / 8, rel=0.3)
    assert all(parameter.requires_grad for parameter in q.parameters())
