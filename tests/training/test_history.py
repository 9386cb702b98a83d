"""metrics.csv: every epoch, at once, and the same after a resume."""

import pytest
from lightning.pytorch import Callback

from taut.commands.train import _seconds_in_all
from taut.training.callbacks.history import History, append, read, write


class Stop(Callback):
    """Ends the run as a kill would: behind the row of an epoch, before its successor is saved."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("killed")


def without_timings(path):
    timings = ("seconds", "speed/rows_per_second", "speed/val_rows_per_second")
    return [{name: value for name, value in row.items() if name not in timings} for row in read(path)]


def test_every_epoch_has_its_row(tmp_path, trainer_in, blobs, model_of):
    trainer_in(History(), check_val_every_n_epoch=2, epochs=4).fit(model_of(blobs), datamodule=blobs)
    rows = read(tmp_path / "metrics.csv")
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 3), (1, 6), (2, 9), (3, 12)]
    assert all({"seconds", "train/bound", "train/surrogate"} <= set(row) for row in rows)
    assert ["val/bound" in row for row in rows] == [False, True, False, True]
    assert rows[1]["val/bound"] != rows[3]["val/bound"]
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert header[:3] == ["epoch", "step", "seconds"]


def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path, trainer_in, blobs, model_of):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trainer_in(History(), folder=whole, epochs=4).fit(model_of(blobs), datamodule=blobs)

    first = trainer_in(History(), folder=cut, epochs=2)
    first.fit(model_of(blobs), datamodule=blobs)
    first.save_checkpoint(cut / "two.ckpt")
    with pytest.raises(RuntimeError, match="killed"):
        trainer_in(History(), Stop(3), folder=cut, epochs=4).fit(
            model_of(blobs), datamodule=blobs, ckpt_path=cut / "two.ckpt"
        )
    assert [row["epoch"] for row in read(cut / "metrics.csv")] == [0, 1, 2]
    with (cut / "metrics.csv").open("a") as file:
        file.write("1")  # a kill in the middle of a line, in epoch 1x

    trainer_in(History(), folder=cut, epochs=4).fit(model_of(blobs), datamodule=blobs, ckpt_path=cut / "two.ckpt")
    assert without_timings(cut / "metrics.csv") == without_timings(whole / "metrics.csv")
    assert (cut / "metrics.csv").read_text().splitlines()[0] == ((whole / "metrics.csv").read_text().splitlines()[0])


def test_a_new_run_starts_a_new_file(tmp_path, trainer_in, blobs, model_of):
    for _ in range(2):
        trainer_in(History(), epochs=1).fit(model_of(blobs), datamodule=blobs)
    assert [row["epoch"] for row in read(tmp_path / "metrics.csv")] == [0]


def test_a_new_column_keeps_the_old_rows(tmp_path):
    path = tmp_path / "metrics.csv"
    append(path, {"epoch": 0, "step": 3, "seconds": 0.1, "train/bound": -1.5})
    append(path, {"epoch": 1, "step": 6, "seconds": 0.2, "train/bound": -1.25, "val/bound": 1e-17})
    append(path, {"epoch": 2, "step": 9, "seconds": 0.3})
    assert path.read_text().splitlines() == [
        "epoch,step,seconds,train/bound,val/bound",
        "0,3,0.1,-1.5,",
        "1,6,0.2,-1.25,1e-17",
        "2,9,0.3,,",
    ]
    assert read(path)[2] == {"epoch": 2, "step": 9, "seconds": 0.3}


def test_numbers_survive_to_the_last_bit(tmp_path):
    row = {"epoch": 0, "step": 1, "seconds": 0.0, "val/bound": -0.1 - 0.2, "val/gap": float("inf")}
    write(tmp_path / "metrics.csv", [row])
    assert read(tmp_path / "metrics.csv") == [row]


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_epochs(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step,seconds\n0,4,2.5\n1,8,1.5\n2,12,0.25\n")
    assert _seconds_in_all(tmp_path, 0.5) == 4.25
    assert _seconds_in_all(tmp_path / "without_history", 0.5) == 0.5
