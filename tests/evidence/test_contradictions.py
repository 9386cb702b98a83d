"""What cannot be has no value, no certificate, no place in the gap and no picture; it is named."""

from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch.distributions import Bernoulli, Independent, Normal

from taut.evidence import AIS, Importance, LogEvidence, Struski, Target
from taut.evidence.contradictions import impossible
from taut.evidence.loop import EvalResult, EvalTask, measure
from taut.evidence.summary import assessed, columns, plain
from taut.functional.consistency import Void
from taut.report.tables.evaluation import section
from taut.runtime.processes import Processes
from taut.runtime.progress import Stages
from taut.testing import linear_gaussian

pytestmark = pytest.mark.usefixtures("float64")


def _said(name, kind, mean, error=0.01, *, n=100, unbiased=False, k=1000):
    value = mean + 0.1 * torch.linspace(-1, 1, n)
    return LogEvidence(name, kind, value, torch.full((n,), n * error**2), k, unbiased)


LOW, HIGH = _said("importance", "lower", -9.0, unbiased=True), _said("struski", "upper", -8.9)


def test_honest_values_stand():
    assert impossible([_said("elbo", "lower", -10.0), LOW, HIGH], mass=True, where="test data") == {}


def test_noise_may_make_ends_cross_and_more_than_that_voids_what_holds_under_conditions_only():
    """4 x (0.01 + 0.01) + rounding + ln 2 / 100: 0.087 is noise and 0.1 is not."""
    below = replace(HIGH, value=LOW.value - 0.08)
    assert impossible([LOW, below], mass=False, where="x") == {}
    found = impossible([LOW, replace(HIGH, value=LOW.value - 0.1)], mass=False, where="test data")
    assert list(found) == ["struski"]
    assert found["struski"].startswith(
        "test data: importance (lower bound) is -9 nats, above struski (upper bound) of -9.1"
    )
    both = impossible([LOW, replace(below, value=LOW.value - 0.1, name="u_k", unbiased=True)], mass=False, where="x")
    assert set(both) == {"importance", "u_k"}


def test_an_exact_value_and_a_bound_that_holds_anyway_are_both_void():
    exact, above = _said("exact", "exact", -9.2, 0.0, k=None), replace(HIGH, name="u_k", unbiased=True)
    assert set(impossible([LOW, exact], mass=False, where="x")) == {"importance", "exact"}
    assert set(impossible([above, replace(exact, value=HIGH.value + 0.2)], mass=False, where="x")) == {"u_k", "exact"}
    assert impossible([LOW, HIGH, replace(exact, value=LOW.value + 0.05)], mass=False, where="x") == {}


def test_an_upper_bound_of_q_voids_no_exact_value():
    """It is too low where q misses a mode, as a VAE of two rows showed: 6 nats below a quadrature that was right."""
    found = impossible([HIGH, _said("exact", "exact", -8.0, 0.0, k=None)], mass=False, where="x")
    assert list(found) == ["struski"]
    assert found["struski"].endswith("is too low where q misses a mode: do not use it for this run.")


def test_masses_are_at_most_one_and_densities_are_not():
    above = _said("importance", "lower", 0.5)
    assert "p(x) is a probability" in impossible([above], mass=True, where="x")["importance"]
    assert impossible([above], mass=False, where="x") == {}
    assert impossible([_said("struski", "upper", 0.5)], mass=True, where="x") == {}
    assert impossible([_said("jackknife", "estimate", 0.03)], mass=True, where="x") == {}, "within four errors"


def test_an_unknown_noise_is_taken_from_the_data_and_one_datum_says_nothing():
    unknown = replace(HIGH, variance=torch.full((100,), torch.nan))
    assert set(impossible([LOW, replace(unknown, value=LOW.value - 1)], mass=False, where="x")) == {"struski"}
    one = [replace(e, value=e.value[:1], variance=torch.full((1,), torch.nan)) for e in (LOW, HIGH)]
    assert impossible([one[0], replace(one[1], value=one[0].value - 9)], mass=False, where="x") == {}


def test_infinities_are_no_contradiction():
    lost, loose = (replace(e, value=torch.full((100,), sign * torch.inf)) for e, sign in ((LOW, -1), (HIGH, 1)))
    for pair in ([lost, HIGH], [LOW, loose], [lost, loose]):
        assert impossible(pair, mass=True, where="x") == {}


def _answer(void: str) -> EvalResult:
    elbo = _said("elbo", "lower", -10.0, k=None)
    sentence = f"test data: {void} cannot be."
    return EvalResult(elbo, [LOW, HIGH], torch.zeros(21, 100), {void: sentence})


def _text(result) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in section("test split", result):
        console.print(part)
    return console.export_text()


@pytest.mark.parametrize("void", ["importance", "struski", "elbo"])
def test_a_void_estimator_has_no_value_certificate_or_end_of_the_gap(void):
    answer = _answer(void)
    result = plain(assessed(answer, 0.95, annealable=True))
    assert result["evidence"][void]["value"] is None
    assert result["void"] == [f"test data: {void} cannot be."]
    assert (result["certificate"] is None) == (void == "importance")
    assert void not in columns(answer, None)
    assert f"void: test data: {void} cannot be." in " ".join(_text(result).split())
    row = next(line for line in _text(result).splitlines() if line.strip().lower().startswith(void))
    assert "void" in row
    gap = result["gap"]
    if void == "elbo":
        assert gap["low"]["value"] is None
        assert "gap = log p(x) - ELBO is void" in _text(result)
    else:
        assert void not in (gap["lower"], gap["upper"])


def _measured(target: Target, x: torch.Tensor) -> EvalResult:
    with Stages(False).running() as stages:
        question = EvalTask(target, x, "evaluate/test", 0, 100)
        return measure(question, [Importance(100), Struski(100)], Processes(), stages.stage("x", len(x)))


def test_what_is_measured_is_judged_where_it_is_measured():
    """A likelihood of pixels that forgot its constant: every lower bound is 40 nats too high."""
    prior = Independent(Normal(torch.zeros(2), 1.0), 1)

    def log_joint(x, z):
        return (
            prior.log_prob(z)
            + Bernoulli(logits=z.sum(-1, keepdim=True).expand(*z.shape[:-1], 4)).log_prob(x).sum(-1)
            + 40
        )

    target = Target(log_joint, lambda x: Independent(Normal(torch.zeros(len(x), 2), 1.0), 1), prior, mass=True)
    x = torch.randint(2, (10, 4)).double()
    answer = _measured(target, x)
    assert set(answer.void) == {"elbo", "importance"}
    assert all(sentence.startswith("test data: ") for sentence in answer.void.values())
    for estimator in (Importance(100), AIS(4, chains=4)):
        with pytest.raises(Void, match="p\\(x\\) is a probability, whose log is at most 0"):
            estimator(target, x)
    assert _measured(replace(target, mass=False), x).void == {}
    assert _measured(linear_gaussian(2, 3, 10).target, linear_gaussian(2, 3, 10).x).void == {}
