"""Trains once with a fault of W&B: ``python faults.py FOLDER FAULT WORDS``."""

import errno
import os
import resource
import signal
import sys
from pathlib import Path

from taut.cli import main
from taut.training.callbacks.progress import Speed

CONF = Path(__file__).resolve().parents[2] / "conf"
LIMIT = 120
EPOCHS = "epochs"


def services() -> list[int]:
    """W&B's service of this process."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if "wandb-core" in words[0] and str(os.getpid()) in words:
            found.append(int(place.name))
    return found


def killed():
    os.kill(services()[0], signal.SIGKILL)


def frozen():
    os.kill(services()[0], signal.SIGSTOP)


def full():
    resource.prlimit(services()[0], resource.RLIMIT_FSIZE, (8192, 8192))


def no_space():
    """What the copy of a picture meets on a full disk."""
    import wandb

    def image(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    wandb.Image = image


FAULTS = {"killed": killed, "frozen": frozen, "full": full, "no_space": no_space}


def count(folder: Path):
    with (folder / EPOCHS).open("a") as file:
        file.write("|")


def train(name: str, fault: str, words: list[str]) -> int:
    folder = Path(name)
    logged = Speed.on_train_epoch_end

    def hit(self, trainer, module):
        logged(self, trainer, module)
        count(folder)
        if trainer.current_epoch == 0 and fault in FAULTS:
            FAULTS[fault]()

    Speed.on_train_epoch_end = hit
    if fault == "absent":
        sys.modules["wandb"] = None
    sys.argv = ["train.py", *words, f"hydra.run.dir={name}"]
    return main("train", CONF, "taut.commands.train:train")


if __name__ == "__main__":
    signal.alarm(LIMIT)
    sys.exit(train(sys.argv[1], sys.argv[2], sys.argv[3:]))
