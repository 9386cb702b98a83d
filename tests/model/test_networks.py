"""Activations: torch's numbers, by whatever way they are made."""

import pytest
import torch

from taut.model.networks import ACTIVATIONS, Tanh

ROUNDING = torch.finfo(torch.float32).eps


def _grid() -> torch.Tensor:
    return torch.cat([torch.linspace(-20, 20, 4001), torch.tensor([1e-4, -1e-8, torch.inf, -torch.inf])])


def test_tanh_without_a_graph_is_tanh_to_two_roundings_of_one():
    x = _grid()
    before = x.clone()
    with torch.no_grad():
        found = Tanh()(x)
    assert torch.equal(x, before)
    assert (found - x.double().tanh()).abs().max() <= 2 * ROUNDING
    assert found.abs().max() == 1
    assert Tanh()(torch.tensor([torch.nan])).isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_tanh_of_other_precisions_is_torchs(dtype):
    x = _grid().to(dtype)
    with torch.no_grad():
        assert torch.equal(Tanh()(x), x.tanh())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_are_right(name):
    x = torch.linspace(-3, 3, 10, dtype=torch.float64, requires_grad=True)  # without 0, where some have a kink
    assert torch.autograd.gradcheck(ACTIVATIONS[name](), x)
