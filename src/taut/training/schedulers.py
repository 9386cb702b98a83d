"""Learning-rate schedules that torch does not have."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

STAGES = 8


def burda_factor(epoch: int) -> float:
    r"""The factor $10^{-i/7}$ in epoch ``epoch``, counted from 0, of the published IWAE schedule.

    Stage $i = 0, \dots, 7$ lasts $3^i$ passes over the data, 3280 in all, at the rate $0.001 \cdot 10^{-i/7}$; after
    the last pass the last factor stays (Burda, Grosse & Salakhutdinov, 2016, section 5).

    >>> [round(burda_factor(epoch), 4) for epoch in (0, 1, 3, 4, 3279)]
    [1.0, 0.7197, 0.7197, 0.5179, 0.1]
    """
    stage = sum(epoch >= (3**i - 1) // 2 for i in range(1, STAGES))
    return 10 ** (-stage / (STAGES - 1))


def burda(optimizer: Optimizer) -> LambdaLR:
    """The published IWAE schedule on top of the optimizer's rate, 0.001 in the paper; steps once per epoch.

    The rate is a function of the epoch alone, so a resumed run continues it exactly.
    """
    return LambdaLR(optimizer, burda_factor)
