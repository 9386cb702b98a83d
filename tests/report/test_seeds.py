"""Runs that differ in the seed alone are trainings of one setting: means, spreads, and comparisons over seeds."""

import statistics

import pytest
from made_runs import config, evaluation, result, status, table, write_run, write_sweep
from scipy.stats import ttest_ind

from taut.commands.report import main
from taut.report.rank.answers import answers, meanings
from taut.report.rank.candidates import labels_of, score_sets, settings_of
from taut.report.read.runs import names_of, read_run
from taut.report.tables.sections import section

FIRST, SECOND = [-24.0, -24.1, -24.2, -23.9, -24.05], [-26.0, -26.2, -26.1, -25.9, -26.3]


def _runs(folder, values, **changes):
    """A run for each ``(log_px, k, seed)``."""
    runs = []
    for i, (log_px, k, seed) in enumerate(values):
        made, cfg = result(log_px, k=k, seed=seed, **changes), config(k, seed)
        runs.append(read_run(write_run(folder / f"r{i}", made, cfg=cfg, words=[f"k={k}", f"seed={seed}"])))
    return runs


def _two(folder):
    pairs = [(value, 1, seed) for seed, value in enumerate(FIRST)] + [
        (value, 50, seed) for seed, value in enumerate(SECOND)
    ]
    return _runs(folder, pairs)


def _section(runs):
    (scores,) = score_sets(runs)
    return section(scores, {id(run): place for place, run in enumerate(runs)}, names_of(runs))


def _answer(found, rank_key):
    (one,) = [one for one in found.answers if one.rank_key == rank_key]
    return one


def test_runs_that_differ_in_the_seed_alone_are_one_setting(tmp_path):
    (scores,) = score_sets(_two(tmp_path))
    settings = settings_of(scores.entries)
    assert [one.seeds for one in settings] == [5, 5]
    assert labels_of(settings) == ["k=1", "k=50"]


@pytest.mark.parametrize(
    "other",
    [{"latent_dim": 20}, {"trainer": {"max_epochs": 7}}, {"data": config()["data"] | {"seed": 1}}],
    ids=["latent_dim", "epochs", "seed of the data"],
)
def test_what_no_word_says_and_the_config_does_is_another_setting(other, tmp_path):
    """An experiment may set anything; only the seeds of training are the same setting again."""
    for i, changes in enumerate(({}, other)):
        write_run(tmp_path / f"r{i}", result(seed=i), cfg=config(seed=i) | changes, words=[f"seed={i}"])
    (scores,) = score_sets([read_run(tmp_path / f"r{i}") for i in range(2)])
    settings = settings_of(scores.entries)
    assert [one.seeds for one in settings] == ([2] if "data" in other else [1, 1])


def test_the_same_seed_twice_is_no_second_seed(tmp_path):
    (scores,) = score_sets(_runs(tmp_path, [(-24.0, 1, 0), (-24.5, 1, 0), (-25.0, 1, 1)]))
    (setting,) = settings_of(scores.entries)
    assert setting.seeds == 2
    assert setting.values(lambda one: one.log_px and one.log_px.low) == [-24.25, -25.0]


def test_the_table_says_mean_deviation_and_number_of_seeds(tmp_path):
    found = _section(_two(tmp_path))
    heads = [column.label for column in found.group_columns]
    first, second = found.groups
    cells = dict(zip(heads, first.cells, strict=True))
    mean, std = statistics.mean(FIRST), statistics.stdev(FIRST)
    assert (cells["setting"].text, cells["seeds"].text) == ("k=1", "5")
    assert (cells["test: log p(x)"].text, cells["test: log p(x)"].note) == (f"≥ {mean:.3f}", f"sd {std:.3f}")
    assert cells["test: ELBO"].text == f"{statistics.mean(value - 0.5 for value in FIRST):.3f}"
    assert cells["validation: bound at k"].note == f"sd {std:.3f} k=1"
    assert first.runs == [0, 1, 2, 3, 4]
    assert second.runs == [5, 6, 7, 8, 9]
    assert cells["test: log p(x)"].mark == "first"
    assert all(cell.mark == "" for row in found.rows for cell in row.cells), "settings were compared, not runs"


def test_settings_are_compared_over_their_seeds_and_not_over_the_data(tmp_path):
    """Errors over the data are 0.2, which five runs each have in common; over the seeds the difference is clear."""
    (scores,) = score_sets(_two(tmp_path))
    found = answers(scores, lambda one: f"k={one.entries[0].run.k}")
    log_px = _answer(found, "Highest bound on log p(x)")
    welch = ttest_ind(FIRST, SECOND, equal_var=False)
    apart = statistics.mean(FIRST) - statistics.mean(SECOND)
    assert found.over == "seeds"
    assert log_px.sentences[0] == (
        f"Its bound beats the bound of k=50 by {apart:.3f} ± {apart / welch.statistic:.3f} (s.e. over seeds)."
    )
    assert log_px.error == f"mean of 5 seeds, standard deviation {statistics.stdev(FIRST):.3f}"
    assert meanings([found])[0].startswith("Compared over seeds")
    assert "Welch's t tests of 6 ordered pairs" in found.procedure[0]


def test_settings_that_vary_as_much_as_they_differ_are_a_tie(tmp_path):
    """Each run's error over the data would call the difference of 1 nat clear; its trainings differ by 2."""
    values = [(-24.0 - 2 * seed - shift, k, seed) for k, shift in ((1, 0), (50, 1)) for seed in range(3)]
    runs = _runs(tmp_path, values)
    (scores,) = score_sets(runs)
    found = _answer(answers(scores, lambda one: f"k={one.entries[0].run.k}"), "Highest bound on log p(x)")
    assert found.verdict == "tie"


def test_one_seed_beside_several_is_said_and_not_compared(tmp_path):
    values = [(-24.0, 1, 0), (-24.1, 1, 1), (-26.0, 5, 0), (-26.1, 5, 1), (-20.0, 50, 0)]
    (scores,) = score_sets(_runs(tmp_path, values))
    found = answers(scores, lambda one: f"k={one.entries[0].run.k}")
    assert _answer(found, "Highest bound on log p(x)").run == "k=1"
    assert found.procedure[-1] == "One seed alone, and so not compared: k=50."
    assert any("five or more" in sentence for sentence in found.procedure)


def test_seeds_of_one_setting_alone_are_compared_over_the_data(tmp_path):
    """There is no second setting to compare it with: the trained models are, and the mean stands in the table."""
    runs = _runs(tmp_path, [(-24.0, 1, 0), (-24.1, 1, 1), (-26.0, 50, 0)])
    found = _section(runs)
    assert found.found.over == "data"
    assert "not for models trained again with another seed" in meanings([found.found])[0]
    assert [row.cells[1].text for row in found.groups] == ["2", "1"]
    assert all(cell.mark == "" for row in found.groups for cell in row.cells)


def test_settings_of_one_seed_each_have_no_table_of_means(tmp_path):
    assert _section(_runs(tmp_path, [(-24.0, 1, 0), (-26.0, 50, 0)])).groups == []


def test_a_seed_without_a_score_takes_its_setting_out(tmp_path):
    """A mean of the seeds that did well would flatter."""
    runs = _two(tmp_path)
    made = result(-20.0, k=1, seed=0)
    made["scores"]["log_px"] |= {"value": None, "void": "log p(x) of a mass is above 0"}
    runs[0] = read_run(write_run(tmp_path / "void", made, cfg=config(1, 0), words=["k=1", "seed=0"]))
    found = _section(runs)
    assert _answer(found.found, "Highest bound on log p(x)").run == "k=50"
    assert "Without a place where a score of one of their seeds is void: k=1." in found.found.procedure
    row = next(row for row in found.groups if row.cells[0].text == "k=1")
    cells = dict(zip([column.label for column in found.group_columns], row.cells, strict=True))
    assert (cells["test: log p(x)"].text, cells["test: gap"].text) == ("void", "void")
    assert cells["test: ELBO"].text == f"{statistics.mean([-20.0, *FIRST[1:]]) - 0.5:.3f}"


def test_brackets_of_evaluations_are_means_of_both_ends(tmp_path):
    for i, value in enumerate((-24.0, -24.5, -30.0, -30.5)):
        values, gaps = [value, value - 1], [0.5, 0.6]
        words, cfg = [f"k={1 + i // 2}", f"seed={i % 2}"], config(1 + i // 2, i % 2)
        write_run(tmp_path / f"r{i}", found=(evaluation(values, gaps), table(values, gaps)), words=words, cfg=cfg)
    found = _section([read_run(tmp_path / f"r{i}") for i in range(4)])
    cells = dict(zip([column.label for column in found.group_columns], found.groups[0].cells, strict=True))
    assert (cells["test: log p(x)"].text, cells["test: log p(x)"].note) == ("[-24.750, -24.730]", "sd 0.354")
    assert cells["test: gap"].text == "[0.550, 0.570]"


def test_settings_keep_their_names_on_a_narrow_terminal(tmp_path, capsys, monkeypatch):
    """Values with their spreads beside them, which leave the names no room; below them they do."""
    monkeypatch.setenv("COLUMNS", "80")
    jobs = {}
    for i, (k, seed) in enumerate([(1, 0), (1, 1), (5000, 0), (5000, 1)]):
        values, gaps = [-124.5 - i, -125.0], [10.5 + i, 20.5]
        job = {"made": result(k=k, seed=seed), "cfg": config(k, seed), "words": [f"k={k}", f"seed={seed}"]}
        jobs[f"{i:03d}"] = job | {"status": status(), "found": (evaluation(values, gaps), table(values, gaps))}
    assert main([str(write_sweep(tmp_path / "s", jobs))]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = max(place for place, line in enumerate(lines) if line.startswith("setting"))
    row, spreads = lines[head + 2 : head + 4]
    assert row.startswith("k=1 ")
    assert spreads.split() == ["sd", "0.707", "sd", "0.354", "sd", "0.354"]
    assert lines[head + 4].startswith("k=5000 ")
    assert all(len(line.rstrip()) <= 80 for line in lines if "/" not in line)
