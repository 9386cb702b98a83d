"""Whatever a logger raises, in whatever call, the training ends as if it were not there, and one line tells of it."""

import logging
import threading

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from omegaconf import OmegaConf
from torch.utils.tensorboard.writer import SummaryWriter

from taut.errors import UserError
from taut.training import loggers
from taut.training.loggers import records
from taut.training.loggers.contents import Contents
from taut.training.loggers.guarded import Guarded, guarded
from taut.training.loggers.tracker import WITHOUT

CALLS = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "experiment")


class Failing(CSVLogger):
    """Lightning's, which raises in one call."""

    call = ""

    def __getattribute__(self, name):
        if name != "call" and name == self.call:
            raise OSError(28, "No space left on device")
        return super().__getattribute__(name)


class Asking(Callback):
    """What callbacks of the user's do with a logger."""

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.logger.experiment.log_metrics({"mine": 1.0}, 0)
        trainer.logger.log_metrics({"own": 1.0})


@pytest.fixture
def weights_with(tmp_path, trainer_in, blobs, model_of):
    """The weights after a training with loggers, as it is started and ended by the command."""

    def weights(*used):
        torch.manual_seed(1)
        model, trainer = model_of(blobs), trainer_in(Asking(), logger=list(used), folder=tmp_path / "run")
        with loggers.finishing(trainer.loggers):
            for logger in used:
                logger.put(lambda contents: contents.settings({"k": 1}))
            trainer.fit(model, datamodule=blobs)
            loggers.summarise(used, {"scores": {"elbo": {"value": -1.0}}, "seconds": {}}, tmp_path)
        return model.state_dict()

    return weights


@pytest.mark.parametrize("call", CALLS)
def test_a_logger_that_raises_is_left_out_and_changes_nothing(tmp_path, weights_with, capsys, call):
    plain = weights_with(guarded(CSVLogger(tmp_path)))
    capsys.readouterr()
    failing = Failing(tmp_path)
    failing.call = call
    other = CSVLogger(tmp_path, version="other")
    weights = weights_with(guarded(failing), guarded(other))
    said = capsys.readouterr().err
    assert said == f"Failing failed (OSError: [Errno 28] No space left on device); {WITHOUT}\n"
    assert all(torch.equal(weights[name], plain[name]) for name in plain)
    assert "test/elbo" in (tmp_path / "lightning_logs" / "other" / "metrics.csv").read_text()


def test_what_ended_a_run_is_told_to_loggers_that_were_used_and_opens_no_other(tmp_path):
    """A record of a run that was refused before it began."""
    told = []

    class Used(Contents):
        def summarise(self, summary, step, logged):
            told.append((self.logger, summary))

    used, opened = CSVLogger(tmp_path), []
    pair = [Guarded(CSVLogger, lambda: used), Guarded(CSVLogger, lambda: opened.append(1))]
    pair[0].log_metrics({"a": 1.0}, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taut.training.loggers.guarded.contents_of", Used)
        with pytest.raises(ValueError, match="diverged"), loggers.finishing(pair):
            raise ValueError("diverged\nat epoch 3")
        with loggers.finishing(pair):
            pass
    assert told == [(used, {"failure": "ValueError: diverged"})]
    assert opened == []


def test_a_logger_that_cannot_be_opened_is_left_out(tmp_path, weights_with, capsys):
    def opening():
        raise ConnectionError("no server")

    weights_with(Guarded(CSVLogger, opening))
    assert capsys.readouterr().err == f"CSVLogger failed (ConnectionError: no server); {WITHOUT}\n"


def test_a_full_disk_under_tensorboard_costs_one_line(tmp_path, weights_with, capsys, monkeypatch):
    """Its files are written by a thread, whose traceback would be more."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # which pytest has replaced
    made = records._made(
        "tensorboard", node("taut.training.loggers.tensorboard_logger", _partial_=True), about(tmp_path)
    )

    def full(self, *_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    weights_with(guarded(made[0]))
    assert capsys.readouterr().err == f"TensorBoard failed (OSError: [Errno 28] No space left on device); {WITHOUT}\n"


def test_what_one_logger_does_to_the_metrics_is_nothing_to_the_next(tmp_path):
    class Clearing(CSVLogger):
        def log_metrics(self, metrics, step=None):
            metrics.clear()

    metrics = {"val/bound": -1.0}
    guarded(Clearing(tmp_path)).log_metrics(metrics, 0)
    assert metrics == {"val/bound": -1.0}


def test_callbacks_find_the_logger_they_know(tmp_path):
    logger = guarded(TensorBoardLogger(tmp_path, name="", version="x"))
    assert isinstance(logger, TensorBoardLogger)
    assert isinstance(logger, Logger)
    assert isinstance(logger.experiment, SummaryWriter)
    assert logger.log_dir == str(tmp_path / "x")
    assert guarded(logger) is logger


def node(target, **settings):
    return OmegaConf.create({"_target_": target, **settings})


def about(folder):
    return {"folder": folder, "name": "x", "group": None, "config": {"k": 1}}


def test_a_logger_of_lightnings_writes_to_the_run_folder(tmp_path):
    (made,) = records._made("mine", node("lightning.pytorch.loggers.CSVLogger", name="n"), about(tmp_path))
    assert made.save_dir == str(tmp_path)
    elsewhere = node("lightning.pytorch.loggers.CSVLogger", save_dir=str(tmp_path / "there"))
    assert records._made("mine", elsewhere, about(tmp_path))[0].save_dir == str(tmp_path / "there")


def test_a_package_that_is_missing_is_told_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr("taut.training.loggers.tensorboard.find_spec", lambda name: None)
    monkeypatch.setattr("taut.training.loggers.mlflow.find_spec", lambda name: None)
    for name, title in (("tensorboard", "TensorBoard"), ("mlflow", "MLflow")):
        with pytest.raises(UserError) as refused:
            records._made(name, node(f"taut.training.loggers.{name}_logger", _partial_=True), about(tmp_path))
        said = f"logger={name} needs {title}, which is not installed: pip install -c constraints.txt -e '.[{name}]'"
        assert str(refused.value) == said
    with pytest.raises(UserError, match=r"^logger.comet needs a package that is not installed: .*comet"):
        records._made("comet", node("lightning.pytorch.loggers.CometLogger"), about(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_arguments_that_a_logger_refuses_are_a_mistake(tmp_path):
    wrong = node("lightning.pytorch.loggers.WandbLogger", offline=True, log_model=True)
    with pytest.raises(UserError, match="cannot be built: Providing log_model=True and offline=True"):
        records._made("mine", wrong, about(tmp_path))


def test_beside_the_first_process_nothing_is_logged(tmp_path, monkeypatch, weights_with):
    monkeypatch.setattr(records, "first", lambda: False)
    built = records._built({"tensorboard": node("taut.training.loggers.tensorboard_logger", _partial_=True)}, {})
    weights_with(*built)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
