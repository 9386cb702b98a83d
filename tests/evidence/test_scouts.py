"""What chains that are tried on a few data say: the spread of their log-weights, and which lengths it calls for."""

import math

import pytest
import torch

from taut.evidence.tolerance.scouts import HEAVIER, LIGHT, STEPS, _cheapest, power_law, spread_of

pytestmark = pytest.mark.usefixtures("float64")


def test_the_spread_is_the_variance_of_normal_log_weights_whatever_lies_far_below():
    torch.manual_seed(0)
    log_w = 1.3 * torch.randn(400, 50) + 7 * torch.randn(50)
    # the standard error of a variance of 20,000 normal numbers is 1%
    assert spread_of(log_w) == pytest.approx(1.69, rel=0.05)
    log_w[0] = -1e4
    log_w[1] = -math.inf
    assert spread_of(log_w) == pytest.approx(1.69, rel=0.15)


def test_no_spread_is_known_where_hardly_a_chain_has_mass():
    assert spread_of(torch.full((8, 3), -math.inf)) == math.inf


def test_a_power_law_is_found_again_and_beyond():
    spread = {steps: 40 * steps**-0.6 for steps in STEPS[:3]}
    assert power_law(spread, 100) == pytest.approx(40 * 100**-0.6)


def test_chains_are_as_long_as_light_tails_ask_for_where_few_do():
    spread = {steps: 20 * steps**-0.6 for steps in STEPS[:4]}
    steps, variance = _cheapest(spread, STEPS[3], 0.4, 2.0, 200)
    # 20 T^-0.6 = LIGHT^2
    shortest = (20 / LIGHT**2) ** (1 / 0.6)
    assert shortest <= steps < shortest + 4
    assert variance == pytest.approx(HEAVIER * math.expm1(20 * steps**-0.6))


def test_chains_are_longer_where_the_tolerance_asks_for_many():
    spread = {steps: 20 * steps**-0.6 for steps in STEPS}
    lengths = [_cheapest(spread, STEPS[-1], 0.4, asked, 200)[0] for asked in (2.0, 0.02)]
    assert lengths[0] < lengths[1]
