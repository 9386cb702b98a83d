"""A search by Optuna: its space, its scores, its pruning, and what becomes of it when it is killed or trials fail."""

import json
import math
import os
import shlex
import signal
import sys
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import numpy as np
import optuna
import pytest
from evaluations import ROOT, TINY, command
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from benchmarks.search import Curve, replayed
from taut.commands.sweep.plan import Plan
from taut.commands.sweep.search import study
from taut.commands.sweep.search.outcome import track, written
from taut.commands.sweep.search.scores import Score, front, incomparable, samples
from taut.commands.sweep.search.space import Space
from taut.config import overrides
from taut.config.compose import Composer
from taut.errors import UserError
from taut.report.figures.search import save_figures
from taut.training.scored_model import _tiled

STUB = Path(__file__).with_name("stub.py")


def space(*words):
    return Space.of(OverridesParser.create().parse_overrides(list(words)))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("model=vae,iwae", CategoricalDistribution(["vae", "iwae"])),
        ("network.hidden=[8],[8,8]", CategoricalDistribution(["[8]", "[8,8]"])),
        ("q=null,1", CategoricalDistribution(["null", "1"])),
        ("latent_dim=range(2,64)", IntDistribution(2, 63)),
        ("latent_dim=range(2,64,5)", IntDistribution(2, 62, step=5)),
        ("latent_dim=tag(log,range(2,65))", IntDistribution(2, 64, log=True)),
        ("k=int(interval(1,10))", IntDistribution(1, 10)),
        ("k=tag(log,int(interval(1,10)))", IntDistribution(1, 10, log=True)),
        ("optimizer.lr=interval(0,1)", FloatDistribution(0.0, 1.0)),
        ("optimizer.lr=tag(log, interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("data.rate=range(0.1,0.6,0.2)", FloatDistribution(0.1, 0.5, step=0.2)),
    ],
)
def test_words_are_optunas_distributions(word, expected):
    (axis,) = space(word).axes.values()
    assert axis == expected


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["k=5"], "A search needs something to vary, such as 'optimizer.lr=tag(log, interval(1e-4, 1e-2))' or"),
        (["k=range(5,5)"], "k=range(5,5) holds no number; its first must be below its second."),
        (["optimizer.lr=interval(2,1)"], "optimizer.lr=interval(2,1) holds no number"),
        (
            ["optimizer.lr=tag(log,interval(0,1))"],
            "cannot be logarithmic: that takes numbers above 0, and no step but 1.",
        ),
        (["k=tag(log,range(1,9,2))"], "cannot be logarithmic"),
        (["seed=0,1"], "seed=0,1: a search over seeds would choose the luckiest; give all trials one seed."),
        (["k_eval=10,20"], "k_eval=10,20: k_eval is what trials are scored by; give all of them one."),
        (["sweep.trials=1,2"], "sweep.trials=1,2: sweep.trials is not of a trial but of the whole search"),
    ],
)
def test_what_cannot_be_searched_is_refused(words, sentence):
    with pytest.raises(UserError) as refused:
        space(*words)
    assert sentence in str(refused.value)


def test_a_point_is_words_that_read_as_its_values():
    where = space(
        "optimizer.lr=interval(0,1)", "k=range(1,9)", "model=vae,iwae", "+x=interval(0,1)", "seed=3", "k_eval=4"
    )
    words = where.words({"optimizer.lr": 0.000123456, "k": 5, "model": "iwae", "+x": 1.0})
    assert words == ["seed=3", "k_eval=4", "optimizer.lr=0.0001235", "k=5", "model=iwae", "+x=1.0"]
    read = [overrides.parsed_word(word).value() for word in words]
    assert read == [3, 4, 0.0001235, 5, "iwae", 1.0]
    assert [type(each) for each in read[2:4]] == [float, int]


def test_the_later_word_of_a_key_wins():
    where = space("k=1,5", "seed=0", "k=7,9", "seed=1")
    assert where.axes == {"k": CategoricalDistribution(["7", "9"])}
    assert list(where.fixed.values()) == ["seed=1"]


def test_the_points_of_a_grid_are_all_there_and_an_interval_has_none():
    where = space("k=1,5", "latent_dim=range(2,8,2)")
    assert [where.words(point) for point in where.points()] == [
        [f"k={k}", f"latent_dim={d}"] for k in (1, 5) for d in (2, 4, 6)
    ]
    assert where.size == 6
    with pytest.raises(UserError, match=r"sweep.sampler=grid goes through lists of values, and k is an interval"):
        next(space("k=interval(0,1)").points())


# scores


@pytest.fixture(scope="module")
def composed():
    """Configs, each composed once."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(sys, "argv", ["train.py"])
        composer = stack.enter_context(Composer("train", ROOT / "conf", overrides.parsed()))
        yield cache(lambda *words: composer.compose(list(words)))


def test_trials_of_another_k_or_model_are_scored_by_one_k(composed):
    same = [composed("optimizer.lr=1e-3"), composed("optimizer.lr=1e-2", "latent_dim=3")]
    assert Score.agreed("val/bound", same) == Score(("val/bound",), 100)
    for others in (["k=5", "model=iwae"], ["model=iwae"], ["model=vae", "k=5"]):
        score = Score.agreed(["val/bound", "val/elbo"], [composed(), composed(*others)])
        assert score.names == ("val/log_px", "val/elbo")
        assert score.labels[0] == "val/log_px\nK = 100"
        assert score.why.startswith("Trials differ in what their bound is of")
    assert Score.agreed("val/log_px", [composed(), composed("k=50")]) == Score(("val/log_px",), 100)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["k=3"],
            "k=3 would be scored with K = 102 samples and k=1 with 100, which cannot be compared; let every k divide",
        ),
        (["k=64"], "k=64 would be scored with K = 128 samples"),
        (["data.binarisation=fixed"], "Trials would differ in the data, their split or their binarisation"),
        (["data.split_seed=1"], "Trials would differ in the data"),
        (["likelihood=gaussian", "data.binarisation=dynamic"], "Trials would differ in the likelihood"),
        (["mask=random"], "Trials would differ in the cells that are observed"),
        (["model=mog"], "Trials would differ in"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(composed, words, sentence):
    with pytest.raises(UserError) as refused:
        Score.agreed("val/bound", [composed(), composed(*words)])
    assert str(refused.value).startswith(sentence)


def test_what_changes_the_model_alone_can_be_compared(composed):
    assert incomparable(composed(), composed("data.batch_size=7", "prior=vamp", "q=full", "optimizer.lr=1")) is None


def test_the_samples_of_a_score_are_those_of_validation():
    for k in range(1, 60):
        for k_eval in (1, 10, 50, 100):
            assert samples(OmegaConf.create({"k": k, "k_eval": k_eval})) == _tiled(k_eval, k)


def test_the_score_of_a_run_is_that_of_the_weights_it_keeps(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "epoch,val/bound,val/elbo,val/log_px\n0,-9,-9.5,-8\n1,-7,-7.5,-6\n2,-8,-7.25,-5\n3,,,\n"
    )
    result = {"status": "finished", "validation": {"bound": -7.0}, "scores": {"log_px": {"kind": "exact"}}}
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert Score(("val/elbo", "val/log_px"), 10).of(tmp_path) == [-7.5, -6.0]
    assert Score(("val/bound",), 10).of(tmp_path) == [-7.0]
    assert Score(("val/log_px",), 10).kind(tmp_path) == "exact"
    assert Score(("val/elbo",), 10).kind(tmp_path) is None
    (tmp_path / "result.json").write_text(json.dumps({"status": "finished", "validation": {"bound": None}}))
    assert Score(("val/elbo",), 10).of(tmp_path) is None


def test_the_best_is_one_and_the_front_is_all_that_no_other_beats():
    assert front({"a": [1.0], "b": [3.0], "c": [3.0]}) == ["b"]
    assert front({"a": [1.0, 5.0], "b": [3.0, 3.0], "c": [2.0, 3.0], "d": [3.0, 3.0]}) == ["a", "b", "d"]
    assert front({}) == []


# pruning


def reported(known, values, errors, state=TrialState.RUNNING):
    trial = known.ask({"x": FloatDistribution(0, 1)})
    for step, (value, error) in enumerate(zip(values, errors, strict=True), 1):
        study.note(trial, step, value, error)
    if state == TrialState.COMPLETE:
        known.tell(trial, max(values))
    return known.trials[trial.number]


@pytest.fixture
def known():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    # the best by its final score, though behind another at the second step
    reported(known, [-30.0, -20.0, -10.0], [0.3, 0.3, 0.3], TrialState.COMPLETE)
    reported(known, [-30.0, -15.0, -14.0], [0.3, 0.3, 0.3], TrialState.COMPLETE)
    return known


@pytest.mark.parametrize(
    ("score", "error", "stopped"),
    # 3 sqrt(0.3^2 + 0.4^2) = 1.5 nats behind -20 at the second step
    [(-21.49, 0.4, False), (-21.51, 0.4, True), (-21.51, 0.5, False), (-16.0, 0.4, False), (-99.0, None, False)],
)
def test_a_trial_is_behind_if_it_is_so_by_more_than_both_errors(known, score, error, stopped):
    trial = reported(known, [-30.0, score], [0.3, error])
    assert (study.behind(known, trial) is not None) == stopped
    always = optuna.pruners.ThresholdPruner(lower=math.inf)
    assert study.BeyondErrors(always).prune(known, trial) == stopped
    # whom no pruner stops is not stopped, however far behind
    assert not study.BeyondErrors(optuna.pruners.NopPruner()).prune(known, trial)


def test_the_sentence_says_how_far_behind(known):
    trial = reported(known, [-30.0, -23.0], [0.3, 0.4])
    assert study.behind(known, trial) == (
        "3.000 nats behind the best trial (number 0) at epoch 2, where 3 standard errors are 1.500"
    )


def equal(noise, seed, trials, rows=200, epochs=12):
    """Curves of trainings that are equally good: all that tells them apart is the noise of their rows."""
    clock = np.random.default_rng(seed)
    common = clock.normal(0, 3, rows)
    level = -30 + 5 * (1 - np.exp(-np.arange(epochs) / 4))
    for _ in range(trials):
        own = common + clock.normal(0, noise, rows)
        scores = level[:, None] + own + clock.normal(0, 0.3, (epochs, rows))
        yield Curve(scores.mean(1).tolist(), (scores.std(1) / math.sqrt(rows)).tolist(), [1.0] * epochs, 0.0)


@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_trainings_that_are_equally_good_are_not_pruned(tmp_path, pruner):
    """A pruner by itself stops most of them; behind their errors at most 1 of 40 is stopped (here none)."""
    counts = {}
    for z in (0.0, study.Z):
        known = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
        inner = study.pruner(pruner, 12)
        assert isinstance(inner, study.BeyondErrors)
        known.pruner = study.BeyondErrors(inner.pruner, z)
        counts[z] = sum(_is_pruned(known, curve) for curve in equal(1.5, 0, 44))
    assert counts[0.0] >= 15
    assert counts[study.Z] <= 1


def _is_pruned(known, curve):
    trial = known.ask({"x": FloatDistribution(0, 1)})
    for step, (value, error) in enumerate(zip(curve.score, curve.error, strict=True), 1):
        study.note(trial, step, value, error)
        if trial.should_prune():
            known.tell(trial, state=TrialState.PRUNED)
            return True
    known.tell(trial, max(curve.score))
    return False


def test_a_training_that_is_far_behind_is_pruned(tmp_path):
    def curve(words):
        k = int(words[0].partition("=")[2])
        return Curve([-50.0 - k + epoch for epoch in range(10)], [0.1] * 10, [1.0] * 10, 0.0)

    search, replay = replayed(tmp_path, ["k=range(0,30)"], curve, trials=20, epochs=10)
    states = [trial.state for trial in search.study.trials]
    assert states[: study.BEFORE] == [TrialState.COMPLETE] * study.BEFORE
    assert states.count(TrialState.PRUNED) >= 5
    assert replay.seconds < 0.8 * 10 * len(replay.words)
    # the best of all that were tried was never stopped
    best = min(int(words[0].partition("=")[2]) for words in replay.words.values())
    assert search.study.best_params["k"] == best


# the search


def quadratic(words):
    """A training whose score says how near its learning rate is to 1e-3; one with k=9 fails."""
    at = {key: value for key, _, value in (word.partition("=") for word in words)}
    score = -((math.log10(float(at["optimizer.lr"])) + 3) ** 2)
    return Curve([score - 1, score], [0.01, 0.01], [1.0, 1.0], 0.0, fails=at.get("k") == "9")


LR = "optimizer.lr=tag(log,interval(1e-5,1e-1))"


@pytest.mark.parametrize(("sampler", "distance"), [("tpe", 0.35), ("gp", 0.1), ("cmaes", 0.5), ("random", 1.0)])
def test_every_sampler_finds_the_place(tmp_path, sampler, distance):
    search, replay = replayed(tmp_path, [LR], quadratic, sampler=sampler, trials=16, epochs=2, pruner="none")
    assert len(replay.words) == len(search.study.trials) == 16
    assert abs(math.log10(search.study.best_params["optimizer.lr"]) + 3) < distance


def test_a_grid_is_gone_through_in_order(tmp_path):
    search, replay = replayed(tmp_path, ["optimizer.lr=1e-4,1e-3", "k=1,2"], quadratic, sampler="grid", pruner="none")
    assert list(replay.words.values()) == [
        [f"optimizer.lr={lr}", f"k={k}"] for lr in ("0.0001", "0.001") for k in (1, 2)
    ]
    assert len(search.study.trials) == 4


def test_a_failed_trial_is_failed_and_the_search_goes_on(tmp_path):
    search, _ = replayed(tmp_path, [LR, "k=1,9"], quadratic, trials=14, epochs=2)
    states = [trial.state for trial in search.study.trials]
    assert 2 <= states.count(TrialState.FAIL) < 12
    assert len(states) == 14
    assert search.study.trials[states.index(TrialState.FAIL)].user_attrs["wrong"] == "ValueError: unlucky"
    assert search.study.best_params["k"] == "1"


def test_failed_trials_are_proposed_once_more_if_asked(tmp_path):
    settings = {"trials": 4, "epochs": 2, "pruner": "none"}
    replayed(tmp_path, ["optimizer.lr=1e-3,1e-2", "k=1,9"], quadratic, sampler="grid", **settings)
    again, replay = replayed(tmp_path, ["optimizer.lr=1e-3,1e-2", "k=1,9"], quadratic, again=True, **settings)
    assert replay.seconds == 2 * 2
    assert [trial.state for trial in again.study.trials].count(TrialState.FAIL) == 4
    healed, replay = replayed(
        tmp_path, ["optimizer.lr=1e-3,1e-2", "k=1,9"], lambda words: quadratic(words[:1]), again=True, **settings
    )
    assert replay.seconds == 2 * 2
    assert [trial.state for trial in healed.study.trials[-2:]] == [TrialState.COMPLETE] * 2
    # told once, and not tried a third time
    last, replay = replayed(tmp_path, ["optimizer.lr=1e-3,1e-2", "k=1,9"], quadratic, again=True, **settings)
    assert (replay.seconds, len(last.study.trials)) == (0, len(healed.study.trials))


def test_a_search_in_which_all_fails_ends(tmp_path):
    search, replay = replayed(tmp_path, [LR, "k=9"], quadratic, trials=50, epochs=2)
    assert len(replay.words) == 5
    assert search.end == "The first 5 trials have failed, and the search ends with them."


@pytest.mark.parametrize("together", [1, 3])
def test_points_that_were_tried_cost_nothing(tmp_path, together):
    words = ["optimizer.lr=1e-4,1e-3,1e-2", "k=1,2"]
    search, replay = replayed(tmp_path, words, quadratic, trials=50, epochs=2, pruner="none", n_jobs=together)
    assert sorted(replay.words.values()) == sorted(space(*words).words(point) for point in space(*words).points())
    assert replay.seconds == 2 * 6
    assert all(trial.state == TrialState.COMPLETE for trial in search.study.trials)


class Killed(BaseException):
    """The driver is gone."""


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path, sampler):
    """At any moment: while a trial runs, and with a journal whose last line is torn and whose lock is left."""
    (tmp_path / "whole").mkdir()
    settings = {"sampler": sampler, "trials": 12, "epochs": 2}
    whole, _ = replayed(tmp_path / "whole", [LR], quadratic, **settings)
    folder, calls = tmp_path / "killed", [0]
    folder.mkdir()

    def deadly(words):
        calls[0] += 1
        if calls[0] % 11 == 0:
            raise Killed
        return quadratic(words)

    finished = None
    for _ in range(20):
        try:
            finished, _ = replayed(folder, [LR], deadly, **settings)
            break
        except Killed:
            (folder / "study.log.lock").touch()
            with (folder / study.JOURNAL).open("a") as journal:
                journal.write('{"op_code": 6, "wor')
            # as the supervisors of jobs leave them
            for job in filter(Path.is_dir, folder.iterdir()):
                if not (job / "status.json").exists():
                    (job / "metrics.csv").unlink(missing_ok=True)
    assert finished is not None
    assert calls[0] > 22
    ours, theirs = ([(t.params, t.state, t.values) for t in each.study.trials] for each in (finished, whole))
    assert ours == theirs


def test_a_search_is_not_mixed_with_another(tmp_path):
    replayed(tmp_path, [LR], quadratic, trials=2, epochs=2)
    with pytest.raises(UserError, match=r"was begun with the words optimizer.lr in FloatDistribution.* not with .*k=2"):
        replayed(tmp_path, [LR, "k=2"], quadratic, trials=2, epochs=2)
    replayed(tmp_path, [LR, "sweep.trials=3", "launcher.n_jobs=2"], quadratic, trials=3, epochs=2)  # more of the same
    (tmp_path / study.JOURNAL).write_text("nonsense\n")
    with pytest.raises(UserError, match=r"study.log is damaged or of another version of Optuna"):
        replayed(tmp_path, [LR], quadratic, trials=2, epochs=2)


class Exploit:
    def __reduce__(self):
        return (os._exit, (7,))


def test_nothing_in_a_folder_is_unpickled(tmp_path):
    """CMA-ES keeps its state as a pickle among the attributes of a trial."""
    import pickle

    settings = {"sampler": "cmaes", "epochs": 2, "pruner": "none"}
    replayed(tmp_path, [LR, "k=int(interval(1,8))"], quadratic, trials=6, **settings)
    journal = tmp_path / study.JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    assert any('"cma:' in line for line in lines)
    poison = pickle.dumps(Exploit()).hex()
    changed = []
    for record in map(json.loads, lines):
        attributes = record.get("system_attr", {})
        for key in [key for key in attributes if "optimizer" in key]:
            attributes[key] = poison
        changed.append(json.dumps(record).replace("cma:", "cma\\u003a") + "\n")
    journal.write_text("".join(changed))
    search, _ = replayed(tmp_path, [LR, "k=int(interval(1,8))"], quadratic, trials=12, **settings)
    assert len(search.study.trials) == 12
    journal.write_text(changed[0] + json.dumps({"op_code": 4, "system_attrs": {"cma:optimizer:0": poison}}) + "\n")
    with pytest.raises(UserError, match=r"study.log is damaged"):
        replayed(tmp_path, [LR, "k=int(interval(1,8))"], quadratic, trials=12, **settings)


def test_what_a_search_found_is_written_down(tmp_path):
    search, replay = replayed(tmp_path, [LR, "k=1,2,9"], quadratic, trials=12, epochs=2)

    plan = Plan("search", [], [replay.planned(words)[0] for words in replay.words.values()])
    result = written(search, plan, "python train.py")
    ((job, best),) = result.best.items()
    words = shlex.split(best)
    assert words[:2] == ["python", "train.py"]
    assert words[2:] == replay.words[job]
    assert max(values[0] for values in result.values.values()) == result.values[job][0]
    assert set(result.importance[0]) == {"optimizer.lr", "k"}
    assert result.importance[0]["optimizer.lr"] > 0.8
    assert {trial.state for trial in result.trials} >= {"finished", "failed"}
    assert result.ranges == {"optimizer.lr": (1e-5, 0.1)}
    assert result.choices == {"k": ["1", "2", "9"]}


def test_a_search_is_one_run_of_wandb_beside_its_jobs(programs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "outputs" / "sweeps" / "mine"
    folder.mkdir(parents=True)
    search, replay = replayed(folder, [LR, "k=1,2"], quadratic, trials=8, epochs=2)
    result = written(
        search, Plan("mine", [], [replay.planned(each)[0] for each in replay.words.values()]), "taut train"
    )
    pictures = save_figures(result, folder / "figures")
    assert [picture.stem for picture in pictures] == ["search_history", "search_importance", "search_slices"]
    track(OmegaConf.load(ROOT / "conf" / "logger" / "wandb.yaml"), result, folder, pictures)
    assert not capsys.readouterr().err
    (record,) = (tmp_path / "outputs" / "wandb").glob("offline-run-*")
    assert len(list((record / "files" / "media" / "images" / "search").glob("*.png"))) == 3
    monkeypatch.setattr("taut.training.loggers.wandb_logger", lambda **_: 1 / 0)
    track(OmegaConf.load(ROOT / "conf" / "logger" / "csv.yaml"), result, folder, pictures)
    assert not capsys.readouterr().err
    track(OmegaConf.load(ROOT / "conf" / "logger" / "wandb.yaml"), result, folder, pictures)
    assert capsys.readouterr().err == "W&B has no record of the search: division by zero\n"
    assert len(list((tmp_path / "outputs" / "wandb").glob("offline-run-*"))) == 1


# the command

SEARCH = ["hydra/sweeper=optuna", "hydra.sweep.dir=sweep"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["seed=0,1"], "seed=0,1: a search over seeds would choose the luckiest"),
        (
            [LR, "sweep.score=test/elbo"],
            "sweep.score must be val/bound, val/elbo or val/log_px, or a list of them (the test",
        ),
        ([LR, "sweep.score=[val/elbo,test/log_px]"], "sweep.score must be"),
        ([LR, "sweep.sampler=tpee"], "sweep.sampler must be tpe, gp, cmaes, random or grid, got 'tpee'."),
        ([LR, "sweep.trials=0"], "sweep.trials must be an integer >= 1, got 0."),
        (
            [LR, "sweep.sampler=grid"],
            "sweep.sampler=grid goes through lists of values, and optimizer.lr is an interval",
        ),
        ([LR, "sweep.score=[val/elbo,val/bound]", "sweep.pruner=median"], "sweep.pruner=median compares by one score"),
        ([LR, "sweep.score=[val/elbo,val/bound]", "sweep.sampler=cmaes"], "sweep.sampler=cmaes maximises one score"),
        ([LR, "k=1,3"], "k=3 would be scored with K = 102 samples and k=1 with 100"),
        ([LR, "data=digits,faithful"], "Trials would differ in the data"),
        ([LR, "modle=vae"], "There is no key modle; did you mean model?"),
        ([LR, "hydra/sweeper=basic"], "A sweep is every combination or a search; choose hydra/sweeper=grid or"),
    ],
)
def test_a_search_that_cannot_be_leaves_nothing(tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    code, _, err = command("train", "-m", *SEARCH, *words)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("package", "words"), [("optuna", []), ("cmaes", ["sweep.sampler=cmaes"])])
def test_without_the_package_it_says_how_to_get_it(tmp_path, monkeypatch, package, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("taut.commands.sweep.driver.find_spec", lambda name: None if name == package else object())
    code, _, err = command("train", "-m", *SEARCH, LR, *words)
    assert code == 2
    assert err == f"A search needs {package}: pip install -c constraints.txt -e '.[optuna]'.\n"
    assert not list(tmp_path.iterdir())


def driver(commands, folder, *words):
    env = {**os.environ, "TAUT_PRETEND": "1"}
    words = ["-m", *SEARCH, "logger=csv", *words]
    return commands.start(STUB, *words, cwd=folder, env=env, stdout=-1, stderr=-1, text=True)


def test_a_search_of_real_processes_is_killed_and_ends(commands, tmp_path):
    """kill -9 of the driver in the middle; the same command ends with as many trials, failures among them."""
    words = ["sweep.trials=5", LR, "latent_dim=range(2,64)", "k_eval=8", "launcher=joblib", "launcher.n_jobs=2"]
    process = driver(commands, tmp_path, *words)
    sweep = tmp_path / "sweep"
    deadline = time.monotonic() + 60
    while len(list(sweep.glob("*/result.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finished = {path: path.read_bytes() for path in sweep.glob("*/result.json")}
    assert len(finished) >= 2
    process = driver(commands, tmp_path, *words)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert all(path.read_bytes() == result for path, result in finished.items())
    result = json.loads((sweep / "search.json").read_text())
    assert [trial["state"] for trial in result["trials"]] == ["finished"] * 5
    assert len({trial["job"] for trial in result["trials"]}) == 5
    (best,) = result["best"].values()
    assert best in out
    assert "threads=1" in best
    # the tool of Optuna reads it
    backend = optuna.storages.journal.JournalFileBackend(str(sweep / study.JOURNAL))
    known = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
    assert [trial.values for trial in known.trials] == [trial["values"] for trial in result["trials"]]
    assert (sweep / "figures" / "search_history.png").exists()


def test_the_trials_of_a_search_are_tasks_of_a_cluster(commands, tmp_path):
    words = [
        "latent_dim=range(2,64)",
        "sweep.trials=3",
        "launcher=slurm",
        "launcher.cluster=local",
        "launcher.n_jobs=2",
    ]
    process = driver(commands, tmp_path, *words)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    result = json.loads((tmp_path / "sweep" / "search.json").read_text())
    assert [trial["state"] for trial in result["trials"]] == ["finished"] * 3


def test_a_search_whose_trials_fail_says_so(commands, tmp_path):
    process = driver(commands, tmp_path, "seed=100", "latent_dim=range(2,64)", "sweep.trials=9")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "The first 5 trials have failed, and the search ends with them. 5 of 5 jobs failed" in err
    assert out.count("ValueError: seed 100 is unlucky") == 10


def test_a_search_prunes_a_real_training(commands, tmp_path):
    """The job stops, with a reason, and its folder is one to look at; the best words train what the search found."""
    words = [*TINY, "network.hidden=[8]", "latent_dim=3", "logger=csv", "trainer.max_epochs=8", "sweep.pruner=asha"]
    axis = ["optimizer.lr=3e-2,1e-2,1e-6,1e-5", "sweep.sampler=grid"]
    done = commands.run(
        ROOT / "train.py", "-m", *SEARCH, *words, *axis, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "sweep" / "search.json").read_text())
    states = [trial["state"] for trial in result["trials"]]
    assert states[:2] == ["finished", "finished"]
    assert "pruned" in states[2:]
    pruned = tmp_path / "sweep" / result["trials"][states.index("pruned")]["job"]
    status = json.loads((pruned / "status.json").read_text())
    assert status["state"] == "pruned"
    assert "nats behind the best trial" in status["reason"]
    assert not (pruned / "result.json").exists()
    assert len((pruned / "metrics.csv").read_text().splitlines()) < 9
