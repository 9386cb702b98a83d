"""The published schedule at its pass boundaries, and every schedule across a resume."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

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
