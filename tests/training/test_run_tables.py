"""The rows that charts put together over runs: columns by hand, nothing where nothing is known."""

import math

import pytest

from taut.training.loggers import tables

ABOUT = {"name": "vae k=5 seed=3 digits", "model": "vae", "data": "digits", "prior": "normal", "q": "diagonal"}
RUN = {"k": 5, "seed": 3}
SAME = {"run": ABOUT["name"], "model": "vae", "data": "digits", "prior": "normal", "q": "diagonal", "k": 5, "seed": 3}


def score(value, error=0.5, kind="lower"):
    return {"value": value, "standard_error": error, "monte_carlo_error": 0.25, "kind": kind}


def evaluation(high=None, exact=False):
    gap = {"exact": exact, "lower": "ais", "upper": None if high is None else "bdmc"}
    gap |= {"low": score(2.0), "high": None if high is None else score(high)}
    evidence = {"elbo": score(-10.0), "ais": score(-8.0), "bdmc": score(-7.0)}
    return {**ABOUT, "gap": gap, "evidence": evidence, "apart": {}, "information": None}


def bounds(result):
    return tables.evaluated(result, RUN, [])["bounds"]


def test_an_interval_has_both_ends_with_their_errors():
    (row,) = bounds(evaluation(high=3.0))
    assert row == SAME | {
        "gap_low": 2.0,
        "gap_low_error": 0.5,
        "gap_high": 3.0,
        "gap_high_error": 0.5,
        "log_px_low": -8.0,
        "log_px_low_error": 0.5,
        "log_px_high": -7.0,
        "log_px_high_error": 0.5,
        "elbo": -10.0,
        "elbo_error": 0.5,
    }


def test_nothing_stands_for_an_upper_end_that_is_not_known():
    """A zero, or the lower end again, which would look like a gap that is known."""
    (row,) = bounds(evaluation())
    assert (row["gap_low"], row["gap_high"], row["log_px_high"]) == (2.0, None, None)


def test_an_exact_gap_is_an_interval_without_a_width():
    (row,) = bounds(evaluation(exact=True))
    assert row["gap_low"] == row["gap_high"] == 2.0
    assert row["log_px_low"] == row["log_px_high"] == -8.0


def test_the_scores_of_the_test_stand_beside_their_errors():
    """A column that a chart asks for and that is missing, or holds the other error."""
    scores = {"gap": score(2.0, kind="lower"), "elbo": score(-10.0, 0.25), "log_px": score(-8.0, 0.125)}
    (row,) = tables.tested({**ABOUT, **RUN, "scores": scores})["tables/gap"]
    known = {"gap": 2.0, "gap_error": 0.5, "elbo": -10.0, "elbo_error": 0.25, "log_px": -8.0, "log_px_error": 0.125}
    assert row == SAME | known | {"kind": "lower"}


@pytest.mark.parametrize("void", [math.nan, -math.inf, None])
def test_no_row_is_made_of_a_void_gap(void):
    result = evaluation()
    result["gap"]["low"] = score(void)
    assert "bounds" not in tables.evaluated(result, RUN, [])
    tested = {**ABOUT, **RUN, "scores": {"gap": score(void)}}
    assert tables.tested(tested) == {}


def test_the_parts_of_the_gap_and_of_the_kl_stand_in_rows_of_their_own():
    result = evaluation()
    part = {"amortisation": score(0.75), "approximation": {"low": score(1.25), "high": score(9.0)}}
    result["apart"] = {"test": part, "train": part}
    result["information"] = {"mutual_information": score(3.0), "marginal_kl": score(1.0)}
    by_split = tables.gap_parts(result, RUN)
    assert set(by_split) == {"test", "train"}
    assert {row["part"]: row["value"] for row in by_split["test"]} == {"approximation": 1.25, "amortisation": 0.75}
    rows = tables.evaluated(result, RUN, [0.1, 0.9])
    assert {row["part"]: row["value"] for row in rows["kl_parts"]} == {"I(x; z)": 3.0, "KL(q(z) || p(z))": 1.0}
    assert [row["khat"] for row in rows["khat"]] == [0.1, 0.9]
    assert all(row.items() >= SAME.items() for row in [*rows["khat"], *rows["kl_parts"], *by_split["train"]])


def test_the_curve_ends_where_log_px_was_measured():
    result = {"scores": {"log_px": score(-8.0)}, "curve": {"k": [1, 10, 100], "value": [-10.0, -8.5, -8.0]}}
    assert tables.curve(result) == [
        {"k": 1, "bound": -10.0, "left": 2.0},
        {"k": 10, "bound": -8.5, "left": 0.5},
        {"k": 100, "bound": -8.0, "left": 0.0},
    ]
    assert tables.curve({"scores": {}, "curve": {"k": [1], "value": [-10.0]}}) == []


def test_khat_is_that_of_the_data_for_which_it_is_known(tmp_path):
    (tmp_path / "data.csv").write_text("importance,importance_khat\n-1.0,0.5\n-2.0,\n-3.0,0.8\n")
    assert tables.khat_of(tmp_path) == [0.5, 0.8]
    assert tables.khat_of(tmp_path / "none") == []
