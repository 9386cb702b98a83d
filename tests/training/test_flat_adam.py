"""Adam over one array is torch's Adam: its formula, its state, and its own way where somebody else has a hand in it."""

from copy import deepcopy

import pytest
import torch
from torch.nn import Parameter

from taut.training.flat_adam import FlatAdam

SHAPES = [(5, 3), (7,), (1,), (4, 16)]
STEPS = 6
ROUNDING = {"rtol": 1e-5, "atol": 1e-7}  # of a few dozen operations in single precision
SETTINGS = {
    "as it is": {},
    "decayed weights": {"weight_decay": 0.1},
    "upwards": {"maximize": True, "betas": (0.5, 0.9)},
}


def parameters():
    torch.manual_seed(3)
    return [Parameter(torch.randn(shape)) for shape in SHAPES]


def pair(**settings):
    """Parameters and optimiser of this project, laid out, and of torch, with what each step's gradients are."""
    ours, theirs = parameters(), parameters()
    settings = {"lr": 0.01, "fused": True, **settings}
    flat, plain = FlatAdam.of(torch.optim.Adam(ours, **settings)), torch.optim.Adam(theirs, **settings)
    assert isinstance(flat, FlatAdam)
    return ours, flat, theirs, plain


def gradients(step):
    torch.manual_seed(step)
    return [torch.randn(shape) for shape in SHAPES]


def advance(step, ours, flat, theirs, plain, kept):
    """One step of both; ours finds its gradients where they are kept, or else elsewhere."""
    for number, gradient in enumerate(gradients(step)):
        theirs[number].grad = gradient
        room = kept.get(ours[number])
        ours[number].grad = gradient.clone() if room is None else room.copy_(gradient)
    flat.step()
    plain.step()


def agree(ours, flat, theirs, plain):
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, **ROUNDING)
        assert flat.state[mine]["step"] == plain.state[other]["step"]
        for name in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(flat.state[mine][name], plain.state[other][name], **ROUNDING)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_steps_are_those_of_torch(settings):
    both = pair(**SETTINGS[settings])
    kept = both[1].lay()
    for step in range(STEPS):
        for optimizer in both[1::2]:
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)  # as a schedule would
        advance(step, *both, kept)
    agree(*both)


def test_what_was_trained_before_is_laid_out_as_it_stands():
    both = pair()
    for step in range(STEPS):
        advance(step, *both, both[1].lay() if step == 3 else {})
    agree(*both)


@pytest.mark.parametrize("who", ["another gradient", "no gradient", "a moved parameter"])
def test_a_step_that_others_have_a_hand_in_is_torchs_own(who):
    both = ours, _, theirs, _ = pair()
    kept = both[1].lay()
    advance(0, *both, kept)
    if who == "another gradient":
        advance(1, *both, {})
    elif who == "no gradient":
        for number, gradient in enumerate(gradients(1)):
            ours[number].grad, theirs[number].grad = (gradient, gradient.clone()) if number else (None, None)
        both[1].step(), both[3].step()
    else:
        ours[0].data = ours[0].data.clone()
        advance(1, *both, kept)
    advance(2, *both, kept if who != "no gradient" else {})
    agree(*both)


def test_the_state_is_torchs_and_each_parameter_counts_for_itself():
    both = pair()
    kept = both[1].lay()
    advance(0, *both, kept)
    restored = torch.optim.Adam(parameters(), lr=0.01, fused=True)
    restored.load_state_dict(deepcopy(both[1].state_dict()))
    again = FlatAdam.of(torch.optim.Adam(parameters(), lr=0.01, fused=True))
    again.load_state_dict(deepcopy(both[3].state_dict()))
    for optimizer in (restored, again):
        found = [p for group in optimizer.param_groups for p in group["params"]]
        for p, source in zip(found, both[0], strict=True):
            p.data.copy_(source)
        for p, gradient in zip(found, gradients(1), strict=True):
            p.grad = gradient
        optimizer.step()
    advance(1, *both, kept)
    for optimizer in (restored, again):
        found = [p for group in optimizer.param_groups for p in group["params"]]
        agree(found, optimizer, both[2], both[3])


def test_a_state_that_is_loaded_later_counts():
    both = _, flat, _, plain = pair()
    kept = flat.lay()
    advance(0, *both, kept)
    before = deepcopy(flat.state_dict())
    advance(1, *both, kept)
    flat.load_state_dict(deepcopy(before))
    plain.load_state_dict(deepcopy(before))
    advance(2, *both, kept)
    agree(*both)


@pytest.mark.parametrize(
    "settings",
    [{"amsgrad": True}, {"fused": False}, {"lr": torch.tensor(0.01)}, {"differentiable": True, "fused": False}],
)
def test_other_settings_are_left_to_torch(settings):
    ours, flat, theirs, plain = pair(**settings)
    assert flat.lay() == {}
    if "differentiable" not in settings:
        advance(0, ours, flat, theirs, plain, {})
        agree(ours, flat, theirs, plain)


def test_other_precisions_groups_and_optimisers_are_left_to_torch():
    double = [Parameter(torch.randn(3, dtype=torch.float64))]
    assert FlatAdam.of(torch.optim.Adam(double, fused=True)).lay() == {}
    groups = [{"params": [p]} for p in parameters()]
    assert FlatAdam.of(torch.optim.Adam(groups, fused=True)).lay() == {}
    other = torch.optim.AdamW(parameters())
    assert FlatAdam.of(other) is other
