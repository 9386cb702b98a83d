"""What a config may say of the process: nothing but by name; and what the user types is the user's own."""

from pathlib import Path

import pytest
from evaluations import command
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from taut.config.trust import SLURM, SLURM_TYPED, check_launch, check_words
from taut.errors import UserError

CONF = Path(__file__).resolve().parents[2] / "conf"
GLOBAL = "# @package _global_\n"


def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, *words: str, name: str = "train") -> str:
    """What a command says to an experiment of a stranger, having checked that it was refused and wrote nothing."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "theirs" / "experiment" / "x.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    done = command(name, "--config-dir", "theirs", "experiment=x", *words)
    assert done.code == 2, done.out + done.err
    assert len(done.err.splitlines()) == 1
    assert [place.name for place in tmp_path.iterdir()] == ["theirs"]
    return done.err.replace(str(path), "FILE")


REST = (
    ", and a config may say what a run computes and nothing of the process; remove it, or type it on the command line"
)
REFUSED = {
    "hydra.job.chdir": "hydra: {job: {chdir: true}}",
    "hydra.job.name": "hydra: {job: {name: ../x}}",
    "hydra.job.env_set.A": "hydra: {job: {env_set: {A: b}}}",
    "hydra.output_subdir": "hydra: {output_subdir: ../x}",
    "hydra.sweep.subdir": "hydra: {sweep: {subdir: ../x}}",
    "hydra.verbose": "hydra: {verbose: true}",
    "hydra.env.x": "hydra: {env: {x: 1}}",
    "hydra.callbacks.x._target_": "hydra: {callbacks: {x: {_target_: hydra.experimental.callback.Callback}}}",
    "hydra.launcher._target_": "hydra: {launcher: {_target_: hydra_plugins.other.launcher.Other}}",
    "hydra.sweeper._target_": "hydra: {sweeper: {_target_: hydra_plugins.other.sweeper.Other}}",
    "hydra.job_logging.handlers.file.filename": "hydra: {job_logging: {handlers: {file: {filename: /tmp/x.log}}}}",
    "hydra.job_logging.handlers.file.mode": "hydra: {job_logging: {handlers: {file: {mode: w}}}}",
    "hydra.hydra_logging.handlers.console.()": "hydra: {hydra_logging: {handlers: {console: {'()': os.system}}}}",
    "hydra.overrides.task": "hydra: {overrides: {task: [k=3]}}",
    "hydra.overrides.hydra": "hydra: {overrides: {hydra: [hydra.job.chdir=true]}}",
    "hydra.sweeper.params.+hydra.job.env_set.A": "hydra: {sweeper: {params: {+hydra.job.env_set.A: b}}}",
    "hydra.sweeper.params.hydra/launcher": "hydra: {sweeper: {params: {hydra/launcher: x}}}",
    "hydra.sweeper.params.+mask@hydra.job": "hydra: {sweeper: {params: {+mask@hydra.job: x}}}",
    "hydra.sweeper.params.+mask@_global_.hydra.job": "hydra: {sweeper: {params: {+mask@_global_.hydra.job: x}}}",
}


@pytest.mark.parametrize("key", REFUSED)
def test_a_config_says_nothing_of_the_process(key, tmp_path, monkeypatch):
    assert said(tmp_path, monkeypatch, GLOBAL + REFUSED[key]).startswith(f"{key} comes from FILE{REST}")


OTHERWISE = {
    "in a package of Hydra's": ("# @package hydra.job.env_set\nA: b", [], f"hydra.job.env_set.A comes from FILE{REST}"),
    "by choosing a file of Hydra's": (
        GLOBAL + "defaults: [{override /hydra/hydra_logging: hydra_debug}]",
        [],
        "hydra.hydra_logging.formatters.simple.format comes from hydra.conf/hydra/hydra_logging/hydra_debug.yaml, and",
    ),
    "for the help": (
        GLOBAL + REFUSED["hydra.hydra_logging.handlers.console.()"],
        ["--help"],
        f"hydra.hydra_logging.handlers.console.() comes from FILE{REST}",
    ),
    "for an evaluation of a sweep": (
        GLOBAL + "sweep: {evaluate: limit=3 hydra.job.chdir=true}",
        ["-m", "k=1,2"],
        "hydra.job.chdir comes from FILE, which may say what a run computes",
    ),
    "as a flag of an evaluation": (
        GLOBAL + "sweep: {evaluate: --config-dir=/x limit=3}",
        ["-m", "k=1,2"],
        "--config-dir comes from FILE, which may say what a run computes",
    ),
    "for a cluster": (
        GLOBAL + "launcher: {slurm: {setup: [touch x]}}",
        ["-m", "k=1,2", "launcher=slurm"],
        f"launcher.slurm.setup comes from FILE{REST}",
    ),
    "in the jobs of a sweep": (
        GLOBAL + "hydra: {job: {chdir: true}}",
        ["-m", "k=1,2"],
        f"hydra.job.chdir comes from FILE{REST}",
    ),
}


@pytest.mark.parametrize("way", OTHERWISE)
def test_nor_does_it_by_another_way(way, tmp_path, monkeypatch):
    text, words, sentence = OTHERWISE[way]
    assert said(tmp_path, monkeypatch, text, *words).startswith(sentence)


def test_a_choice_of_hydras_own_does_not_open_the_group_to_configs(tmp_path, monkeypatch):
    text = GLOBAL + REFUSED["hydra.job_logging.handlers.file.filename"]
    sentence = said(tmp_path, monkeypatch, text, "hydra/job_logging=default")
    assert sentence.startswith(f"hydra.job_logging.handlers.file.filename comes from FILE{REST}")


@pytest.mark.parametrize("place", ["/tmp/x", "../x", "outputs/../x", "x", "~/x", ".", "${oc.env:HOME}/x"])
def test_a_config_places_runs_below_outputs_alone(place, tmp_path, monkeypatch):
    sentence = said(tmp_path, monkeypatch, GLOBAL + f"hydra: {{run: {{dir: '{place}'}}}}")
    assert "comes from FILE, and a config may place runs below outputs/ alone; type hydra.run.dir=<folder>" in sentence


def test_a_config_says_what_a_run_needs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "theirs" / "experiment" / "x.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(GLOBAL + "k: 3\nhydra: {run: {dir: 'outputs/mine/${k}'}, help: {header: Mine.}, mode: RUN}\n")
    done = command("train", "--config-dir", "theirs", "experiment=x", "--help")
    assert done.code == 0
    assert done.out.startswith("Mine.")
    # refused for its k, and so not for Hydra's keys, which come first
    assert command("train", "--config-dir", "theirs", "experiment=x", "k=0").err.startswith("k must be an integer")


@pytest.mark.parametrize(
    "word", ["hydra.job.chdir=true", "hydra.verbose=true", "+hydra.job.env_set.A=b", "hydra.run.dir=/x"]
)
def test_what_the_user_types_is_the_users_own(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("train", word, "k=0").err.startswith("k must be an integer")


def launch(*words: str) -> None:
    """Check a sweep that is to run on a cluster."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", ["launcher=slurm", *words])
    check_launch(cfg, ["launcher=slurm", *words], lambda key: "FILE")


def test_every_key_of_sbatch_is_declared_and_taken():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert set(compose("train", ["launcher=slurm"]).launcher.slurm) == set(SLURM)
    launch("launcher.slurm.partition=gpu", "launcher.slurm.time=60", "launcher.slurm.exclusive=true")


def test_what_runs_commands_is_typed_or_refused():
    for name in SLURM_TYPED:
        launch(f"+launcher.slurm.{name}=[x]")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", ["launcher=slurm"])
    for name in SLURM_TYPED:
        with open_dict(cfg):
            cfg.launcher.slurm = {name: ["x"]}
        with pytest.raises(UserError, match=f"launcher.slurm.{name} comes from FILE"):
            check_launch(cfg, ["launcher=slurm"], lambda key: "FILE")
    with open_dict(cfg):
        cfg.launcher.slurm = {"comment": "a\ntouch x"}
    with pytest.raises(UserError, match=r"launcher.slurm.comment must be one number or one line of text"):
        check_launch(cfg, ["launcher=slurm"], lambda key: "FILE")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        (
            "+launcher.slurm.partitoin=gpu",
            "launcher.slurm.partitoin is not a key of sbatch; did you mean launcher.slurm.partition",
        ),
        ("launcher.slurm=gpu", "launcher.slurm must be keys of sbatch"),
        ("launcher.slurm.partition=[gpu]", "launcher.slurm.partition must be one number or one line of text"),
    ],
)
def test_what_sbatch_does_not_take_is_refused(word, sentence):
    with pytest.raises(UserError, match=sentence.replace("[", r"\[")):
        launch(word)


@pytest.mark.parametrize(
    "word",
    [
        "hydra.job.chdir=true",
        "~hydra.job",
        "++hydra.verbose=1",
        "hydra/launcher=x",
        "a@hydra.b=c",
        "--multirun",
        "hydra{=1",
    ],
)
def test_words_of_a_run_folder_are_none_of_hydras(word):
    with pytest.raises(
        UserError, match="comes from FILE, which may say what a run computes and nothing of the process"
    ):
        check_words(["k=3", word], "FILE")
    check_words(["k=3", "+sweep=smoke", "network.hidden=[8]", "data.path='/x/hydra.csv'"], "FILE")
