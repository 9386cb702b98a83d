"""Learning-rate schedules that torch does not have."""

from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from taut.errors import UserError

STAGES = 8
PASSES = (3**STAGES - 1) // 2
"""Passes over the data of the published schedule: $3^0 + \\dots + 3^7 = 3280$."""


def burda_factor(epoch: int, epochs: int = PASSES) -> float:
    r"""The factor $10^{-i/7}$ in epoch ``epoch``, counted from 0, of the published IWAE schedule.

    Stage $i = 0, \dots, 7$ lasts $3^i$ passes over the data, 3280 in all, at the rate $0.001 \cdot 10^{-i/7}$; after
    the last pass the last factor stays (Burda, Grosse & Salakhutdinov, 2016, section 5). Where the schedule is to end
    after other ``epochs``, every stage lasts in proportion, and an epoch has the factor of the stage it begins in.

    >>> [round(burda_factor(epoch), 4) for epoch in (0, 1, 3, 4, 3279)]
    [1.0, 0.7197, 0.7197, 0.5179, 0.1]
    >>> [round(burda_factor(epoch, epochs=200), 4) for epoch in (0, 1, 66, 67, 199)]
    [1.0, 0.3728, 0.1389, 0.1, 0.1]
    """
    stage = sum(epoch * PASSES >= epochs * (3**i - 1) // 2 for i in range(1, STAGES))
    return 10 ** (-stage / (STAGES - 1))


def burda(optimizer: Optimizer, epochs: int = PASSES) -> LambdaLR:
    """The published IWAE schedule on top of the optimizer's rate, 0.001 in the paper; steps once per epoch.

    The rate is a function of the epoch alone, so a resumed run continues it exactly. ``epochs`` compresses it.

    Raises:
        UserError: Where ``epochs`` is no positive whole number.
    """
    if epochs < 1:
        raise UserError(f"scheduler.epochs must be at least 1, not {epochs}; the published schedule has {PASSES}")
    return LambdaLR(optimizer, partial(burda_factor, epochs=epochs))
