"""W&B without W&B Launch, which taut does not use."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

LAUNCH = "wandb.sdk.launch"


@contextmanager
def without_launch() -> Iterator[None]:
    """Have ``wandb.init`` in the block import one module of W&B Launch in the place of all of it.

    It asks whether inputs of a job of Launch are waiting, and for that Python imports the whole package around the
    module that knows, agents and API among it: a second of processor time of the seven to the first training step
    (wandb 0.31). In the block the package is one that holds nothing and finds its modules; afterwards it is to be
    imported as ever. Where it has been imported already it may have inputs, and stays.
    """
    import wandb.sdk

    if LAUNCH in sys.modules:
        yield
        return
    package = ModuleType(LAUNCH)
    package.__path__ = [f"{place}/launch" for place in wandb.sdk.__path__]
    sys.modules[LAUNCH] = package
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name == LAUNCH or name.startswith(f"{LAUNCH}.")]:
            del sys.modules[name]
