"""Which means differ: statements whose level holds for everything that is said at once.

Of $m$ runs every ordered pair is compared, "the mean of i is not above that of j", in all questions that are asked of
the same runs. Whichever run then comes first, and the same data choose it, all that is said of it was among what was
compared. (Multiple comparisons with the best, Hsu, 1981; 1996, chapter 4, compare each run with the best alone. That
costs less, and allows one of several equal runs to be called behind; here none is, so that all pairs are paid for, as
by Tukey.)

Over the data each pair gets a limit that its difference is above at any number of data
(:mod:`taut.functional.confidence_sequence`), at the level divided by the number of pairs (Bonferroni): so a comparison
may be looked at, given more data and looked at again, and says by how much one is ahead at least. Over seeds, of which
there are few, the p-values of t tests go through the correction of Holm (1979), which needs nothing of how the tests
depend on one another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from taut.functional.confidence_sequence import LEVEL, lower_limit

EQUAL = 5e-4
"""Nats within which two means are shown as the same, so that none is called better."""

Matrix = Float[np.ndarray, "m m"]


@dataclass(frozen=True)
class Differences:
    """Distance of j behind i, for all pairs ``[i, j]``; NaN where it is not known.

    Args:
        mean: Estimates; positive where i is better.
        error: Their standard errors.
        paired: Whether the two were held against one another datum by datum.
    """

    mean: Matrix
    error: Matrix
    paired: Bool[np.ndarray, "m m"]

    def _known(self, *more: Matrix) -> Bool[np.ndarray, "m m"]:
        """The pairs that can be compared."""
        known = ~np.isnan(sum(more, self.mean + self.error))
        # a run against itself is no hypothesis, and would cost the others a stricter level
        np.fill_diagonal(known, False)
        return known


@dataclass(frozen=True)
class OverData(Differences):
    """Differences over the same n data.

    Args:
        skewness: Of the differences of single data; 0 where they are not known.
        n: Data.
    """

    skewness: Matrix
    n: int

    @property
    def pairs(self) -> int:
        """Number of ordered pairs that are compared."""
        return int(self._known().sum())

    def limits(self, level: float) -> Matrix:
        """What each difference is above with probability 1 - ``level``, at every number of data; NaN where unknown."""
        found = np.full(self.mean.shape, np.nan)
        known = self._known()
        std = self.error * np.sqrt(self.n)
        found[known] = lower_limit(self.mean[known], std[known], self.skewness[known], self.n, level)
        return found


@dataclass(frozen=True)
class OverSeeds(Differences):
    """Differences over seeds.

    Args:
        freedom: Degrees of freedom of their errors.
    """

    freedom: Matrix

    def p_values(self) -> Matrix:
        """Probability of a difference as large as that or larger if j is in truth not behind i; NaN where unknown.

        Differences that do not vary need no test: they are certain beyond ``EQUAL``, and nothing up to it.
        """
        from scipy.special import stdtr  # half a second that a single run need not wait for

        known, found = self._known(self.freedom), np.full(self.mean.shape, np.nan)
        # np.where works out both sides: those without an error divide by 0 and are then left out
        with np.errstate(divide="ignore", invalid="ignore"):
            p = np.where(self.error > 0, stdtr(self.freedom, -self.mean / self.error), 0.0)
        found[known] = np.where(self.mean <= EQUAL, 1.0, p)[known]
        return found


def moments(values: Float[np.ndarray, "m n"]) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Mean and standard deviation of each row of n > 1 values.

    They are taken relative to the first value, so that the spread of equal numbers is 0 and no residue of rounding.
    """
    pivot = values[:, :1]
    apart = values - pivot
    mean = apart.mean(1, keepdims=True)
    std = np.sqrt(np.square(apart - mean).sum(1) / (values.shape[1] - 1))
    return (pivot + mean)[:, 0], std


def skewness(values: Float[np.ndarray, "m n"]) -> Float[np.ndarray, " m"]:
    """Third central moment of each row over the cube of its deviation; 0 of values that do not vary."""
    apart = values - values[:, :1]
    apart = apart - apart.mean(1, keepdims=True)
    variance = np.square(apart).mean(1)
    cube = variance**1.5
    return np.where(cube > 0, (np.square(apart) * apart).mean(1) / np.where(cube > 0, cube, 1.0), 0.0)


@dataclass(frozen=True)
class Means:
    """Means of m runs over the same data, more being better.

    Args:
        value: A mean for each run; NaN where there is none.
        error: Their standard errors; NaN where they are unknown.
        tables: For each run the values of all data that it is the mean of, or None.
    """

    value: Float[np.ndarray, " m"]
    error: Float[np.ndarray, " m"]
    tables: Sequence[np.ndarray | None]


def over_data(better: Means, worse: Means, n: int) -> OverData:
    """Differences of means over the same n data, datum by datum where both have a table of them.

    Elsewhere the squared errors are added as if the data were not the same. The scores of one datum by two models rise
    and fall together, so that this is too wide rather than too narrow.

    Args:
        better: Means that lead.
        worse: Means that trail: the same, or others of the same runs.
        n: Data.
    """
    mean = better.value[:, None] - worse.value[None, :]
    error = np.hypot(better.error[:, None], worse.error[None, :])
    paired, skewed = np.zeros(mean.shape, dtype=bool), np.zeros(mean.shape)
    known = [(place, values) for place, values in enumerate(worse.tables) if values is not None]
    columns, theirs = [place for place, _ in known], np.array([values for _, values in known])
    for place, ours in enumerate(better.tables):
        if ours is not None and columns:
            apart = ours - theirs
            error[place, columns], skewed[place, columns] = moments(apart)[1] / np.sqrt(n), skewness(apart)
            paired[place, columns] = True
    return OverData(mean, error, paired, skewed, n)


def over_seeds(better: Sequence[Sequence[float]], worse: Sequence[Sequence[float]]) -> OverSeeds:
    r"""Differences of the means of groups of trainings, each with its own spread (Welch, 1947).

    The error is $\sqrt{s_i^2 / n_i + s_j^2 / n_j}$ with the degrees of freedom of Welch and Satterthwaite, rounded
    down: as they are, two groups of two seeds would be wrong in 7% of trials at 5%, where one varies ten times as much.

    Args:
        better: A value for each seed of each group, two or more; none at all where a group has no place.
        worse: The same, or other values of the same groups.
    """
    (high, first), (low, second) = _spreads(better), _spreads(worse)
    a, b = first[:, None], second[None, :]
    # a group of fewer than two has a NaN error anyway; no freedom of 0, which would divide
    freedom = [np.array([max(len(one), 2) - 1.0 for one in side]) for side in (better, worse)]
    with np.errstate(divide="ignore", invalid="ignore"):
        welch = np.square(a + b) / (np.square(a) / freedom[0][:, None] + np.square(b) / freedom[1][None, :])
    # a whole number that came out a rounding error too small must not be floored to the one below
    freedoms = np.where(a + b > 0, np.floor(welch + 1e-9), freedom[0][:, None] + freedom[1][None, :])
    mean = high[:, None] - low[None, :]
    return OverSeeds(mean, np.sqrt(a + b), np.zeros(mean.shape, dtype=bool), freedoms)


def holm(p_values: Sequence[Matrix], level: float = LEVEL) -> list[Bool[np.ndarray, "m m"]]:
    """Hypotheses that are rejected, all together at one level (Holm, 1979); NaN stands for no hypothesis.

    Args:
        p_values: Of every question.
        level: Probability of one or more wrong rejections.
    """
    flat = np.concatenate([one.ravel() for one in p_values]) if p_values else np.empty(0)
    tested = np.flatnonzero(~np.isnan(flat))
    order = tested[np.argsort(flat[tested], kind="stable")]
    passed = flat[order] <= level / np.arange(len(order), 0, -1)
    rejected = np.zeros(len(flat), dtype=bool)
    # Holm stops at the first that passes no more; argmin is 0 as well where all pass
    rejected[order[: len(passed) if passed.all() else int(passed.argmin())]] = True
    shapes, start = [one.shape for one in p_values], 0
    found = []
    for shape in shapes:
        found.append(rejected[start : start + shape[0] * shape[1]].reshape(shape))
        start += shape[0] * shape[1]
    return found


def _spreads(groups: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each group, and the square of its standard error."""
    found = [moments(np.array([one], dtype=float)) if len(one) > 1 else (np.array([np.nan]),) * 2 for one in groups]
    mean, std = (np.concatenate([pair[part] for pair in found]) for part in (0, 1))
    return mean, np.square(std) / np.array([max(len(one), 1) for one in groups])
