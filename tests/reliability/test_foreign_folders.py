"""Run folders that were damaged, or made by a stranger: one sentence, exit code 2, and nothing followed."""

import copy
import io
import json
import os
import shutil
import signal
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from evaluations import VAE, command, contents, trained

from taut.config.checkpoint_files import check_seal
from taut.errors import UserError
from taut.files import write_atomically
from taut.training.checkpoint import AtomicCheckpointIO, seal
from taut.training.loggers import run_id
from taut.training.restoring import check_optimizer_state

STORED = Path(__file__).resolve().parents[1] / "stored_runs"
PATIENCE = 60
TRAINED = "checkpoints/recent-epoch=00001-step=00000022.ckpt"
BEST = "checkpoints/best.ckpt"


@pytest.fixture(autouse=True)
def _never_waits():
    """A command that waits for a pipe is interrupted, and fails."""

    def late(*_):
        raise TimeoutError("the command hangs")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run in a folder of its own, beside files that are none of its business."""
    monkeypatch.chdir(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.csv").write_text("precious")
    (outside / "best.ckpt").write_text("precious")
    return Path(shutil.copytree(STORED / "vae", tmp_path / "run"))


@pytest.fixture(scope="module")
def recent(tmp_path_factory, trainings):
    """A run of this version, which goes on."""
    folder = tmp_path_factory.mktemp("recent") / "run"
    return trained(folder, *VAE, "trainer.max_epochs=2", "k_eval=100")


@pytest.fixture
def own(recent, run):
    """The same in the place of the other."""
    shutil.rmtree(run)
    return Path(shutil.copytree(recent, run))


def words_of(name: str, run: Path) -> list[str]:
    """What a user types about a run."""
    if name == "train":
        return [f"resume={run}", "trainer.max_epochs=3", "threads=1"]
    return [f"run={run}", "limit=5", "k=10", "threads=1", *(["mask=top_half"] if name == "complete" else [])]


def refused(name: str, run: Path, *words: str) -> str:
    """What is said when a command is refused, having checked that nothing was touched."""
    before = contents(run.parent)
    done = command(name, *(words or words_of(name, run)))
    assert done.code == 2, done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert contents(run.parent) == before
    return done.err.strip()


def as_link(name: str, target: str = "precious.csv") -> Callable[[Path], None]:
    """Put a link that leads outside in the place of a file or folder."""

    def damage(run: Path) -> None:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(run.parent / "outside" / target)

    return damage


def as_pipe(name: str) -> Callable[[Path], None]:
    """Put a pipe that nobody writes to in the place of a file."""

    def damage(run: Path) -> None:
        shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return damage


def as_folder(name: str) -> Callable[[Path], None]:
    """Put a folder in the place of a file."""

    def damage(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()

    return damage


def holding(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Put other content into a file."""
    return lambda run: (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def huge(name: str) -> Callable[[Path], None]:
    """Make a file large, without writing anything."""
    return lambda run: os.truncate(run / name, 1 << 25)


def added(name: str, line: str) -> Callable[[Path], None]:
    """Add a line to a file."""
    return lambda run: (run / name).write_text((run / name).read_text() + line)


def moved_out(run: Path) -> None:
    """Put a link in the place of .hydra that leads to where it is now."""
    (run / ".hydra").rename(run.parent / "hydra")
    (run / ".hydra").symlink_to(run.parent / "hydra")


def a_socket(run: Path) -> None:
    (run / "log.txt").unlink(missing_ok=True)
    # by a short name, since the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(run)
        made.bind("log.txt")
        os.chdir(run.parent)


BOTH, RESUME, MEASURE = ("train", "evaluate"), ("train",), ("evaluate",)
ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
DAMAGES = {
    "checkpoints are a link": (as_link("checkpoints", "."), BOTH, "its checkpoints is a link"),
    "a checkpoint is a link": (as_link(BEST, "best.ckpt"), MEASURE, "its checkpoints/best.ckpt is a link"),
    ".hydra is a link": (moved_out, MEASURE, "its .hydra is a link"),
    "resumed_config is a link": (as_link(".hydra/resumed_config.yaml"), MEASURE, "resumed_config.yaml is a link"),
    "metrics are a link": (as_link("metrics.csv"), MEASURE, "its metrics.csv is a link"),
    "the log is a link": (as_link("train.log"), MEASURE, "its train.log is a link"),
    "a log of a sweep is a link": (as_link("log.txt"), MEASURE, "its log.txt is a link"),
    "the lock is a link": (as_link(".lock"), MEASURE, "its .lock is a link"),
    "figures are a link": (as_link("figures", "."), MEASURE, "its figures is a link"),
    "W&B's id is a link": (as_link("wandb/id"), MEASURE, "its wandb/id is a link"),
    "the evaluation is a link": (as_link("evaluation", "."), ("evaluate",), "its evaluation is a link"),
    "the completion is a link": (as_link("completion_top_half", "."), ("complete",), "completion_top_half is a link"),
    "an unfinished file is a link": (as_link(".result.json.7.part"), MEASURE, ".result.json.7.part is a link"),
    "a link that leads nowhere": (as_link("status.json", "nothing"), MEASURE, "its status.json is a link"),
    "the result is a pipe": (as_pipe("result.json"), BOTH, "its result.json is a pipe"),
    "the format is a pipe": (as_pipe("run.json"), MEASURE, "its run.json is a pipe"),
    "the config is a pipe": (as_pipe(".hydra/config.yaml"), MEASURE, "its .hydra/config.yaml is a pipe"),
    "the metrics are a pipe": (as_pipe("metrics.csv"), MEASURE, "its metrics.csv is a pipe"),
    "a checkpoint is a pipe": (as_pipe(BEST), MEASURE, "its checkpoints/best.ckpt is a pipe"),
    "checkpoints are a pipe": (as_pipe("checkpoints"), MEASURE, "its checkpoints is a pipe"),
    "the overrides are a pipe": (as_pipe(".hydra/overrides.yaml"), BOTH, "is not the folder of a run"),
    "a socket": (a_socket, MEASURE, "its log.txt is a device or a socket"),
    "the metrics are a folder": (as_folder("metrics.csv"), MEASURE, "its metrics.csv is a folder"),
    "the config is a folder": (as_folder(".hydra/config.yaml"), BOTH, "config.yaml cannot be read: it is a folder"),
    "an empty result": (holding("result.json", ""), BOTH, "result.json is damaged: it is empty"),
    "half a result": (holding("result.json", '{"a": 1'), MEASURE, "result.json is damaged: it is not whole JSON"),
    "a list for a result": (
        holding("result.json", "[1]"),
        MEASURE,
        "result.json is damaged: it should be a JSON object",
    ),
    "a deep result": (holding("result.json", "[" * 100_000), MEASURE, "result.json is damaged"),
    "a huge result": (huge("result.json"), MEASURE, "result.json cannot be read: it is larger than 16 MB"),
    "a huge config": (huge(".hydra/config.yaml"), MEASURE, "config.yaml cannot be read: it is larger than 1 MB"),
    "garbled format": (holding("run.json", b"\xff\x00"), MEASURE, "run.json is damaged: it is not whole JSON"),
    "a tag": (added(".hydra/config.yaml", "z: !!python/object/apply:os.system ['true']\n"), BOTH, "holds the tag"),
    "a set": (added(".hydra/config.yaml", "z: !!set {a, b}\n"), MEASURE, "holds the tag 'set'"),
    "a key twice": (added(".hydra/config.yaml", "k: 3\n"), MEASURE, "holds the key 'k' twice, again in line"),
    "a list for a config": (holding(".hydra/config.yaml", "- k: 1\n"), MEASURE, "config.yaml is damaged: it should be"),
    "many aliases": (holding(".hydra/config.yaml", ALIASES), BOTH, "unfolds to 4.9e+08 values"),
    "many brackets": (holding(".hydra/config.yaml", "[" * 90_000), MEASURE, "exceeded maximum nesting depth"),
    "some brackets": (holding(".hydra/config.yaml", "[" * 50 + "]" * 50), MEASURE, "is nested more than 40 deep"),
    "half an interpolation": (added(".hydra/config.yaml", "z: ${a\n"), MEASURE, "config.yaml is damaged"),
    "an unknown key": (added(".hydra/config.yaml", "hydra: {job: {chdir: true}}\n"), MEASURE, "hydra"),
    "a mapping for words": (holding(".hydra/overrides.yaml", "a: b\n"), RESUME, "should be a list of overrides"),
    "numbers for words": (holding(".hydra/resumed.yaml", "[1, 2]\n"), RESUME, "should be a list of overrides"),
    "a word twice removed": (holding(".hydra/resumed.yaml", "- [x]\n"), RESUME, "should be a list of overrides"),
    "a flag": (holding(".hydra/resumed.yaml", "[--config-dir=/x]\n"), RESUME, "--config-dir comes from"),
    "a word of Hydra's": (
        holding(".hydra/resumed.yaml", "[hydra.job.chdir=true]\n"),
        RESUME,
        "hydra.job.chdir comes from",
    ),
    "a group of Hydra's": (holding(".hydra/resumed.yaml", "[hydra/launcher=x]\n"), RESUME, "hydra/launcher comes from"),
    "into Hydra's package": (
        holding(".hydra/resumed.yaml", "['+mask@hydra.job.env_set=random']\n"),
        RESUME,
        "mask@hydra.job.env_set comes from",
    ),
    "Hydra's package by way of all": (
        holding(".hydra/resumed.yaml", "['+mask@_global_.hydra.job=random']\n"),
        RESUME,
        "mask@_global_.hydra.job comes from",
    ),
    "no words": (holding(".hydra/overrides.yaml", ""), BOTH, "is not the folder of a run"),
    "a tag in the choices": (holding(".hydra/hydra.yaml", "!!python/name:os.system x"), MEASURE, "missing or damaged"),
    "a list of choices": (holding(".hydra/hydra.yaml", "- 1\n"), MEASURE, "hydra.yaml is missing or damaged"),
    "metrics that are no numbers": (added("metrics.csv", "1,x,y\n"), RESUME, "metrics.csv is damaged"),
    "metrics of another table": (holding("metrics.csv", "a,b\n1,2\n"), RESUME, "metrics.csv is damaged"),
    "metrics of too many cells": (holding("metrics.csv", "epoch\n1,2,3\n"), RESUME, "metrics.csv is damaged"),
    "metrics that are no text": (holding("metrics.csv", b"\xff\xfe\x00\n"), RESUME, "metrics.csv is damaged"),
}
CASES = [(name, by) for name, (_, commands, _) in DAMAGES.items() for by in commands]


@pytest.mark.parametrize(("name", "by"), CASES, ids=lambda value: value)
def test_a_damaged_folder_is_refused_in_one_sentence(name, by, run):
    damage, _, sentence = DAMAGES[name]
    damage(run)
    assert sentence in refused(by, run)


def test_report_survives_every_damage(run):
    """A page of many runs is not lost to one of them: what cannot be read is listed."""
    from taut.report.read.runs import read_run

    for name, (damage, _, _) in DAMAGES.items():
        place = Path(shutil.copytree(STORED / "vae", run.parent / name.replace(" ", "_").replace("/", "_")))
        damage(place)
        read_run(place)


def test_the_folder_itself_may_be_a_link_and_so_may_other_things_in_it(run):
    (run / "notes").symlink_to(run.parent / "outside")
    (run.parent / "linked").symlink_to(run)
    sentence = refused("evaluate", run, f"run={run.parent / 'linked'}", "k=0")
    assert "k must be an integer" in sentence


def test_a_new_run_does_not_write_through_links_either(run):
    folder = run.parent / "new"
    folder.mkdir()
    (folder / "metrics.csv").symlink_to(run.parent / "outside" / "precious.csv")
    assert "its metrics.csv is a link" in refused("train", run, f"hydra.run.dir={folder}")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("sweep.json", "", "damaged"),
        (
            "sweep.json",
            {"jobs": [["../outside", ["k=1"]]]},
            "its plan names '../outside', which is not a folder inside",
        ),
        ("sweep.json", {"jobs": [["000", ["k=1"]]]}, "the folder of its job 000 is a link"),
        ("jobs.csv", None, "its jobs.csv is a link"),
        (".lock", None, "its .lock is a link"),
    ],
    ids=str,
)
def test_a_sweep_that_leads_elsewhere_is_not_gone_on_with(name, content, sentence, run):
    sweep = run.parent / "sweep"
    sweep.mkdir()
    (sweep / "000").symlink_to(run.parent / "outside")
    if content is None:
        (sweep / name).symlink_to(run.parent / "outside" / "precious.csv")
    elif content:
        jobs = [{"number": 0, "folder": folder, "words": words, "config": ""} for folder, words in content["jobs"]]
        (sweep / name).write_text(json.dumps({"name": "sweep", "command": [], "jobs": jobs}))
    else:
        (sweep / name).write_text(content)
    words = ["-m", "k=1,2", f"hydra.sweep.dir={sweep}", "sweep.rehearse=false"]
    assert sentence in refused("train", run, *words)


def rewritten(run: Path, change: Callable[[dict], object]) -> None:
    """Change what a checkpoint holds, and seal it as if taut had written it."""
    for name in (TRAINED, BEST):
        checkpoint = AtomicCheckpointIO().load_checkpoint(run / name)
        changed = change(checkpoint)
        archive = io.BytesIO()
        torch.save(checkpoint if changed is None else changed, archive)
        (run / name).write_bytes(seal(archive.getvalue()))


def state_of(checkpoint: dict) -> dict:
    """State of the optimiser for the first parameter."""
    return checkpoint["optimizer_states"][0]["state"][0]


STATES = {
    "another shape": lambda c: state_of(c).update(exp_avg=torch.zeros(1)),
    "other strides": lambda c: state_of(c).update(exp_avg=torch.zeros(1).expand_as(state_of(c)["exp_avg"])),
    "integers": lambda c: state_of(c).update(exp_avg_sq=state_of(c)["exp_avg_sq"].long()),
    "steps that are a vector": lambda c: state_of(c).update(step=torch.zeros(10_000)),
    "steps of another precision": lambda c: state_of(c).update(step=torch.zeros((), dtype=torch.int8)),
    "no tensor": lambda c: state_of(c).update(exp_avg="x"),
    "an unknown state": lambda c: state_of(c).update(momentum_buffer=torch.zeros(3)),
    "a parameter there is not": lambda c: c["optimizer_states"][0]["state"].update({999: state_of(c)}),
    "another order": lambda c: c["optimizer_states"][0]["param_groups"][0]["params"].reverse(),
    "words for numbers": lambda c: c["optimizer_states"][0]["param_groups"][0].update(betas=("x", "y")),
    "no groups": lambda c: c["optimizer_states"][0].update(param_groups=[]),
    "no mapping": lambda c: c.update(optimizer_states=[3]),
}


def optimised() -> torch.optim.Adam:
    """A fused optimiser after a step."""
    parameters = [torch.nn.Parameter(torch.ones(4, 3)), torch.nn.Parameter(torch.ones(4))]
    optimizer = torch.optim.Adam(parameters, fused=True)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def test_the_state_of_an_optimiser_goes_back_to_its_parameters():
    optimizer = optimised()
    saved = optimizer.state_dict()
    before = [value.clone() for value in (*optimizer.param_groups[0]["params"], saved["state"][0]["exp_avg"])]
    check_optimizer_state(optimizer, saved)
    after = (*optimizer.param_groups[0]["params"], saved["state"][0]["exp_avg"])
    assert all(map(torch.equal, before, after)), "the check takes no step"


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_does_not_fit_the_parameters_is_refused(name):
    checkpoint = {"optimizer_states": [copy.deepcopy(optimised().state_dict())]}
    STATES[name](checkpoint)
    with pytest.raises(UserError, match="holds the state of another optimiser than this run's"):
        check_optimizer_state(optimised(), checkpoint["optimizer_states"][0])


def test_a_state_that_lacks_what_the_settings_need_is_refused():
    saved = copy.deepcopy(optimised().state_dict())
    del saved["state"][0]["exp_avg_sq"]
    with pytest.raises(UserError, match=r"need a state \(exp_avg_sq\) that the run has not kept"):
        check_optimizer_state(optimised(), saved)


FOREIGN = {
    "state of an optimiser": STATES["another shape"],
    "loops": lambda c: c.update(loops={"fit_loop": 3}),
    "random state": lambda c: c["callbacks"].update(RandomState={"ranks": [{"cpu": [torch.zeros(3)], "cuda": []}]}),
    "callbacks": lambda c: c["callbacks"].update({key: 3 for key in c["callbacks"] if "Kept" in key}),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_does_not_fit_the_run_is_refused_and_kills_nothing(name, own):
    rewritten(own, FOREIGN[name])
    done = command("train", *words_of("train", own))
    assert done.code == 2, done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert "he checkpoint" in done.err


def _packed(run: Path) -> None:
    """A checkpoint that is packed, as torch never packs."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("archive/data/0", bytes(1 << 20))
    (run / BEST).write_bytes(seal(archive.getvalue()))


WEIGHTS = {
    "a list": (lambda run: rewritten(run, lambda c: [c]), "is not that of a training"),
    "an object": (lambda run: rewritten(run, lambda c: {"x": Path("x")}), "holds more than tensors and plain types"),
    "no weights": (lambda run: rewritten(run, lambda c: c.pop("state_dict") and None), "is not a checkpoint of a"),
    "words for weights": (
        lambda run: rewritten(run, lambda c: c.update(state_dict={"a": "b"})),
        "does not fit the model",
    ),
    "a number for weights": (lambda run: rewritten(run, lambda c: c.update(state_dict=3)), "does not fit the model"),
    "no digest": (lambda run: rewritten(run, lambda c: c.update(Digits=3)), "does not say what data"),
    "a version of no version": (lambda run: rewritten(run, lambda c: c.update(taut_version=[1])), "by taut [1]"),
    "a packed archive": (_packed, "unpacks to more than it holds"),
    "no archive": (lambda run: (run / BEST).write_bytes(seal(b"x" * 500)), "is not an archive of torch"),
    "nothing": (lambda run: (run / BEST).write_bytes(b""), "is damaged"),
    "a large hole": (huge(BEST), "is damaged"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_checkpoint_of_anything_else_is_refused(name, run):
    damage, sentence = WEIGHTS[name]
    damage(run)
    assert sentence in refused("evaluate", run)


def test_a_file_larger_than_the_disk_is_not_read_to_see_that_it_is_no_checkpoint(tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"")
    os.truncate(path, 1 << 42)
    with pytest.raises(UserError, match="is damaged"):
        check_seal(path)


def _gone(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    (run / "result.json").unlink()


def test_a_run_without_its_checkpoints_starts_anew_only_if_told_to(own):
    _gone(own)
    (own / "metrics.csv").write_text("epoch\n0\n1\n")
    sentence = refused("train", own)
    assert (
        f"The checkpoints of {own} are gone, so that training would start anew: restore checkpoints/, or add "
        in sentence
    )
    assert refused("train", own, *words_of("train", own), "from_start=maybe").startswith(
        "from_start must be true or false"
    )
    done = command("train", *words_of("train", own), "from_start=true")
    assert done.code == 0, done.err
    assert json.loads((own / "result.json").read_text())["epochs"] == 3
    assert (own / "metrics.csv").read_text().count("\n") == 4
    sentence = refused("train", own, f"resume={own}", "trainer.max_epochs=4", "from_start=true")
    assert "leave out from_start=true" in sentence


def test_a_run_whose_checkpoints_are_damaged_says_so(run):
    (run / "result.json").unlink()
    (run / TRAINED).write_bytes(b"x")
    assert f"All checkpoints of {run} are damaged" in refused("train", run)


@pytest.mark.parametrize("rows", ["", "epoch\n", "epoch\n0\n"], ids=["none", "a header", "one"])
def test_a_run_that_was_killed_before_its_first_checkpoint_starts_anew_by_itself(rows, run):
    from taut.config.resume import read

    _gone(run)
    (run / "metrics.csv").write_text(rows)
    assert read([f"resume={run}"]) is not None
    (run / "metrics.csv").unlink()
    assert read([f"resume={run}"]) is not None


def test_paths_in_a_checkpoint_lead_nowhere_else(own):
    """Lightning deletes the file that a checkpoint calls the worst of the best."""
    precious = own.parent / "outside" / "precious.csv"

    def change(checkpoint: dict) -> None:
        state = checkpoint["callbacks"]["Kept.recent"]
        old = min(state["best_k_models"], key=state["best_k_models"].get)
        # inside the folder of checkpoints for whoever compares the beginnings of paths
        away = str(own.resolve() / "checkpoints" / ".." / ".." / "outside" / "precious.csv")
        state["kth_best_model_path"] = away
        state["best_k_models"] = {
            away if path == old else path: score for path, score in state["best_k_models"].items()
        }

    rewritten(own, change)
    done = command("train", *words_of("train", own))
    assert done.code == 0, done.err
    assert precious.read_text() == "precious"


def test_a_file_is_written_beside_a_link_and_not_through_it(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (tmp_path / f".a.{os.getpid()}.part").symlink_to(outside)
    write_atomically(tmp_path / "a", "new")
    assert (outside.read_text(), (tmp_path / "a").read_text()) == ("precious", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "outside"]


@pytest.mark.parametrize("content", ["../../x\n", "", "a b", "x" * 65, b"\xff"])
def test_an_id_of_wandb_that_is_none_is_refused(content, tmp_path):
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "id").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="remove it, and the run gets a new"):
        run_id(tmp_path, "vae", None)
