"""A run folder has one writer, is left as it was by whatever is refused, and goes on by words that are obeyed."""

import errno
import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from taut import files
from taut.cli import main
from taut.config.data_paths import located
from taut.config.run_folder import choice_made, sole_writer_of
from taut.errors import UserError
from taut.training.callbacks import history
from taut.training.checkpoint import newest_good

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("command_in_process")
TINY = ["callbacks=none", "logger=csv", "threads=1", "k_eval=2", "k_test=2", "network.hidden=[4]"]
TINY += ["data.batch_size=200", "trainer.enable_progress_bar=false"]
TRAIN, EVALUATE, COMPLETE = (f"taut.commands.{name}:{name}" for name in ("train", "evaluate", "complete"))


@pytest.fixture
def taut(monkeypatch, capsys):
    """Run a command in this process: its exit code, and what it says of it."""

    def command(*words, entry=TRAIN):
        name = entry.rpartition(":")[2] if isinstance(entry, str) else "train"
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        code = main(name, ROOT / "conf", entry)
        return code, capsys.readouterr().err.strip().rpartition("\n")[2]

    return command


def content(folder):
    """Every file of a folder, byte for byte, and every folder in it."""
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def trained(trainings, tmp_path_factory):
    """A run of two epochs, of which every test takes a copy."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py", *TINY, "trainer.max_epochs=2", "hydra.run.dir=run"])
        assert main("train", ROOT / "conf", TRAIN) == 0
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def never(cfg):
    raise AssertionError("training started")


OTHER_RUNS = {
    "latent_dim=5": "its latent_dim is 10",
    "k=5": "its k is 1",
    "seed=1": "its seed is 0",
    "prior=mixture": "its prior._target_ is taut.model.prior.normal.Normal",
    "optimizer=sgd": "its optimizer._target_ is torch.optim.Adam",
    "data.batch_size=100": "its data.batch_size is 200",
    "objective=iwae": "its objective._target_ is taut.objective.elbo.Elbo",
    "callbacks.best.mode=min": "its callbacks.best.mode is max",
    "mask=random": "its mask is None",
}


@pytest.mark.parametrize("word", OTHER_RUNS)
def test_a_word_that_makes_another_run_is_refused_by_name(word, run, taut):
    """Recorded, it would be ignored, or evaluate.py would refuse the run from then on."""
    before = content(run)
    code, said = taut("resume=run", word, entry=never)
    assert code == 2
    assert (
        said == f"resume: {word} would make it another run: {OTHER_RUNS[word]}; leave the word out, or start a new run."
    )
    assert content(run) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trainer.max_epochs=1"], "trainer.max_epochs=1 is less than the 2 epochs that the run has been trained for"),
        (
            ["trainer.max_epochs=3", "+optimizer.amsgrad=true"],
            "need a state (max_exp_avg_sq) that the run has not kept",
        ),
        (
            ["trainer.max_epochs=3", "callbacks=[none,warmup]", "callbacks.warmup.epochs=-1"],
            "callbacks.warmup.epochs must be above 0",
        ),
        (["trainer.max_epochs=3", "optimizer.lr=0"], "optimizer.lr must be a finite number above 0"),
    ],
)
def test_what_is_refused_while_building_leaves_the_folder_byte_for_byte(words, said, run, taut):
    before = content(run)
    code, heard = taut("resume=run", *words)
    assert (code, said in heard) == (2, True), heard
    assert content(run) == before


def test_a_damaged_description_of_the_model_leaves_the_folder_byte_for_byte(run, taut):
    """A checkpoint of a model of another shape, which only the weights tell."""
    path = newest_good(run / "checkpoints")
    from taut.training.checkpoint import AtomicCheckpointIO

    checkpoint = AtomicCheckpointIO().load_checkpoint(path)
    name = next(iter(checkpoint["state_dict"]))
    checkpoint["state_dict"][name] = torch.zeros(3)
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)
    before = content(run)
    code, said = taut("resume=run", "trainer.max_epochs=3")
    assert (code, "another shape" in said) == (2, True), said
    assert content(run) == before


def test_what_is_obeyed_is_in_the_record_and_the_run_can_be_evaluated(run, taut):
    words = ["optimizer.lr=1e-5", "trainer.gradient_clip_val=1.0", "trainer.max_epochs=3", "k_test=4"]
    assert taut("resume=run", *words)[0] == 0
    group = torch.load(newest_good(run / "checkpoints"))["optimizer_states"][0]["param_groups"][0]
    assert group["lr"] == 1e-5
    assert json.loads((run / "result.json").read_text())["k_test"] == 4
    assert (run / "result.earlier.json").exists()
    assert [row["epoch"] for row in history.read(run / "metrics.csv")] == [0, 1, 2]
    assert taut("run=run", "k=4", "limit=5", entry=EVALUATE)[0] == 0
    assert taut("resume=run", entry=never) == (0, "run is finished; add e.g. trainer.max_epochs=<more> to train on.")


def test_the_advice_after_a_divergence_works_when_it_is_followed(trainings, taut, tmp_path):
    """Before the first checkpoint and after it: the rate of the checkpoint must not come back."""
    words = [*TINY, "likelihood=gaussian", "trainer.max_epochs=2"]
    code, said = taut(*words, "optimizer.lr=1e30", "hydra.run.dir=run")
    assert (code, "lower optimizer.lr, or set trainer.gradient_clip_val" in said) == (1, True), said
    assert taut("resume=run", "optimizer.lr=1e-3")[0] == 0
    code, said = taut("resume=run", "trainer.max_epochs=4", "optimizer.lr=1e30")
    assert (code, "lower optimizer.lr" in said) == (1, True), said
    assert taut("resume=run", "optimizer.lr=1e-4")[0] == 0
    assert [row["epoch"] for row in history.read(tmp_path / "run" / "metrics.csv")] == [0, 1, 2, 3]


def test_a_second_writer_is_refused_before_it_changes_anything(run, taut, tmp_path):
    sentence = "which has one writer at a time; wait for it, end it, or choose another"
    with sole_writer_of(run):
        before = content(run)
        code, said = taut("resume=run", "trainer.max_epochs=3", entry=never)
        assert (code, sentence in said) == (2, True), said
        assert content(run) == before
    (tmp_path / "new").mkdir()
    with sole_writer_of(tmp_path / "new"):
        code, said = taut("hydra.run.dir=new", entry=never)
        assert (code, sentence in said) == (2, True), said
        assert os.listdir("new") == [".writer"]
    with sole_writer_of(run, "evaluation"):
        code, said = taut("run=run", "k=4", "limit=5", entry=EVALUATE)
        assert (code, f"Another process is writing to evaluation of {run}" in said) == (2, True), said
        assert taut("run=run", "k=4", "limit=5", "out=evaluation_2", entry=EVALUATE)[0] == 0
    assert not list(run.glob(".writer*"))


def test_while_a_run_trains_its_folder_is_taken_and_then_free(taut, tmp_path):
    heard = []

    def entry(cfg):
        with pytest.raises(UserError, match="Another process is writing to"), sole_writer_of(tmp_path / "run"):
            raise AssertionError
        heard.append(cfg)

    assert taut("hydra.run.dir=run", entry=entry)[0] == 0
    assert taut("resume=run", entry=entry)[0] == 0
    assert len(heard) == 2
    assert not (tmp_path / "run" / ".writer").exists()


def test_a_lock_on_a_file_that_is_gone_does_not_count(tmp_path, monkeypatch):
    """Its holder leaves, and removes it, between the opening of the file and the taking of the lock."""
    path, taken = tmp_path / ".writer", files._taken
    path.touch()

    def taken_too_late(*arguments):
        monkeypatch.setattr(files, "_taken", taken)
        path.unlink()
        return taken(*arguments)

    monkeypatch.setattr(files, "_taken", taken_too_late)
    with sole_writer_of(tmp_path):
        assert files.is_held(path), "a second writer would not see this one"


def test_of_many_writers_one_gets_in_at_any_time(tmp_path):
    inside = tmp_path / "inside"
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            code = 0
            for _ in range(150):
                with suppress(UserError), sole_writer_of(tmp_path):
                    try:
                        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                    except FileExistsError:
                        code = 1
                    inside.unlink(missing_ok=True)
            os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4


def test_a_killed_writer_holds_nothing(tmp_path):
    child = os.fork()
    if child == 0:
        with sole_writer_of(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / ".writer").exists()
    with sole_writer_of(tmp_path):
        pass


def test_a_refused_start_in_a_folder_of_others_leaves_no_run_there(taut, tmp_path):
    """Else the next start there would be told that it holds a run already."""
    (tmp_path / "mine" / "wandb").mkdir(parents=True)
    (tmp_path / "mine" / "thesis.tex").touch()
    before = content(tmp_path)

    def refusing(cfg):
        raise UserError("k=1 does not go with the data; choose another.")

    for _ in range(2):
        assert taut("hydra.run.dir=mine", entry=refusing) == (2, "k=1 does not go with the data; choose another.")
        assert content(tmp_path) == before


def test_a_folder_that_is_deleted_ends_the_run_and_stays_deleted(trainings, taut, tmp_path, monkeypatch):
    def delete(self, trainer, module, append=history.History.on_train_epoch_end):
        append(self, trainer, module)
        if trainer.current_epoch == 1:
            shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(history.History, "on_train_epoch_end", delete)
    code, said = taut(*TINY, "trainer.max_epochs=50", "hydra.run.dir=run")
    assert code == 1
    assert said == (
        f"{tmp_path / 'run'} was deleted or moved in the meantime; nothing more can be kept there, so this ends here."
    )
    assert not (tmp_path / "run").exists()


def test_a_long_epoch_misses_its_folder_within_a_second(tmp_path):
    from types import SimpleNamespace

    from taut.errors import RunError
    from taut.training.callbacks.run_folder import LOOK_SECONDS, RunFolder

    (tmp_path / "run").mkdir()
    watch = RunFolder(tmp_path / "run", begin=lambda: None)
    trainer = SimpleNamespace(is_global_zero=True)
    watch.on_train_batch_end(trainer)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()  # another folder of that name
    watch.on_train_batch_end(trainer)
    watch._looked -= LOOK_SECONDS
    with pytest.raises(RunError, match="deleted or moved"):
        watch.on_train_batch_end(trainer)


TABLE = ["model=mog", "model.components=1", "data=table", "trainer.max_epochs=2", "data.batch_size=null"]
TABLE += ["logger=csv", "callbacks=none", "threads=1", "k_eval=2", "k_test=2", "trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def with_table(trainings, tmp_path_factory):
    """A project with a table, a mask file and a run of both, all named relative to it."""
    folder = tmp_path_factory.mktemp("with_table") / "project"
    folder.mkdir()
    np.save(folder / "my.npy", np.random.default_rng(0).normal(size=(60, 3)))
    np.save(folder / "mask.npy", np.array([True, True, False]))
    np.save(folder / "seen.npy", np.ones(3, dtype=bool))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = [*TABLE, "data.path=my.npy", "mask=file", "mask.path=seen.npy", "hydra.run.dir=run"]
        patch.setattr(sys, "argv", ["train.py", *words])
        assert main("train", ROOT / "conf", TRAIN) == 0
    return folder


def test_an_objective_without_steps_refuses_words_about_them(with_table, taut):
    code, said = taut(f"resume={with_table / 'run'}", "trainer.max_epochs=9", "optimizer.lr=1e-5", entry=never)
    assert (code, said.startswith("resume: optimizer.lr=1e-05 would change nothing, since objective=em")) == (2, True)


SMALL = ["k=4", "limit=5"]


def test_data_are_found_from_any_folder_and_after_a_move_of_all(with_table, taut, tmp_path, monkeypatch):
    assert taut(f"run={with_table / 'run'}", *SMALL, entry=EVALUATE)[0] == 0
    assert taut(f"run={with_table / 'run'}", *SMALL, "mask=random", entry=COMPLETE)[0] == 0
    shutil.copytree(with_table, tmp_path / "a" / "project")
    hidden = with_table.rename(with_table.with_name("gone"))
    try:
        assert taut("run=a/project/run", *SMALL, entry=EVALUATE)[0] == 0
        monkeypatch.chdir(tmp_path / "a")
        assert taut("resume=project/run", "trainer.max_epochs=3", "objective.tolerance=0")[0] == 0
        # what the continuation wrote down is found after the next move, too
        (tmp_path / "a").rename(tmp_path / "b")
        monkeypatch.chdir(tmp_path)
        assert taut("run=b/project/run", *SMALL, entry=EVALUATE)[0] == 0
        assert taut("resume=b/project/run", "trainer.max_epochs=4", "objective.tolerance=0")[0] == 0
    finally:
        hidden.rename(with_table)


def test_data_that_moved_alone_are_asked_for_and_can_be_told(with_table, taut, tmp_path):
    shutil.copytree(with_table, tmp_path / "project")
    hidden = with_table.rename(with_table.with_name("gone"))
    try:
        (tmp_path / "project" / "my.npy").rename(tmp_path / "new.npy")
        run = tmp_path / "project" / "run"
        before = content(run)
        for words, entry in [(["run=project/run"], EVALUATE), (["resume=project/run", "trainer.max_epochs=3"], TRAIN)]:
            code, said = taut(*words, entry=entry)
            assert code == 2
            assert said == (
                f"The file that run was made with is at none of {with_table / 'my.npy'}, "
                f"{tmp_path / 'project/my.npy'}, {tmp_path / 'my.npy'}; say where it is: data.path=<file>."
            )
            assert content(run) == before
        told = "data.path=new.npy"
        assert taut("run=project/run", *SMALL, told, entry=EVALUATE)[0] == 0
        result = json.loads((run / "evaluation" / "result.json").read_text())
        assert (result["held_out"], result["data_digest"]) == (True, result["checkpoint"]["data_digest"])
        assert not [warning for warning in result["warnings"] if "digest" in warning]
        assert taut("run=project/run", *SMALL, "mask=random", told, entry=COMPLETE)[0] == 0
        (tmp_path / "project" / "seen.npy").rename(tmp_path / "mask.npy")
        assert taut("run=project/run", *SMALL, told, "mask.path=mask.npy", entry=COMPLETE)[0] == 0
        (tmp_path / "mask.npy").rename(tmp_path / "project" / "seen.npy")
        assert taut("resume=project/run", "trainer.max_epochs=3", told)[0] == 0
        assert taut("run=project/run", *SMALL, entry=EVALUATE)[0] == 0, "a continuation remembers it"
    finally:
        hidden.rename(with_table)


def test_other_data_are_refused_unless_they_are_asked_for_and_then_said_to_be_others(with_table, taut, tmp_path):
    shutil.copytree(with_table, tmp_path / "project")
    hidden = with_table.rename(with_table.with_name("gone"))
    try:
        np.save("project/my.npy", np.random.default_rng(1).normal(size=(60, 3)))
        code, said = taut("run=project/run", *SMALL, entry=EVALUATE)
        assert (code, "the data are not those the checkpoint was trained on" in said) == (2, True), said
        assert taut("run=project/run", *SMALL, "data.path=project/my.npy", entry=EVALUATE)[0] == 0
        result = json.loads(Path("project/run/evaluation/result.json").read_text())
        assert result["warnings"][0].startswith("data.path: these are not the data that the run was trained on")
        assert not result["held_out"]
        assert taut("resume=project/run", "trainer.max_epochs=3", "data.path=project/my.npy")[0] == 2
        np.save("wide.npy", np.random.default_rng(1).normal(size=(60, 4)))
        np.save("four.npy", np.ones(4, dtype=bool))
        words = ["data.path=wide.npy", "mask.path=four.npy"]
        code, said = taut("run=project/run", *SMALL, *words, entry=EVALUATE)
        assert (code, "of shape [4], do not fit the model of run" in said) == (2, True), said
    finally:
        hidden.rename(with_table)


def test_a_key_that_the_run_lacks_is_refused(run, taut):
    code, said = taut("run=run", "data.path=x.csv", entry=EVALUATE)
    assert (code, said) == (2, "data.path=x.csv: run reads no such file or folder; leave it out.")


def test_values_of_the_environment_are_not_written_down(tmp_path):
    from omegaconf import OmegaConf

    assert located(tmp_path, OmegaConf.create({"data": {"path": "${oc.env:HOME}/x.csv"}}), ()) == {}


def test_a_folder_without_locks_is_refused_and_left(taut, monkeypatch, tmp_path):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", unsupported)
    code, said = taut(*TINY, "hydra.run.dir=new/run", entry=lambda cfg: None)
    assert (
        code,
        said.endswith(
            "file system has no locks, without which two processes could write one run; choose a folder elsewhere."
        ),
    ) == (2, True)
    assert not (tmp_path / "new").exists()


def test_a_class_that_the_words_name_is_what_the_run_is_called_by():
    """A run of another prior under the name of the default one would be ranked as that."""
    assert choice_made("prior", "normal", ["k=2", "prior._target_=mylab.HeavyTails"]) == "heavy_tails"
    assert choice_made("prior", "normal", ["++prior._target_='mylab.Mine'", "q._target_=mylab.Other"]) == "mine"
    assert choice_made("prior", "normal", ["prior.df=3"]) == "normal"


@pytest.mark.parametrize("word", ["launcher=joblib", "launcher.n_jobs=2"])
def test_a_launcher_without_a_sweep_is_refused(word, taut, tmp_path):
    """On a cluster the training would run on the machine where it is typed."""
    code, said = taut(*TINY, word, "hydra.run.dir=new", entry=lambda cfg: None)
    assert (code, said.startswith(f"{word} hands over the jobs of a sweep, and this is one training")) == (2, True)
    assert not (tmp_path / "new").exists()
    assert taut(*TINY, "launcher=basic", "hydra.run.dir=new", entry=lambda cfg: None)[0] == 0
