"""Who comes first in a sweep by the information criteria, and who is not ranked."""

import json
from dataclasses import dataclass

import pytest

from taut.report.tables.jobs import firsts, jobs_table, write_jobs
from taut.report.tables.table import broken


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


@dataclass
class _Job:
    folder: str
    words: tuple[str, ...] = ()


@dataclass
class _Status:
    score: float
    state: str = "finished"
    reason: str | None = None
    exit_code: int = 0
    seconds: float = 1.0
    log: str = "log"


def test_a_density_and_a_mass_of_the_same_pixels_share_no_column(tmp_path):
    told = {"levels": ("mass", -90.5, 2.04), "spread": ("density", 51.5, 2.93), "grey": ("density", 80.25, None)}
    for name, (measure, log_px, bits) in told.items():
        scores = {"log_px": {"value": log_px, "kind": "lower"}}
        scores |= {} if bits is None else {"bits": {"value": bits, "kind": "upper"}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps({"format": 2, "measure": measure, "scores": scores}))
    jobs, states = [_Job(name) for name in told], {name: _Status(1.5) for name in told}
    table = jobs_table(tmp_path, jobs, states)
    columns = {str(column.header).replace("\n", " "): [str(cell) for cell in column.cells] for column in table.columns}
    assert columns["test: log p(x) mass"] == [">= -90.500", "", ""]
    assert columns["test: log p(x) density"] == ["", ">= 51.500", ">= 80.250"]
    assert columns["validation: bound mass"] == ["1.500", "", ""]
    assert columns["test: bits/dim"] == ["<= 2.040", "<= 2.930", ""]
    write_jobs(tmp_path, jobs, states)
    assert [line.split(",")[4:9] for line in (tmp_path / "jobs.csv").read_text().splitlines()][:2] == [
        ["elbo", "log_px", "gap", "bits", "measure"],
        ["", "-90.5", "", "2.04", "mass"],
    ]


def test_a_doubted_score_has_a_mark_and_its_reason_stands_once_below(tmp_path):
    for name in ("a", "b"):
        scores = {"log_px": {"value": -1.5, "kind": "lower", "doubts": ["k-hat above 0.7"]}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps({"format": 2, "scores": scores}))
    table = jobs_table(tmp_path, [_Job("a"), _Job("b")], {name: _Status(1.5) for name in "ab"})
    (log_px,) = [column for column in table.columns if "log p(x)" in str(column.header)]
    assert list(log_px.cells) == [">= -1.500 ?", ">= -1.500 ?"]
    assert str(table.caption).splitlines() == ["? k-hat above 0.7"]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("000_k1-seed0", ["000_k1-seed0"]),
        (
            "000_network.hidden200-200-optimizer.lr0.001-seed12",
            ["000_network.hidden200-200-", "optimizer.lr0.001-seed12"],
        ),
        ("model=mog,model.components=2,seed=1", ["model=mog,", "model.components=2,seed=1"]),
        ("mog components=3 covariance=tied", ["mog components=3", "covariance=tied"]),
        ("x" * 40, ["x" * 40]),
        ("", [""]),
    ],
)
def test_long_names_break_where_words_end(name, lines):
    assert broken(name).split("\n") == lines
