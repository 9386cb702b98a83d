"""Who comes first in a sweep by the information criteria, and who is not ranked."""

import pytest

from taut.report.tables.jobs import firsts


def _result(bic: float, log_px: float, **changes: object) -> dict[str, object]:
    criteria = {"log_likelihood": -1.0, "n": 50, "parameters": 3, "bic": bic, "aic": 7.0, "icl": None}
    return {
        "criteria": criteria,
        "data_digest": "a",
        "cells": "all",
        "held_out": True,
        "limits": [],
        "scores": {"log_px": {"value": log_px}},
        **changes,
    }


def test_the_least_criterion_and_the_highest_held_out_log_px_come_first():
    lines = firsts({"one": _result(20.0, -3.0), "two": _result(10.5, -4.0), "three": _result(12.0, -3.5)})
    assert lines[0] == "First by BIC: two, 1.500 ahead of three"
    assert lines[-1] == "First by log p(x) of the test split: one, 0.500 ahead of three"
    assert not any("ICL" in line for line in lines)


@pytest.mark.parametrize("change", [{"limits": ["the floor binds"]}, {"converged": False}])
def test_a_job_whose_value_depends_on_a_floor_is_not_ranked(change):
    lines = firsts({"one": _result(20.0, -3.0), "spike": _result(-900.0, 90.0, **change)})
    assert lines[0] == "First by BIC: one"
    assert lines[-1].startswith("1 of 2 jobs are not ranked")
    assert not any("spike" in line for line in lines)


@pytest.mark.parametrize("change", [{"data_digest": "b"}, {"cells": "observed"}])
def test_jobs_that_saw_other_rows_are_not_held_against_each_other(change):
    assert firsts({"one": _result(20.0, -3.0), "two": _result(10.0, -3.0, **change)}) == []


def test_training_rows_are_not_held_out():
    lines = firsts({"one": _result(20.0, -3.0, held_out=False)})
    assert not any("test split" in line for line in lines)
    assert firsts({"one": {}}) == []
