"""A killed fit, resumed, sees exactly the batches that it had not seen yet: a real Trainer says so."""

from typing import ClassVar

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from taut.data.base import Batch, Data, Splits
from taut.data.binarise import Scale
from taut.errors import UserError

ROWS, BATCH, EPOCHS = 22, 4, 3
STEPS = 6  # batches of an epoch, the last of 2 rows


class Toy(Data):
    name: ClassVar[str] = "toy"
    scale = Scale(levels=255)

    def load(self) -> Splits:
        pixels = torch.arange(ROWS * 5).reshape(ROWS, 5).add(60).to(torch.uint8)
        return Splits(pixels, pixels[:7], pixels[:7])


class Diary(LightningModule):
    """Writes down what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(5))
        self.seen: list[tuple] = []

    def training_step(self, batch: Batch, batch_idx: int):
        self.seen.append((self.current_epoch, batch_idx, batch.total, batch.index.tolist(), batch.x.tolist()))
        return ((batch.x - self.weight) ** 2).mean()

    def validation_step(self, batch: Batch, batch_idx: int):
        return None

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Saver(Callback):
    """Saves at every hook where a checkpoint is written, with the number of batches seen by then."""

    def __init__(self, folder) -> None:
        self.folder, self.saved = folder, []

    def save(self, trainer, module, hook):
        path = self.folder / f"{len(self.saved):02}-{hook}.ckpt"
        trainer.save_checkpoint(path)
        self.saved.append((path, len(module.seen)))

    def on_train_batch_end(self, trainer, module, *_):
        self.save(trainer, module, "batch")

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.save(trainer, module, "validation")

    def on_train_epoch_end(self, trainer, module):
        self.save(trainer, module, "epoch")


def fit(callbacks=(), ckpt_path=None, binarisation="dynamic", **options) -> Diary:
    module, data = Diary(), Toy(batch_size=BATCH, binarisation=binarisation, seed=3)
    trainer = Trainer(
        **{"max_epochs": EPOCHS, "num_sanity_val_steps": 1, **options},
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [{}, {"val_check_interval": 2}, {"limit_val_batches": 0}, {"limit_train_batches": 4}],
    ids=["validation at epoch ends", "validation every 2 batches", "no validation", "shortened epochs"],
)
def test_resume_sees_the_rest_of_the_batches(tmp_path, options):
    saver = Saver(tmp_path)
    whole = fit([saver], **options)
    assert len(whole.seen) == EPOCHS * options.get("limit_train_batches", STEPS)
    assert len(saver.saved) >= len(whole.seen) + EPOCHS
    for path, done in saver.saved:
        resumed = fit(ckpt_path=path, **options)
        assert resumed.seen == whole.seen[done:], path.name
        assert torch.equal(resumed.weight, whole.weight), path.name


@pytest.mark.filterwarnings("ignore")
def test_epochs_differ_in_order_and_in_noise():
    seen = fit().seen
    epochs = [seen[:STEPS], seen[STEPS : 2 * STEPS]]
    rows = [[i for *_, index, _ in epoch for i in index] for epoch in epochs]
    pixels = [{i: pixel for *_, index, x in epoch for i, pixel in zip(index, x, strict=True)} for epoch in epochs]
    assert sorted(rows[0]) == sorted(rows[1]) == list(range(ROWS))
    assert rows[0] != rows[1]
    assert pixels[0] != pixels[1]


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_of_other_data_is_refused(tmp_path, monkeypatch):
    saver = Saver(tmp_path)
    fit([saver], max_epochs=1)
    monkeypatch.setattr(Toy, "load", lambda self: Splits(*[torch.zeros(ROWS, 5, dtype=torch.uint8)] * 3))
    with pytest.raises(UserError, match="not those the checkpoint was trained on"):
        fit(ckpt_path=saver.saved[0][0])


def test_another_batch_size_is_refused():
    state = Toy(batch_size=4).train_dataloader().state_dict()
    with pytest.raises(UserError, match="batch_size = 4 and cannot continue with batch_size = 5"):
        Toy(batch_size=5).train_dataloader().load_state_dict(state)
