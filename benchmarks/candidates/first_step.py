"""``python train.py`` to the end of its first training step: ``python -m benchmarks.candidates.first_step WORDS``."""

import os
import sys
from typing import Any

from benchmarks.candidates import command


def _stop() -> Any:
    from lightning.pytorch import Callback

    class Stop(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            os._exit(0)

    return Stop()


if __name__ == "__main__":
    command.run(sys.argv[1:], _stop)
