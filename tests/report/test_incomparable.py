"""Runs that are ranked apart: the report says why, and what to type."""

import json

import pytest
from made_runs import evaluation, result, table, write_run

from taut.report.rank.candidates import score_sets
from taut.report.rank.incomparable import MOST, incomparable
from taut.report.read.runs import read_run

GAUSSIAN = {"likelihood": "gaussian", "binarisation": "none"}


def _said(folder, made, evaluated=()):
    found = [(evaluation([-24.0] * 3, [0.5] * 3, **one), table([-24.0] * 3, [0.5] * 3)) for one in evaluated]
    folders = [write_run(folder / f"t{i}", one) for i, one in enumerate(made)]
    folders += [write_run(folder / f"e{i}", found=one) for i, one in enumerate(found)]
    return incomparable(score_sets([read_run(one) for one in folders]), lambda run: run.name)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (
            {"likelihood": "poisson"},
            "log p(x) is a density in one and a mass in the other (no common unit); train both with",
        ),
        (
            {"data_digest": "c" * 64},
            "they were scored on different rows or columns of digits; train both with the same data.* words.",
        ),
        ({"binarisation": "fixed", "data_digest": "c" * 64}, "the binarisations are none and fixed; train both with"),
        (
            {"mask": "random 0.5", "cells": "observed"},
            "the masks are none and random 0.5; train both with the same mask.",
        ),
        ({"k_test": 50}, 'K is 500 and 50; evaluate both in one way: python evaluate.py "run=[<a>,<b>]".'),
        (
            {"split": "val", "n": 4},
            'the splits are test and val; evaluate both in one way: python evaluate.py "run=[<a>,',
        ),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_two_runs_that_are_ranked_apart_say_why_and_what_to_type(other, why, tmp_path):
    (said,) = _said(tmp_path, [result(**GAUSSIAN), result(**{**GAUSSIAN, **other})])
    assert said.startswith("t1 is not compared with t0: ")
    assert why in said


def test_runs_that_are_ranked_together_need_no_reason(tmp_path):
    assert _said(tmp_path, [result(**GAUSSIAN), result(**GAUSSIAN | {"likelihood": "laplace"})]) == []


def test_what_another_evaluation_would_not_mend_asks_for_a_training(tmp_path):
    (said,) = _said(tmp_path, [], [{}, {"binarisation": "threshold", "k": 50}])
    assert said == (
        "e1 is not compared with e0: the binarisations are dynamic and threshold and K is 1000 and 50; train both with "
        "the same data.binarisation."
    )


def test_a_set_is_held_against_the_nearest_one(tmp_path):
    said = _said(tmp_path, [result(), result(**GAUSSIAN), result(**GAUSSIAN, k_test=50)])
    assert said[-1].startswith("t2 is not compared with t1: K is 500 and 50; ")


def test_other_data_are_named_once(tmp_path):
    said = _said(tmp_path, [result(), result(data="mnist"), result(data="faithful")])
    assert said == ["Scores of different data are never compared: digits, mnist and faithful."]


def test_one_run_scored_twice_needs_no_reason(tmp_path):
    found = evaluation([-24.0] * 3, [0.5] * 3), table([-24.0] * 3, [0.5] * 3)
    folder = write_run(tmp_path / "r", result(), found=found)
    (folder / "again").mkdir()
    (folder / "again" / "result.json").write_text(json.dumps(found[0] | {"k": 50}))
    assert len(score_sets([read_run(folder)])) == 3
    assert incomparable(score_sets([read_run(folder)]), lambda run: run.name) == []


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (1, "1 more set of scores is ranked apart as well."),
        (2, "2 more sets of scores are ranked apart as well."),
    ],
)
def test_many_sets_do_not_fill_the_screen(more, sentence, tmp_path):
    said = _said(tmp_path, [result(k_test=500 + i) for i in range(MOST + more + 1)])
    assert len(said) == MOST + 1
    assert said[-1] == sentence


def test_runs_that_one_evaluation_compares_need_no_advice(tmp_path):
    """The tests of the two were made with other K, and the section above holds them against one another already."""
    found = evaluation([-24.0] * 3, [0.5] * 3), table([-24.0] * 3, [0.5] * 3)
    runs = [read_run(write_run(tmp_path / f"r{k}", result(k_test=k), found=found)) for k in (50, 500)]
    assert incomparable(score_sets(runs), lambda run: run.name) == []


def test_runs_are_called_as_in_the_set_they_are_in(tmp_path):
    made = [result(k=1), result(k=5), result(k=1, model="iwae", k_test=50), result(k=7, model="iwae", k_test=50)]
    runs = [read_run(write_run(tmp_path / f"r{i}", one)) for i, one in enumerate(made)]
    (said,) = incomparable(score_sets(runs), lambda run: run.name)
    assert said.startswith("r2 and r3 are not compared with r0 and r1: "), "k=1 is in both"
    (said,) = incomparable(score_sets([*runs[:2], runs[3]]), lambda run: run.name)
    assert said.startswith("iwae digits k=7 seed=0 is not compared with k=1 and k=5: ")
