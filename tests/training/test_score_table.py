"""The table at the end of a run."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from taut.report.tables import training


def score(value, kind="lower", k=1, error=0.2, monte_carlo=0.003):
    return {"value": value, "standard_error": error, "monte_carlo_error": monte_carlo, "kind": kind, "k": k}


def result(kind="lower", **changes):
    scores = {
        "elbo": score(-24.5312),
        "bound": score(-23.0001, k=50),
        "log_px": score(-22.19, kind, 5000),
        "gap": score(2.3412, kind, 5000),
        "kl": {"value": 9.12, "standard_error": 0.08, "monte_carlo_error": 0.002},
        "reconstruction": {"value": -15.4, "standard_error": 0.2, "monte_carlo_error": 0.003},
        "active_units": {"value": 8.0},
        "ess": {"value": 312.4, "standard_error": 12.0, "monte_carlo_error": 0.0},
    }
    return {
        "name": "iwae digits dynamic normal diagonal k=50 seed=0",
        "model": "iwae",
        "data": "digits",
        "binarisation": "dynamic",
        "k": 50,
        "k_test": 5000,
        "n": 360,
        "split": "test",
        "scores": {**scores, **changes},
        "seconds": {"fit": 32.51, "test": 4.0},
    }


def lines(outcome, width=80):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(training.score_table(outcome))
    return console.export_text().splitlines()


def row(outcome, label):
    return next(line.strip() for line in lines(outcome) if line.strip().startswith(label))


def test_every_score_has_its_row_value_errors_and_kind():
    text = lines(result())
    assert row(result(), "ELBO").split()[:6] == ["ELBO", "-24.531", "0.200", "0.003", "lower", "bound,"]
    assert row(result(), "bound, k = 50").split()[4:7] == ["-23.000", "0.200", "0.003"]
    assert row(result(), "log p(x)").endswith("lower bound, K = 5000")
    assert row(result(), "gap").split()[:3] == ["gap", ">=", "2.341"]
    assert row(result(), "active units").split()[:3] == ["active", "units", "8"]
    assert row(result(), "ESS").split()[:3] == ["ESS", "312.400", "12.000"]
    labels = {"KL", "reconstruction"}
    assert labels <= {line.split()[0] for line in text if line.strip()}
    everything = " ".join(text)
    for words in ("360 data", "digits, binarisation dynamic", "fit 32.5 s, test 4.0 s (90 rows/s)"):
        assert words in everything
    assert "Warning" not in everything


def test_a_trained_bound_that_is_none_is_called_an_estimate():
    assert row(result(), "bound, k = 50").endswith("what was trained")
    assert row(result(bound=score(-23.0, "estimate", 50)), "bound, k = 50").endswith("trained, an estimate")


@pytest.mark.parametrize(
    ("model", "objective", "words"),
    [
        ("vae", "ciwae", "what was trained: ciwae"),
        ("vae", "elbo", "what was trained"),
        ("iwae", "iwae", "what was trained"),
        ("iwae", "elbo", "what was trained: elbo"),
    ],
)
def test_an_objective_that_the_model_does_not_choose_itself_is_named(model, objective, words):
    assert row(result() | {"model": model, "objective": objective}, "bound, k = 50").endswith(words)


@pytest.mark.parametrize("model", ["vae", "iwae", "mog", "fa", "ppca"])
def test_the_objectives_of_models_are_those_of_their_configs(model):
    text = (Path(__file__).parents[2] / "conf" / "model" / f"{model}.yaml").read_text()
    found = re.search(r"override /objective: (\w+)", text)
    assert training.OBJECTIVES.get(model, "elbo") == (found[1] if found else "elbo")


def test_an_exact_evidence_makes_the_gap_an_equality():
    outcome = result("exact", gap=score(-1e-12, "exact"))
    assert row(outcome, "log p(x)").endswith("exact")
    assert row(outcome, "gap").split()[:2] == ["gap", "0.000"]


def test_eighty_columns_are_enough():
    wide = result(elbo=score(-123456.789, error=1234.5), ess=score(1.1))
    assert max(len(line.rstrip()) for line in lines(wide, width=200)) <= 80
    assert all("…" not in line for line in lines(wide))


@pytest.mark.parametrize("part", ["limits", "warnings"])
def test_untrustworthy_results_say_so(part):
    text = " ".join(
        line.strip() for line in lines({**result(), part: ["the effective sample size is 1.2 of 5000 samples."]})
    )
    assert "Warning: the effective sample size is 1.2 of 5000 samples." in text


def test_what_is_doubted_is_marked_and_khat_has_a_row():
    doubted = score(-22.19, "lower", 5000) | {"doubts": ["k-hat > 0.7: 40%"]}
    outcome = result(log_px=doubted, khat={"value": 0.8123, "n": 360})
    assert row(outcome, "log p(x)").endswith("lower bound, K = 5000 ?")
    assert row(outcome, "k-hat").split()[:2] == ["k-hat", "0.812"]
    assert row(outcome, "ELBO").endswith("K = 1")
    assert not [line for line in lines(result(khat={"value": None, "n": 0})) if "k-hat" in line]


CRITERIA = {"log_likelihood": -1130.264, "n": 272, "parameters": 11, "bic": 2322.1919, "aic": 2282.528, "icl": None}


def test_criteria_and_convergence_stand_under_the_table():
    text = " ".join(lines({**result(), "criteria": CRITERIA, "converged": True, "epochs": 31}))
    for words in (
        "272 training rows",
        "-1,130.264 in all",
        "11 free",
        "BIC 2,322.192, AIC 2,282.528 (",
        "converged: yes",
    ):
        assert words in text
    assert "Warning" not in text


def test_training_that_ended_too_soon_is_warned_of():
    text = " ".join(lines({**result(), "criteria": None, "converged": False, "epochs": 3}, width=200))
    assert "converged: no, 3 epochs" in text
    assert "Warning: EM has not converged" in text


def test_a_run_without_a_test_says_so_and_has_no_rate():
    untested = {**result(), "scores": {}, "n": 0, "seconds": {"fit": 1.0, "test": 0.0}}
    assert row(untested, "none").split() == ["none", "nothing", "was", "tested"]
    assert row(untested, "fit") == "fit 1.0 s, test 0.0 s"


def test_layers_of_z_stand_behind_the_score_they_make_up():
    kl = {"value": 3.25, "standard_error": 0.08, "monte_carlo_error": 0.002}
    of_layers = {
        "kl_1": kl,
        "kl_2": kl | {"value": 5.87},
        "active_units_1": {"value": 5.0},
        "active_units_2": {"value": 3.0},
    }
    labels = [line.split("  ")[0].strip() for line in (row.strip() for row in lines(result(**of_layers))) if line]
    assert labels[labels.index("KL") :][:3] == ["KL", "layer 1", "layer 2"]
    assert labels[labels.index("active units") :][:4] == ["active units", "layer 1", "layer 2", "ESS"]
    values = [line.split()[2] for line in lines(result(**of_layers)) if line.strip().startswith("layer")]
    assert values == ["3.250", "5.870", "5", "3"]
