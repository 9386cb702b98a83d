"""Weights of a model are constant while z is scored, and what they were before afterwards."""

import pytest
import torch

from taut.evidence.target import constant


def test_weights_are_constant_for_a_moment():
    trained, frozen = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2), requires_grad=False)
    z = torch.ones(2, requires_grad=True)
    with constant([trained, frozen]):
        score = (trained * frozen * z).sum()
        assert not trained.requires_grad
    assert trained.requires_grad
    assert not frozen.requires_grad
    score.backward()
    assert trained.grad is None
    torch.testing.assert_close(z.grad, torch.ones(2))


def test_weights_are_trained_again_after_an_error():
    trained = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ZeroDivisionError), constant([trained]):
        _ = 1 / 0
    assert trained.requires_grad
