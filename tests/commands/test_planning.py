"""Planning of a sweep: the configs are those that Hydra composes, and a thousand jobs cost seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from evaluations import ROOT
from omegaconf import OmegaConf

from taut.commands.sweep import configs as configs_of_jobs
from taut.commands.sweep.cluster import Cluster
from taut.commands.sweep.configs import Configs
from taut.commands.sweep.driver import Driver
from taut.commands.sweep.job import Job, Status
from taut.commands.sweep.plan import Plan
from taut.config import overrides
from taut.config.compose import Composer
from taut.config.program import Program
from taut.errors import RunError, UserError


@pytest.fixture
def composer(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with Composer("train", ROOT / "conf", overrides.parsed()) as composer:
        yield composer


class Counted:
    """A function, and how often it was called."""

    def __init__(self, function):
        self.function, self.times = function, 0

    def __call__(self, *arguments):
        self.times += 1
        return self.function(*arguments)


@pytest.mark.parametrize(
    "words",
    [
        ["model=iwae", "k=5"],
        ["data=table", "data.path=x_${seed}.csv", "model=mog"],
        ["+sweep=k_grid", "prior=mixture", "trainer.max_epochs=2"],
        ["data.split_seed=7", "~callbacks.progress"],
    ],
)
def test_a_config_of_another_seed_is_the_one_that_hydra_composes(composer, words):
    hydra = Counted(composer.compose)
    configs = Configs(hydra, unexplained)
    for seed in (0, 12345):
        own = [*words, f"seed={seed}"]
        config, slow = configs.composed(own), composer.compose(own)
        fast = config.cfg
        assert config.container == OmegaConf.to_container(slow, resolve=False)
        assert OmegaConf.to_yaml(fast) == OmegaConf.to_yaml(slow)
        assert OmegaConf.to_yaml(fast, resolve=True) == OmegaConf.to_yaml(slow, resolve=True)
        with pytest.raises(Exception, match="surprise"):
            # in struct mode, as Hydra's
            fast.surprise = 1
    assert hydra.times == 1


def test_a_thousand_jobs_are_composed_and_checked_as_often_as_they_differ(composer, monkeypatch):
    hydra, checked = Counted(composer.compose), []
    monkeypatch.setattr("taut.commands.sweep.configs.check", checked.append)
    configs = Configs(hydra, unexplained)
    for model in ("vae", "iwae"):
        for seed in range(500):
            words = [f"model={model}", f"seed={seed}"]
            config = configs.composed(words)
            configs.check(words, config)
            if seed % 100 == 0:
                cfg = config.cfg
                assert (cfg.seed, cfg.model.seed, cfg.data.seed) == (seed, seed, seed)
    assert (hydra.times, len(checked)) == (2, 2)


def test_words_that_are_wrong_are_composed_and_explained_once_for_all_seeds(composer):
    hydra = Counted(composer.compose)
    configs = Configs(hydra, Counted(lambda error, words: f"sentence {configs.explain.times}"))
    for seed in range(5):
        with pytest.raises(UserError, match=r"^sentence 1$"):
            configs.composed(["model=vea", f"seed={seed}"])
    assert hydra.times == 1


def test_each_model_is_built_once_whatever_the_seed_and_anew_where_it_is_refused(composer, monkeypatch):
    """A refusal may be of one split of the data, which another seed makes another."""
    configs = Configs(composer.compose, unexplained)
    words = [
        [f"k={k}", *more, f"seed={s}"] for k in (1, 2) for more in ([], ["data.batch_size=${seed}"]) for s in (5, 6)
    ]
    built = []

    def build(raw):
        built.append((raw["k"], raw["data"]["batch_size"], raw["seed"]))
        return "refused" if (raw["k"], raw["seed"]) == (2, 5) else None

    monkeypatch.setattr(configs_of_jobs, "Builder", lambda: build)
    monkeypatch.setattr(configs_of_jobs.subprocess, "run", in_this_process)
    refusals = configs_of_jobs.rehearse([configs.composed(job) for job in words])
    assert refusals == [None, None, None, None, "refused", None, "refused", None]
    # what depends on the seed is built for each, and so is what another seed has been refused
    assert built == [
        (1, 100, 5),
        *[(1, "${seed}", s) for s in (5, 6)],
        *[(2, 100, s) for s in (5, 6)],
        *[(2, "${seed}", s) for s in (5, 6)],
    ]


def in_this_process(words, *, input, **_):
    return subprocess.CompletedProcess(words, 0, json.dumps(configs_of_jobs.build_all(*json.loads(input))), "")


def unexplained(error, words):
    raise AssertionError(words) from error


@pytest.mark.parametrize(
    ("words", "seed", "wrong"),
    [
        ([], "-1", "seed must be an integer from 0 to 4294967295, got -1"),
        ([], "4294967296", "seed must be an integer from 0 to 4294967295, got 4294967296"),
        (["k=0"], "2", "k must be an integer >= 1, got 0"),
        # more than the seed depends on it here: every job is checked
        (["k=${seed}"], "0", "k must be an integer >= 1, got 0"),
    ],
)
def test_what_a_seed_makes_wrong_is_found_behind_seeds_that_are_right(composer, words, seed, wrong):
    configs = Configs(composer.compose, unexplained)
    right = ["model=iwae", *(word for word in words if word != "k=0"), "seed=1"]
    configs.check(right, configs.composed(right))
    bad = ["model=iwae", *words, f"seed={seed}"]
    with pytest.raises(UserError) as refused:
        configs.check(bad, configs.composed(bad))
    assert str(refused.value).startswith(wrong)


def test_a_sweep_may_have_any_name(composer, tmp_path):
    sweep = composer.compose([]).sweep
    for name in ("10", "lr=1e-3", "a,b", "a(b)", "it's", "été", "true", "1e3", "[x]", "a: b"):
        driver = Driver(
            Program("train", tmp_path / "train.py"), [], [], None, lambda error, words: "", folder=tmp_path / name
        )
        command = driver._command(Job(0, "000_seed0", ["seed=0"], ""), Plan(name, [], []), sweep)
        cfg = composer.composed([word for word in command.train if not word.startswith("hydra.mode")])
        assert cfg.sweep.name == name
        assert isinstance(cfg.sweep.name, str)
        assert cfg.hydra.run.dir == str(tmp_path / name / "000_seed0")


def test_words_that_are_given_twice_are_one_job():
    wanted = [(["seed=0"], "a"), (["seed=1"], "b"), (["seed=0"], "a")]
    plan = Plan("twice", [], []).joined(wanted)
    assert [job.folder for job in plan.jobs] == ["000_seed0", "001_seed1"]
    assert plan.joined(wanted).jobs == plan.jobs


def test_the_seconds_of_all_attempts_are_added_up(tmp_path):
    status = Status()
    for seconds, state in ((2.5, "queued"), (4.0, "failed"), (1.0, "finished")):
        status = status.begun().after(seconds, state=state).write(tmp_path)
    assert (Status.read(tmp_path).seconds, Status.read(tmp_path).attempts) == (7.5, 3)


@pytest.mark.parametrize(
    "known",
    [
        "[]",
        '{"submitting": "mine", "tasks": {}}',
        '{"submitting": null, "tasks": {"../elsewhere": "1"}}',
        '{"submitting": null, "tasks": {"000_seed0": "--me"}}',
        "nonsense",
    ],
)
def test_numbers_of_tasks_that_no_driver_wrote_are_refused(tmp_path, known):
    (tmp_path / "cluster.json").write_text(known)
    cluster = Cluster(OmegaConf.create({"cluster": "slurm"}), tmp_path)
    with pytest.raises(UserError, match=r"cluster.json is damaged, so that nobody knows which tasks"):
        cluster.settle()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("sbatch: error: invalid partition specified: gpu\nallocation failure: no", "invalid partition specified: gpu"),
        (
            "sbatch: error: resolve: Unknown host\nsbatch: fatal: Could not find a controller.\n",
            "Could not find a controller",
        ),
        ("allocation failure: Invalid feature specification", "allocation failure: Invalid feature specification"),
        ("", "it said nothing"),
    ],
)
def test_what_slurm_says_is_told_by_the_line_that_names_the_reason(monkeypatch, said, reason):
    refused = subprocess.CompletedProcess([], 1, "", said)
    monkeypatch.setattr("taut.commands.sweep.cluster.subprocess.run", lambda *_, **__: refused)
    with pytest.raises(RunError) as told:
        Cluster(OmegaConf.create({"cluster": "slurm"}), Path())._states()
    assert str(told.value) == f"Slurm does not answer: {reason}. The same command goes on with the sweep."


@pytest.mark.parametrize("words", [["trainer.fast_dev_run=true"], ["trainer.fast_dev_run=3"], ["debug=fdr"]])
def test_a_job_that_keeps_nothing_is_refused_before_it_starts(composer, words):
    configs = Configs(composer.compose, unexplained)
    own = [*words, "seed=1"]
    with pytest.raises(UserError, match=r"^trainer\.fast_dev_run keeps nothing of a job"):
        configs.check(own, configs.composed(own))
    configs.check(["seed=1"], configs.composed(["seed=1"]))


def test_a_choice_within_a_folder_names_its_job_by_both_words():
    words = [["experiment=families/q_diagonal"], ["experiment=families/q_flow"]]
    folders = [job.folder for job in Plan("sweep", [], []).joined([(own, "") for own in words]).jobs]
    assert folders == ["000_families_q_diagonal", "001_families_q_flow"]
