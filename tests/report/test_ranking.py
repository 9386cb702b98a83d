"""Who comes first: only among comparable scores, never without a test that holds for all, never against an open end."""

import json
import math
import re
import shutil
from statistics import NormalDist

import numpy as np
import pytest
from made_runs import evaluation, result, score, table, write_run
from pieces import build, names, with_likelihood

from taut.functional.confidence_sequence import margin
from taut.report.rank.answers import answers, best_validations, meanings
from taut.report.rank.candidates import score_sets, singles
from taut.report.rank.ranking import ELBO, GAP_HIGH, GAP_LOW, LOG_PX, RankKey, _read, compared
from taut.report.rank.sentences import bracket_words
from taut.report.read.runs import names_of, read_run
from taut.report.read.scores import Bracket, Score, key_of
from taut.report.tables.cells import measured_cells
from taut.report.tables.sections import section
from taut.report.tables.terminal import shown


def _runs(folder, results):
    return [read_run(write_run(folder / f"r{i}", made)) for i, made in enumerate(results)]


ENOUGH = 20
"""Times that three values are repeated, for fewer than fifty data are never told apart."""


def _evaluated(folder, tables, width=0.02):
    tables = [[part * ENOUGH if len(part) == 3 else part for part in one] for one in tables]
    return [
        read_run(write_run(folder / f"r{i}", found=(evaluation(*one, width), table(*one, width)), epochs=0))
        for i, one in enumerate(tables)
    ]


def _said(sets, rank_key):
    (scores,) = sets
    (found,) = [one for one in answers(scores, lambda one: one.entries[0].run.name).answers if one.rank_key == rank_key]
    return found


def _ranked(scores, measure, against=None):
    (found,) = compared(singles(scores.entries), [RankKey(measure, against)]).rankings
    assert found is not None
    return found


def _name(one):
    return one.entries[0].run.name


@pytest.mark.parametrize(
    "other",
    [
        {"binarisation": "threshold"},
        {"data": "mnist"},
        {"data_digest": "c" * 64},
        {"mask": "random 0.5"},
        {"cells": "observed"},
        {"likelihood": "gaussian"},
        {"families": {"a": "gaussian", "b": "poisson"}},
        {"split": "train"},
        {"n": 100},
        {"k_test": 5000},
        {"held_out": False},
    ],
    ids=lambda other: next(iter(other)),
)
def test_tests_of_other_things_share_no_ranking(other, tmp_path):
    runs = _runs(tmp_path, [result(), result(-20, **other)])
    assert [len(one.entries) for one in score_sets(runs)] == [1, 1]


@pytest.mark.parametrize(
    "other",
    [
        {"k": 5000},
        {"families": {"a": "gaussian"}},
        {"estimators": {"importance": {"k": 9}}},
        {"binarisation": "threshold"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_evaluations_made_otherwise_share_no_ranking(other, tmp_path):
    made = evaluation([-24.0, -25.0], [0.5, 0.6])
    for i, one in enumerate((made, made | other)):
        write_run(tmp_path / f"r{i}", found=(one, table([-24.0, -25.0], [0.5, 0.6])))
    runs = [read_run(tmp_path / f"r{i}") for i in range(2)]
    assert [len(one.entries) for one in score_sets(runs)] == [1, 1]


@pytest.mark.parametrize(
    "made",
    [
        [{"likelihood": "gaussian"}, {"likelihood": "component", "precision": "64-true", "model": "mog"}],
        [{"likelihood": "gaussian"}, {"likelihood": "mixed", "families": {"a": "gaussian", "b": "laplace"}}],
        [{"likelihood": "poisson"}, {"likelihood": "mixed", "families": {"a": "categorical 3", "b": "poisson"}}],
        [
            {"likelihood": "mixed", "families": {"a": "gaussian", "b": "poisson"}},
            {"likelihood": "mixed", "families": {"a": "student_t", "b": "negative_binomial"}},
        ],
        [{"likelihood": "gaussian"}, {"likelihood": "of_a_package", "measure": "density"}],
    ],
    ids=["mixture", "columns", "counts", "both kinds", "a likelihood from elsewhere"],
)
def test_log_px_in_one_unit_is_ranked_whatever_the_likelihood(made, tmp_path):
    runs = _runs(tmp_path, [result(-24.0, **made[0]), result(-26.0, **made[1])])
    (scores,) = score_sets(runs)
    assert len(scores.entries) == 2
    assert all(one["likelihood"] in scores.heading for one in made)


@pytest.mark.parametrize(
    "made",
    [
        [{"likelihood": "gaussian"}, {"likelihood": "poisson"}],
        [{"likelihood": "gaussian"}, {"likelihood": "self_masking"}],
        [{"likelihood": "of_a_package"}, {"likelihood": "of_another"}],
        [
            {"likelihood": "mixed", "families": {"a": "gaussian", "b": "poisson"}},
            {"likelihood": "mixed", "families": {"a": "poisson", "b": "gaussian"}},
        ],
    ],
    ids=["density and mass", "mass of the mask", "unknown", "other columns"],
)
def test_log_px_in_different_units_is_not(made, tmp_path):
    assert len(score_sets(_runs(tmp_path, [result(**one) for one in made]))) == 2


@pytest.mark.parametrize("name", names("likelihood"))
def test_the_report_knows_the_measure_of_every_likelihood(name):
    x_shape = (4,) if name == "mixed" else (1, 2, 2)
    likelihood = build(*with_likelihood(name), x_shape=x_shape)[0].likelihood
    said = key_of({"likelihood": name, "families": likelihood.families})["measure"]
    if name in ("mixed", "self_masking"):
        assert "mass of" in said
        assert "density of" in said
    else:
        assert said == ("mass" if likelihood.is_mass else "density")


def test_runs_that_differ_in_model_seed_and_k_are_compared(tmp_path):
    runs = _runs(tmp_path, [result(), result(model="iwae", k=50, seed=3, prior="vamp", q="full")])
    assert [len(one.entries) for one in score_sets(runs)] == [2]


@pytest.mark.parametrize(("away", "verdict"), [(-0.002, "tie"), (0.002, "clear")])
def test_a_difference_is_clear_where_all_comparisons_hold_together(away, verdict, tmp_path):
    """Errors of 0.1, that of the difference 0.141; six ordered pairs, two for each of three questions, share 5%."""
    distance = margin(360, 0.05 / 6) * math.sqrt(360) * math.hypot(0.1, 0.1) + away
    made = [result(-24.0), result(-24.0 - distance)]
    for one in made:
        for name in ("log_px", "elbo"):
            one["scores"][name]["standard_error"] = 0.1
    found = _said(score_sets(_runs(tmp_path, made)), "Highest bound on log p(x)")
    assert (found.run, found.verdict) == ("r0", verdict)
    behind = f"{distance:.3f} ± 0.141 (s.e. over the data)"
    assert (
        found.sentences[0]
        == {
            "tie": f"Cannot be told apart from r1: the lower bound of r1 is {behind} behind; about 3 more "
            "held-out rows would tell them apart, if the difference stays what it is here.",
            "clear": f"Its bound beats the bound of r1 by at least 0.001 nats (95%, asymptotic): {behind}.",
        }[verdict]
    )


def test_the_first_of_many_equal_runs_is_ahead_of_none(tmp_path):
    """2.5 standard errors between the best and the worst of ten: clear for one pair named in advance, not for these."""
    made = [result(-24.0 - 0.39 * i / 9 * 0.9, seed=0, k=i + 1) for i in range(10)]
    for one in made:
        one["scores"]["log_px"]["standard_error"] = 0.1
    found = _said(score_sets(_runs(tmp_path, made)), "Highest bound on log p(x)")
    assert (found.verdict, len(found.tied)) == ("tie", 9)


def test_an_unknown_error_decides_nothing(tmp_path):
    made = [result(-24.0), result(-50.0)]
    made[1]["scores"]["log_px"]["standard_error"] = None
    found = _said(score_sets(_runs(tmp_path, made)), "Highest bound on log p(x)")
    assert (found.verdict, found.sentences[0]) == (
        "tie",
        "Cannot be told apart from r1: the lower bound of r1 is 26.000 (error unknown) behind.",
    )


def test_tables_of_every_datum_pair_the_difference(tmp_path):
    """The data differ by nats, the runs by 0.1 on every datum: unpaired a tie, paired none."""
    rng = np.random.default_rng(0)
    values = rng.normal(-24, 3, 50)
    apart = rng.normal(0.1, 0.05, 50)
    runs = _evaluated(tmp_path, [(list(values), [0.5] * 50), (list(values - apart), [0.5] * 50)])
    (scores,) = score_sets(runs)
    (rival,) = _ranked(scores, LOG_PX).rivals
    assert rival.paired
    assert not rival.tied
    assert rival.behind == pytest.approx(apart.mean(), abs=1e-9)
    assert rival.error == pytest.approx(apart.std(ddof=1) / math.sqrt(50), rel=1e-9)
    for run in runs:
        (run.folder / "evaluation" / "data.csv").unlink()
    _read.cache_clear()
    assert _ranked(score_sets([read_run(run.folder) for run in runs])[0], LOG_PX).rivals[0].tied


def test_a_table_cut_short_pairs_nothing(tmp_path):
    values = [-24.0, -25.0, -26.0]
    runs = _evaluated(tmp_path, [(values, [0.5] * 3), (values, [0.6] * 3)])
    path = runs[1].folder / "evaluation" / "data.csv"
    path.write_text(path.read_text()[:-3])
    assert not _ranked(score_sets(runs)[0], ELBO).rivals[0].paired


def test_the_tightest_is_the_lowest_ceiling_and_overlaps_are_ties(tmp_path):
    """[0.50, 0.70] is first; [0.65, 0.85] may be as tight, [0.90, 1.10] is not, whatever their lower ends."""
    gaps = [[0.65, 0.66, 0.64], [0.5, 0.51, 0.49], [0.9, 0.91, 0.89]]
    runs = _evaluated(tmp_path, [([-24.0] * 3, one) for one in gaps], width=0.2)
    (scores,) = score_sets(runs)
    found = _ranked(scores, GAP_HIGH, GAP_LOW)
    assert _name(found.first) == "r1"
    assert [(_name(one.candidate), one.tied) for one in found.rivals] == [("r0", True), ("r2", False)]
    assert found.rivals[1].behind == pytest.approx(0.9 - 0.7)


def test_a_lower_end_alone_never_wins_but_can_lose(tmp_path):
    gaps = [[0.1, 0.11, 0.09], [0.5, 0.51, 0.49], [0.9, 0.91, 0.89]]
    for i, one in enumerate(gaps):
        one = one * ENOUGH
        made = evaluation([-24.0] * len(one), one)
        if i != 1:
            made["gap"] = made["gap"] | {"high": None, "upper": None}
        write_run(tmp_path / f"r{i}", found=(made, table([-24.0] * len(one), one)))
    (scores,) = score_sets([read_run(tmp_path / f"r{i}") for i in range(3)])
    found = _ranked(scores, GAP_HIGH, GAP_LOW)
    assert _name(found.first) == "r1"
    assert [(_name(one.candidate), one.tied) for one in found.rivals] == [("r0", True), ("r2", False)]


def test_a_gap_known_from_below_can_lose_and_not_win(tmp_path):
    """Held against the upper ends of the others, a gap without one would drop out of the answer."""
    for i, one in enumerate(([0.5, 0.51, 0.49], [0.9, 0.91, 0.89])):
        one = one * ENOUGH
        made = evaluation([-24.0] * len(one), one)
        made["gap"] = made["gap"] | ({} if i == 0 else {"high": None, "upper": None})
        write_run(tmp_path / f"r{i}", found=(made, table([-24.0] * len(one), one)))
    found = _said(score_sets([read_run(tmp_path / f"r{i}") for i in range(2)]), "Tightest bound")
    assert found.sentences[0].startswith(
        "Its gap is smaller than that of r1 by at least 0.379 nats (95%, asymptotic): "
    )


def test_without_any_upper_end_the_answer_is_open(tmp_path):
    found = _said(score_sets(_runs(tmp_path, [result(gap=0.3), result(gap=0.9)])), "Least known gap")
    assert (found.run, found.verdict, found.value) == ("r0", "open", "≥ 0.300")
    assert found.sentences[-1] == (
        "No gap has an upper bound yet, so any of them may be larger; python evaluate.py run=<run> gives one."
    )


def test_the_command_that_bounds_the_gap_of_one_run_names_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = _said(score_sets(_runs(tmp_path, [result(gap=0.3)])), "Least known gap")
    assert found.sentences[-1].endswith("; python evaluate.py run=r0 gives one.")


def test_exact_gaps_of_zero_are_ties_in_spite_of_rounding(tmp_path):
    made = [result(-4.1, 0.0), result(-4.2, 1e-13)]
    for one in made:
        for name in ("log_px", "gap"):
            one["scores"][name] |= {"kind": "exact"}
        one["scores"]["gap"]["standard_error"] = 1e-15
    found = _said(score_sets(_runs(tmp_path, made)), "Tightest bound")
    assert (found.verdict, found.value) == ("tie", "= 0.000")


def test_upper_bounds_say_what_is_certain_of_log_px(tmp_path):
    runs = _evaluated(tmp_path, [([-24.0, -24.1, -23.9], [0.5] * 3), ([-25.0, -25.1, -24.9], [0.5] * 3)])
    found = _said(score_sets(runs), "Highest bound on log p(x)")
    apart = "at least 1.000 nats (95%, asymptotic): 1.000 ± 0.000 (paired s.e. over the data)"
    assert found.sentences[0] == f"Its bound beats the bound of r1 by {apart}."
    certain = "at least 0.980 nats (95%, asymptotic): it lies above the upper bound there"
    assert found.sentences[1:] == [f"It beats r1 by {certain}."], "1 nat less the width of the bracket"


def test_an_upper_bound_above_leaves_log_px_open(tmp_path):
    """The lower bounds are a nat apart, datum by datum, and the brackets two nats wide."""
    tables = [([-24.0, -24.1, -23.9], [0.5] * 3), ([-25.0, -25.1, -24.9], [0.5] * 3)]
    found = _said(score_sets(_evaluated(tmp_path, tables, width=2.0)), "Highest bound on log p(x)")
    assert found.verdict == "clear"
    assert found.sentences[1:] == [
        "The log p(x) of r1 may still be higher: the upper bound there is not clearly below it."
    ]


@pytest.mark.parametrize(
    ("first", "rival", "said"),
    [
        ("exact", "lower", True),
        ("lower", "exact", False),
        ("lower", "lower", True),
        ("exact", "bracket", False),
        ("lower", "bracket", False),
    ],
)
@pytest.mark.parametrize("behind", [0.0, 3.0])
def test_a_rival_without_an_upper_end_is_what_leaves_the_order_open(first, rival, said, behind, tmp_path):
    """Whatever is known of the first: a rival that is exact or bounded from above cannot be higher unseen."""
    noise = [0.0, 1.0, -1.0] * ENOUGH
    for i, known in enumerate((first, rival)):
        values = [-20.0 - i * behind - i * one for one in noise]
        made = evaluation(values, [0.5] * len(values))
        if known != "bracket":
            made["gap"] |= {"high": None, "upper": None, "exact": known == "exact"}
            made["evidence"].pop("struski")
        write_run(tmp_path / f"r{i}", found=(made, table(values, [0.5] * len(values))), epochs=0)
    found = _said(score_sets([read_run(tmp_path / f"r{i}") for i in range(2)]), "Highest bound on log p(x)")
    assert found.run == "r0"
    assert any("Bounds from below order nothing" in sentence for sentence in found.sentences) == said


def test_how_far_behind_each_is_that_cannot_be_told_apart_is_said(tmp_path):
    made = [result(-24.0), result(-24.1), result(-24.2)]
    made[1]["scores"]["log_px"]["kind"] = "exact"
    found = _said(score_sets(_runs(tmp_path, made)), "Highest bound on log p(x)")
    assert found.sentences[0].startswith(
        "Cannot be told apart from r1 and r2: r1 is 0.100 ± 0.283 (s.e. over the data) behind and the lower bound of "
        "r2 is 0.200 ± 0.283 (s.e. over the data) behind; about "
    )
    assert found.sentences[0].endswith(" would tell r1 apart, if the difference stays what it is here.")


def _four_nats():
    """Two errors of 0.2 over 360 data that are not paired, six ordered pairs."""
    reach = margin(360, 0.05 / 6) * math.sqrt(360) * math.hypot(0.2, 0.2)
    least = math.floor(1000 * (4 - reach)) / 1000
    return f"at least {least:.3f} nats (95%, asymptotic): 4.000 ± 0.283 (s.e. over the data)"


def test_bounds_from_below_order_nothing_but_themselves(tmp_path):
    found = _said(score_sets(_runs(tmp_path, [result(-20.0), result(-24.0)])), "Highest bound on log p(x)")
    assert found.sentences[0] == f"Its bound beats the bound of r1 by {_four_nats()}."
    assert "may still be higher" in found.sentences[-1]


def test_exact_values_are_ordered_themselves(tmp_path):
    made = [result(-20.0), result(-24.0)]
    for one in made:
        one["scores"]["log_px"]["kind"] = "exact"
    found = _said(score_sets(_runs(tmp_path, made)), "Highest log p(x)")
    assert found.sentences == [f"It beats r1 by {_four_nats()}."]


def test_the_level_and_what_the_error_is_of_are_said(tmp_path):
    (scores,) = score_sets(_runs(tmp_path, [result(), result(-25)]))
    found = answers(scores, _name)
    assert found.procedure == [
        "95% for all comparisons of this set together: confidence sequences of 6 ordered pairs, not paired and so wide."
    ]
    (meaning,) = meanings([found, found])
    assert "holds for new rows of the same kind, and not for models trained again with another seed" in meaning
    assert "hold at any number of rows from 50 on" in meaning


def test_a_run_is_not_compared_with_itself(tmp_path):
    """Two evaluations of one run, say with two seeds, are two rows with two names, and one model."""
    values, gaps = [-24.0, -25.0, -23.0] * ENOUGH, [0.5] * 3 * ENOUGH
    runs = []
    for i in range(2):
        folder = write_run(
            tmp_path / f"r{i}", result(seed=0, k=i + 1), found=(evaluation(values, gaps), table(values, gaps))
        )
        if i == 0:
            shutil.copytree(folder / "evaluation", folder / "evaluation_again")
        runs.append(read_run(folder))
    (scores,) = [one for one in score_sets(runs) if one.source == "evaluation"]
    made = section(scores, {id(run): i for i, run in enumerate(runs)}, names_of(runs))
    assert list(made.names.labels) == ["k=1, evaluation", "k=1, evaluation_again", "k=2"]
    (elbo,) = [one for one in made.found.answers if one.column == "ELBO"]
    assert elbo.sentences[0].startswith("Cannot be told apart from k=2: ")
    assert "of 16 ordered pairs" in made.found.procedure[0], "four pairs of entries in each of four questions"


def test_the_reason_for_a_question_mark_stands_once_below_the_table(tmp_path):
    made = [result(-24.0), result(-25.0), result(-26.0)]
    for one in made[:2]:
        one["scores"]["log_px"]["doubts"] = ["k-hat above 0.7"]
    runs = _runs(tmp_path, made)
    names = names_of(runs)
    sections = [section(one, {id(run): i for i, run in enumerate(runs)}, names) for one in score_sets(runs)]
    said = [str(part) for part in shown(runs, sections, [], 100)]
    assert [one for one in said if one.startswith("?")] == ["? k-hat above 0.7"]


def test_a_tolerance_that_was_not_reached_is_doubted_and_both_ends_have_their_errors(tmp_path):
    values, gaps = [16.5, 16.9, 16.7] * ENOUGH, [0.5] * 3 * ENOUGH
    made = evaluation(values, gaps, 0.4)
    known = made["evidence"]
    known["tolerance_lower"] = known.pop("importance") | {"standard_error": 1.683, "monte_carlo_error": 0.092}
    known["tolerance_upper"] = known.pop("struski") | {"standard_error": 0.813, "monte_carlo_error": 0.2}
    made["gap"] |= {"lower": "tolerance_lower", "upper": "tolerance_upper"}
    made["tolerance"] = {"reached": False, "low": 16.5094, "high": 18.7168}
    run = read_run(write_run(tmp_path / "r", found=(made, table(values, gaps, 0.4)), epochs=0))
    (scores,) = score_sets([run])
    found = _said([scores], "Highest bound on log p(x)")
    assert found.value == "[16.700, 17.100] ?"
    assert found.error == (
        "lower end ± 1.683 over the data, ± 0.092 Monte Carlo; upper end ± 0.813 over the data, ± 0.200 Monte Carlo"
    )
    said = [str(part) for part in shown([run], [section(scores, {id(run): 0}, names_of([run]))], [], 100)]
    reason = "? tolerance: not reached, the mean log p(x) lies in [16.509, 18.717]"
    assert [one for one in said if one.startswith("?")] == [reason]
    made["tolerance"]["reached"] = True
    (run.folder / "evaluation" / "result.json").write_text(json.dumps(made))
    found = _said(score_sets([read_run(run.folder)]), "Highest bound on log p(x)")
    assert found.value == "[16.700, 17.100]"


def test_what_differences_mean_is_said_once_for_all_sets(tmp_path):
    made = [result(), result(-25), result(binarisation="fixed"), result(-25, binarisation="fixed")]
    runs = _runs(tmp_path, made)
    names = names_of(runs)
    sections = [section(one, {id(run): i for i, run in enumerate(runs)}, names) for one in score_sets(runs)]
    assert len(sections) == 2
    said = "\n".join(str(part) for part in shown(runs, sections, [], 100))
    assert said.count("Compared over the data") == 1
    assert said.count("confidence sequences of 6 ordered pairs") == 2


@pytest.mark.parametrize(
    ("other_data", "heading", "sentence"),
    [
        (
            True,
            "test split of other data than those of the runs",
            "These are not the data of the runs; whether rows of them were fitted is not known.",
        ),
        (
            False,
            "test split (training rows)",
            "The rows scored are those that were fitted, which favours the larger model.",
        ),
    ],
    ids=["other data", "training rows"],
)
def test_only_rows_of_the_run_are_called_training_rows(other_data, heading, sentence, tmp_path):
    """Of a fresh file nobody knows whether its rows were fitted: it is neither held out nor fitted."""
    for i, value in enumerate((-24.0, -25.0)):
        made = evaluation([value] * 60, [0.5] * 60, held_out=False, other_data=other_data)
        write_run(tmp_path / f"r{i}", found=(made, table([value] * 60, [0.5] * 60)), epochs=0)
    (scores,) = score_sets([read_run(tmp_path / f"r{i}") for i in range(2)])
    assert scores.details.startswith(f"{heading}, 60 data")
    assert scores.split == ("test" if other_data else "training rows")
    assert [one for one in answers(scores, _name).procedure if "rows" in one] == [sentence]


def test_what_more_data_would_tell_apart_is_said(tmp_path):
    """The standard deviation of a difference is 0.2 * sqrt(2 * 360): at the named number its limit passes 0."""
    found = _said(score_sets(_runs(tmp_path, [result(-24.0), result(-24.5)])), "Highest bound on log p(x)")
    more = int(re.search(r"about ([\d,]+) more held-out rows would", found.sentences[0])[1].replace(",", ""))
    std = math.hypot(0.2, 0.2) * math.sqrt(360)
    assert std * margin(360 + more, 0.05 / 6) < 0.5
    assert std * margin(360 + more // 2, 0.05 / 6) > 0.5, "not many more than that"


def test_of_these_very_data_the_noise_alone_decides(tmp_path):
    """Half a nat is little beside 0.28 over the data, and much beside the noise of the two, 0.02 at most together."""
    found = _said(score_sets(_runs(tmp_path, [result(-24.0), result(-24.5)])), "Highest bound on log p(x)")
    least = math.floor(1000 * (0.5 - NormalDist().inv_cdf(1 - 0.05 / 6) * 0.02)) / 1000
    assert found.sentences[1] == (
        f"Among these 360 rows themselves the lower bound of r0 is higher than that of r1 by at least {least:.3f} nats "
        "(95%, Monte Carlo noise alone); for new rows of the same kind that is not settled."
    )


def test_bounds_of_different_k_have_winners_of_their_own(tmp_path):
    made = [result(k=1, validation={"bound": -25.0}), result(k=50, validation={"bound": -24.0})]
    made += [result(k=50, validation={"bound": -24.5})]
    for i, one in enumerate(made):
        write_run(tmp_path / f"r{i}", one)
    (scores,) = score_sets([read_run(tmp_path / f"r{i}") for i in range(3)])
    best = best_validations(scores, lambda entry: entry.run.name)
    assert best == [("k = 1", "r0", "-25.000"), ("k = 50", "r1", "-24.000")]


def test_one_run_is_compared_with_nothing(tmp_path):
    """Said once, not of each of its scores."""
    (scores,) = score_sets(_runs(tmp_path, [result()]))
    found = answers(scores, lambda one: one.entries[0].run.name)
    assert found.alone == f"{scores.entries[0].run.name}: the only run that was scored in this way"
    assert {one.verdict for one in found.answers} == {"alone"}
    assert [sentence for one in found.answers for sentence in one.sentences if "only" in sentence] == []
    assert answers(score_sets(_runs(tmp_path / "two", [result(), result(seed=1)]))[0], str).alone == ""


@pytest.mark.parametrize(
    ("bracket", "words"),
    [
        (Bracket(Score(0.25, kind="exact"), exact=True), "= 0.250"),
        (Bracket(Score(0.25)), "≥ 0.250"),
        (Bracket(Score(0.25), Score(0.5)), "[0.250, 0.500]"),
        (Bracket(Score(0.26), Score(0.25)), "about 0.255"),
        (Bracket(Score(0.25, reliability_warnings=("k-hat > 0.7",)), Score(0.5)), "[0.250, 0.500] ?"),
        (None, ""),
    ],
)
def test_a_gap_is_a_point_an_interval_or_at_least(bracket, words):
    assert bracket_words(bracket) == words


def test_an_estimate_is_no_bound():
    assert Bracket.at_least(Score.of(score(1.0, kind="estimate"))) is None
    assert Bracket.at_least(Score.of(score(1.0, kind="upper"))) is None


def test_the_layers_of_z_are_told_where_one_points_at_their_sum(tmp_path):
    made = result()
    made["scores"] |= {"kl_1": score(1.5), "kl_2": score(0.75), "active_units_1": {"value": 7.0}}
    (scores,) = score_sets(_runs(tmp_path, [made]))
    (candidate,) = singles(scores.entries)
    titles = [cell.title for cell in measured_cells(candidate, "test", {}, [])]
    assert [title for title in titles if title.startswith("layer")] == ["layer 1: 1.50; layer 2: 0.75", "layer 1: 7"]
