"""The heads of the tables of scores: what each number is, and of which split."""

from collections.abc import Sequence
from dataclasses import replace

from taut.report.cells import Column, as_number
from taut.report.names import Names
from taut.report.sets import ScoreSet


def measured(scores: ScoreSet, given: Sequence[str]) -> list[Column]:
    """Heads of the scores, each with the split that it is of.

    Args:
        scores: A set.
        given: Information criteria that have a column.
    """
    split, test = scores.split, scores.source == "test"
    fitted = [
        Column(f"train: {name.upper()}", f"{name.upper()} of the training rows, lower is better", True, 2 + place)
        for place, name in enumerate(given)
    ]
    scored = [
        head if head.label in WITHOUT_SPLIT else replace(head, label=f"{split}: {head.label}")
        for head in (TESTED if test else EVALUATED)
    ]
    first = [Column("validation: bound at k", "the best of all epochs, nats; sorted within each k", True, 2)]
    return [*first, *scored, *fitted] if test else scored


TESTED = (
    Column("ELBO", "bound at K = 1, nats per datum ± standard error over the data", True, 1),
    Column("bound at k", "bound at the k of training, nats per datum; sorted within each k", True),
    Column("log p(x)", "exact, or a bound from below", True, 1),
    Column("gap", "log p(x) minus ELBO; ≥ where log p(x) is bounded from below", True, 1),
    Column("KL", "of q(z|x) from p(z), nats", True),
    Column("active", "latents in use", True),
    Column("ESS", "effective number of the importance samples of log p(x), mean over the data", True),
    Column("seconds", "of training and test", True, 5),
)
EVALUATED = (
    Column("ELBO", "bound at K = 1, nats per datum ± standard error over the data", True, 1),
    Column("L_K", "importance-weighted bound, nats per datum", True),
    Column("log p(x)", "between the best lower and the best upper bound, nats per datum", True, 1),
    Column("bounds from", "estimators of the two ends"),
    Column("gap", "log p(x) minus ELBO: an interval, at least the lower end, or exact", True, 1),
    Column("± gap", "standard error of the lower end over the data", True),
    Column("amortisation", "what the encoder loses, on the rows it was taken apart for", True),
    Column("approximation", "what the family loses, on the same rows", True),
)
WITHOUT_SPLIT = ("bounds from", "seconds")


def grouped(heads: Sequence[Column]) -> list[Column]:
    """The heads of the table of settings: the same scores, as means over seeds."""
    first = [Column("setting", "what its runs have in common", terminal=1), Column("seeds", "how many", True, 1)]
    mean = "mean over the seeds and their standard deviation"
    return first + [replace(head, title=f"{mean}: {head.title}") for head in heads]


def named(words: Sequence[str], names: Names) -> list[Column]:
    """Heads of the run and of what the runs differ in."""
    numeric = {name: all(as_number(value) is not None for value in names.varied[name] if value) for name in words}
    heads = [Column(name.rpartition(".")[2], name, numeric=numeric[name]) for name in words]
    return [Column("run", "the folder of the run", terminal=1), *heads]
