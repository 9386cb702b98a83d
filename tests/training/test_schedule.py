"""The published schedule at its pass boundaries, and every schedule across a resume."""

import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from taut.errors import UserError
from taut.training.schedulers import burda, burda_factor

SCHEDULES = sorted(path.stem for path in Path(__file__).parents[2].glob("conf/scheduler/*.yaml"))


def optimizer(lr=1e-3):
    return torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))], lr=lr)


def test_stages_last_three_to_the_i_passes_3280_in_all():
    factors = [burda_factor(epoch) for epoch in range(3280)]
    published = [10 ** (-i / 7) for i in range(8) for _ in range(3**i)]
    assert len(published) == 3280
    assert factors == pytest.approx(published, rel=1e-14)
    assert burda_factor(5000) == pytest.approx(0.1)


@pytest.mark.parametrize("epochs", [200, 3280, 32800])
def test_a_compressed_schedule_changes_where_the_same_share_of_it_is_over(epochs):
    """Stage i begins with the first epoch that is no earlier than (3^i - 1) / 2 passes of 3280, in exact fractions."""
    begins = [math.ceil(Fraction(epochs * (3**i - 1), 2 * 3280)) for i in range(8)]
    stages = [max(i for i in range(8) if begins[i] <= epoch) for epoch in range(epochs)]
    factors = [burda_factor(epoch, epochs) for epoch in range(epochs)]
    assert factors == pytest.approx([10 ** (-stage / 7) for stage in stages], rel=1e-14)
    assert rates(burda(optimizer(), epochs), 3) == pytest.approx([1e-3 * factor for factor in factors[:3]], rel=1e-12)


def test_a_schedule_of_no_epochs_is_refused():
    with pytest.raises(UserError, match=r"^scheduler\.epochs must be at least 1, not 0"):
        burda(optimizer(), 0)


def rates(scheduler, epochs):
    seen = []
    for _ in range(epochs):
        seen.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


def test_the_optimiser_follows():
    assert rates(burda(optimizer()), 5) == pytest.approx(
        [1e-3, 7.196856730e-4, 7.196856730e-4, 7.196856730e-4, 5.179474680e-4]
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_schedule_continues_to_the_last_bit(name):
    node = OmegaConf.load(Path(__file__).parents[2] / f"conf/scheduler/{name}.yaml")
    schedule = instantiate(OmegaConf.create({"trainer": {"max_epochs": 9}, "scheduler": node}).scheduler)
    whole = rates(schedule(optimizer()), 9)
    first = schedule(optimizer())
    head = rates(first, 4)
    second = schedule(optimizer())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert head + rates(second, 5) == whole
    assert (len(set(whole)) == 1) == (name == "constant")
