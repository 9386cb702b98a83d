"""What is printed, compared and held in memory: no more than was measured, and nothing beside what it cannot meet."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from taut.api.evaluation import Evaluation, noise_of
from taut.evidence import AIS, Importance
from taut.evidence.loop import EvalTask, batches_of, decompose_gap, measure
from taut.evidence.optimal_q import Search
from taut.evidence.rows import MOST_WEIGHTS
from taut.functional import seeding
from taut.functional.sampling import NoiseKeys
from taut.report.tables.evaluation import _bits, _certificate, _table, ceiled, comparable, floored, rows_words
from taut.runtime.processes import Processes
from taut.runtime.progress import Stages
from taut.testing import linear_gaussian

RESULT = {
    "data": "digits",
    "binarisation": "threshold",
    "mask": "none",
    "likelihood": "bernoulli",
    "split": "test",
    "n": 360,
    "data_digest": "d",
    "precision": "float32",
    "k": 1000,
    "estimators": {"importance": {"k": 1000}, "ais": {"steps": 200, "chains": 16}},
}


@pytest.mark.parametrize(
    "other",
    [
        {"likelihood": "gaussian"},
        {"families": {"height": "gaussian"}},
        {"mask": "random 0.5"},
        {"estimators": {"importance": {"k": 100_000}, "ais": {"steps": 200, "chains": 16}}},
        {"estimators": {"importance": {"k": 1000}, "ais": {"steps": 5, "chains": 16}}},
    ],
    ids=["likelihood", "families", "mask", "K of one estimator", "steps"],
)
def test_runs_scored_differently_share_no_column(other):
    assert len(comparable([RESULT, dict(RESULT), RESULT | other])) == 2


@pytest.mark.parametrize(
    ("value", "words"),
    [(-23.6066, "-23.607"), (-23.6074, "-23.608"), (1.9999, "1.999"), (0.0, "0.000"), (-1.23461e8, "-1.235e+08")],
)
def test_a_certificate_is_never_printed_above_itself(value, words):
    assert floored(value) == words
    assert float(floored(value)) <= value <= float(ceiled(value))


def test_no_mass_has_a_certificate_of_minus_infinity():
    assert float(floored(-torch.inf)) == float(ceiled(-torch.inf)) == -torch.inf


def testbatches_of_are_bounded_by_every_k():
    """The weights of the ELBO count too: K = 10^6 beside AIS alone is one or two data at a time."""
    for k, estimators in ((1_000_000, [AIS()]), (10, [Importance(1_000_000)])):
        assert max(len(part) for part in batches_of(torch.arange(1000), k, estimators)) <= MOST_WEIGHTS // 1_000_000
    assert len(batches_of(torch.arange(256), 1000, [AIS()])) == 2


@pytest.mark.parametrize("what", ["measured", "taken apart"])
def test_no_more_data_at_once_than_their_samples_fit(what, monkeypatch):
    monkeypatch.setattr("taut.evidence.loop.MOST_WEIGHTS", 60)
    target, x, _, _ = linear_gaussian(2, 4, 7)
    seen = []
    monkeypatch.setattr(EvalTask, "rows", _counted(EvalTask.rows, seen))
    question, stage = EvalTask(target, x, "test", 0, 20), Stages(False).stage("test", 7)
    if what == "measured":
        measure(question, [AIS(2, 2, 2)], Processes(), stage)
    else:
        decompose_gap(question, None, Search(), Processes(), stage)
    assert seen == [3, 3, 1]


def _counted(rows, seen):
    def counted(self, index, processes):
        seen.append(len(index))
        return rows(self, index, processes)

    return counted


def test_noise_that_chose_or_fitted_the_weights_does_not_score_them():
    """The best checkpoint is the best under the noise of validation; a training step is keyed by (seed, train)."""
    index = torch.arange(100)
    for split in ("val", "train"):
        fitted = {seeding.key(0, split, counter) for counter in range(2000)}
        assert not fitted & set(NoiseKeys(index, 0, noise_of(split)).seeds())
    assert noise_of("test") == "test", "the table at the end of the run"


def test_simulated_data_do_not_depend_on_the_arithmetic_of_the_caller():
    """Drawn in IEEE arithmetic, as everything that is measured."""
    seen = []

    def simulate(n):
        seen.append((torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
        return torch.zeros(n, 2).double(), torch.zeros(n, 4).double()

    evaluation = object.__new__(Evaluation)
    evaluation.processes, evaluation.estimators = Processes(), []
    evaluation.cfg = SimpleNamespace(seed=0, simulated=3, k=4)  # type: ignore[assignment]
    evaluation.target = replace(linear_gaussian(2, 4, 1).target, simulate=simulate)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            evaluation._simulated(3, Stages(False))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == [("highest", False, False)]


def _said(**certificates):
    section = {"gap": {"exact": False}, "n": 360, "certificate": None, "upper_certificate": None} | certificates
    return " ".join(str(line) for line in _certificate(section, "p(x)"))


def test_the_certificate_in_the_report_is_rounded_outwards():
    low = {"value": -1.0001, "confidence": 0.95, "estimators": ["importance"]}
    high = {"value": -0.9999, "confidence": 0.95, "estimators": ["u_k", "bdmc"]}
    assert "is above -1.001 with 95% confidence (importance), however" in _said(certificate=low)
    both = _said(certificate=low, upper_certificate=high)
    assert "(importance) and below -0.999 with 95% confidence (U_K and BDMC together), however" in both
    assert _said() == ""
    assert _said(certificate=low, gap={"exact": True}) == "", "what is known needs no certificate"


def test_bits_of_ends_that_noise_crosses_are_their_middle():
    """Of 2 cells ln 4 nats are a bit; the upper end is 0.1 bits below the lower one."""
    nats = math.log(4)
    evidence = {"importance": {"value": -3 * nats}, "struski": {"value": -3.1 * nats}}
    gap = {"exact": False, "lower": "importance", "upper": "struski"}
    about = {"bits": {"dimensions": 2, "levels": 1, "of": "counts"}, "gap": gap, "evidence": evidence}
    (crossed,) = _bits(about)
    assert "about 3.050 bits per dimension, counts" in str(crossed)
    evidence["struski"]["value"] = -2.9 * nats
    (apart,) = _bits(about)
    assert "at least 2.9" in str(apart)
    assert "at most 3.0" in str(apart)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"split": "test", "held_out": True}, "test split"),
        ({"split": "test", "held_out": False}, "test split, the training rows"),
        ({"split": "train", "held_out": False}, "train split"),
        ({"split": "test", "held_out": False, "other_data": True}, "test split of other data than those of the run"),
        ({"split": "table", "held_out": True}, "table"),
        ({"split": "table", "held_out": False}, "table of the run, with the rows that it was trained on"),
    ],
)
def test_rows_of_another_table_are_not_called_the_training_rows(about, words):
    assert rows_words(about) == words


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"held_out": True}, "test split of digits"),
        ({"held_out": False}, "test split (training rows) of digits"),
        ({"held_out": False, "other_data": True}, "test split of other data than those of the runs of digits"),
    ],
)
def test_the_title_of_a_comparison_says_whose_rows_they_are(about, words):
    evidence = {"elbo": {"value": -2.0, "standard_error": 0.1, "kind": "lower", "k": None, "doubts": []}}
    one = {**RESULT, **about, "evidence": evidence, "gap": {"void": "so"}, "information": None, "apart": {}}
    assert str(_table([one, one], ["a", "b"]).title).startswith(words)
