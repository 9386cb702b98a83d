"""What is said of the number that another program reports, from brackets made by hand."""

import pytest
import torch

from taut.errors import UserError
from taut.evidence import LogEvidence
from taut.evidence.loop import EvalResult
from taut.evidence.reported import compared

NOISE = 0.05
"""Monte Carlo error of every mean: twice it is 0.1."""


def bracket(**ends):
    """The ELBO at -90 and estimators at the given values, four data each."""

    def one(name, kind, value, unbiased=False):
        values = torch.full((4,), value, dtype=torch.float64)
        return LogEvidence(name, kind, values, torch.full_like(values, 4 * NOISE**2), unbiased=unbiased)

    evidence = [one(name, *given) for name, given in ends.items()]
    return EvalResult(one("elbo", "lower", -90.0), evidence, torch.zeros(21, 4, dtype=torch.float64))


BOTH = {"importance": ("lower", -86.9, True), "struski": ("upper", -86.2)}
SAID = {
    -85.1: "lies above the upper bound -86.2: it is no log-likelihood, unless q misses a mode",
    -86.15: "lies inside the bracket from -86.9 to -86.2: nothing here speaks against it as a log-likelihood",
    -86.5: "lies inside the bracket from -86.9 to -86.2: nothing here speaks against it as a log-likelihood",
    -86.95: "lies inside the bracket from -86.9 to -86.2: nothing here speaks against it as a log-likelihood",
    -88.0: "lies below the lower bound -86.9: as a log-likelihood it is at least 1.1 nats too low",
    -90.04: "lies below the lower bound -86.9: as a log-likelihood it is at least 3.14 nats too low; it is about the "
    "ELBO",
}


@pytest.mark.parametrize("reported", SAID)
def test_a_number_is_placed_beside_the_bracket(reported):
    """An end passed by less than the noise is not passed."""
    assert compared(reported, bracket(**BOTH)) == f"reported {reported:g} {SAID[reported]}"


def test_an_upper_bound_that_does_not_rest_on_q_leaves_no_way_out():
    ends = BOTH | {"bdmc": ("upper", -86.0, True)}
    said = "reported -85.1 lies above the upper bound -86: it is no log-likelihood"
    assert compared(-85.1, bracket(**ends)) == said


def test_without_an_upper_bound_nothing_is_denied():
    said = "reported -80 lies above the lower bound -86.9, and there is no upper bound to hold it against"
    assert compared(-80.0, bracket(importance=BOTH["importance"])) == said


def test_beside_an_exact_value_words_are_plain():
    exact = bracket(exact=("exact", -86.0))
    assert compared(-86.05, exact) == "reported -86.05 agrees with log p(x), which is exactly -86"
    above = "reported -85 lies 1 nats above log p(x), which is exactly -86: it is no log-likelihood"
    assert compared(-85.0, exact) == above
    below = "reported -90 lies 4 nats below log p(x), which is exactly -86: it is a lower bound of it at most"
    assert compared(-90.0, exact) == below


def test_a_number_that_can_be_no_logarithm_of_a_mass_is_refused():
    with pytest.raises(UserError, match=r"reported=86.5 is above 0, .* reported=-86.5 where the package reports the"):
        compared(86.5, bracket(**BOTH), mass=True)
    with pytest.raises(UserError, match="reported=inf must be a finite number"):
        compared(float("inf"), bracket(**BOTH))
