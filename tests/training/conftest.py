"""A VAE and a mixture small enough to train within a test, under a trainer with the callbacks to be tried."""

from pathlib import Path

import lightning as L
import pytest
import torch
from pieces import config

from taut.data.base import Data, Splits
from taut.training.build import build_model


class Blobs(Data):
    """60 + 20 + 20 rows of shape ``shape`` in [0, 1]."""

    name = "blobs"
    shape = (1, 4, 4)

    def load(self):
        rows = torch.rand(100, *self.shape, generator=torch.Generator().manual_seed(5)).round(decimals=2)
        return Splits(*rows.split([60, 20, 20]))


class Points(Blobs):
    """The same in the plane, with names."""

    name = "points"
    shape = (2,)
    columns = ("length", "width")


@pytest.fixture
def blobs():
    return Blobs(batch_size=20, binarisation="dynamic")


@pytest.fixture
def points():
    return Points(batch_size=None)


@pytest.fixture
def model_of():
    """The model that overrides describe, for a data module."""

    def build(data, *overrides):
        data.setup()
        cfg = config("k_eval=4", "k_test=8", *overrides, x_shape=data.x_shape)
        return build_model(cfg, data)

    return build


@pytest.fixture
def trainer_in(tmp_path):
    """A quiet CPU trainer whose run folder is ``tmp_path`` unless told otherwise."""

    def build(*callbacks, folder: Path = tmp_path, epochs=3, **settings):
        folder.mkdir(exist_ok=True)  # as Hydra does: nothing of ours makes a run folder anew
        return L.Trainer(
            **{
                "accelerator": "cpu",
                "max_epochs": epochs,
                "default_root_dir": str(folder),
                "callbacks": list(callbacks),
                "logger": False,
                "enable_checkpointing": False,
                "enable_model_summary": False,
                "enable_progress_bar": False,
                "num_sanity_val_steps": 0,
                **settings,
            }
        )

    return build
