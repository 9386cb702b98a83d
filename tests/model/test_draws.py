import pieces
import pytest
import torch

from taut.model import draws
from taut.model.draws import Draws, draw

K = 40
ALL_DRAWS = ["iwae", "stl", "dreg"]


def steep_model(objective: str, dtype: torch.dtype):
    """A model whose log-weights spread over more nats than float32 has powers of e."""
    joint, q, chosen = pieces.build("model=iwae", f"objective={objective}", x_shape=(1, 16, 16))
    with torch.no_grad():
        for parameter in joint.likelihood.parameters():
            parameter.mul_(20.0)
    torch.manual_seed(1)
    x = torch.rand(30, 1, 16, 16).round()
    return joint.to(dtype), q.to(dtype), chosen, x.to(dtype)


def gradients(objective: str, dtype: torch.dtype) -> tuple[Draws, torch.Tensor]:
    """The draws of one step, and its gradient by all parameters."""
    torch.manual_seed(0)
    joint, q, chosen, x = steep_model(objective, dtype)
    found = draw(joint, q, x, K, path_only=chosen.path_only)
    found.log_px.retain_grad()
    chosen.surrogate(found).backward()
    by = [p.grad.flatten().double() for p in [*joint.parameters(), *q.parameters()] if p.grad is not None]
    return found, torch.cat(by)


@pytest.mark.parametrize("objective", ALL_DRAWS)
def test_no_subnormal_weight_reaches_the_decoder(objective):
    found, _ = gradients(objective, torch.float32)
    weights = torch.softmax(found.log_w_detached.float(), 0)
    assert ((weights > 0) & (weights < torch.finfo(torch.float32).tiny)).any()  # else the model is not steep enough
    sizes = found.log_px.grad.abs()
    assert ((sizes == 0) | (sizes >= 0.99e-15 * sizes.amax(0))).all()


# each of K gradients that go is below 1e-15 of one that stays; float32 rounds each to 6e-8 of it
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-6), (torch.float64, K * 1e-15)])
@pytest.mark.parametrize("objective", ALL_DRAWS)
def test_traces_are_below_the_rounding_of_a_gradient(objective, dtype, share, monkeypatch):
    _, without = gradients(objective, dtype)
    monkeypatch.setattr(draws, "without_traces", lambda gradient: gradient)
    _, whole = gradients(objective, dtype)
    assert (without - whole).norm() <= share * whole.norm()


def test_traces_are_judged_datum_by_datum():
    gradient = torch.tensor([[1.0, 1e-20], [1e-14, 1e-34], [1e-16, 2e-36], [-1e-16, -1e-20]])
    kept = torch.tensor([[1.0, 1e-20], [1e-14, 1e-34], [0.0, 0.0], [0.0, -1e-20]])
    torch.testing.assert_close(draws.without_traces(gradient), kept, rtol=0, atol=0)
