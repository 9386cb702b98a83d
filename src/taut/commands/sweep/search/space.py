"""The space of a search: words of Hydra's sweep grammar as Optuna's distributions, and its points as words again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from taut.config.overrides import NOT_OF_A_JOB
from taut.errors import UserError

DIGITS = 4
"""Significant digits of a number in the words of a job, which are its numbers."""
PLACES = 12
"""Decimals of the numbers of a range."""
SEEDS = ("seed", "data.seed", "model.seed")
OF_SCORES = ("k_eval", "k_test")


@dataclass(frozen=True)
class Space:
    """What the trials of a search have in common, and what they differ in.

    Args:
        fixed: Words of every trial, by key.
        axes: The distributions of the others, by key.
    """

    fixed: Mapping[str, str]
    axes: Mapping[str, BaseDistribution]

    @classmethod
    def of(cls, words: Sequence[Override]) -> "Space":
        """The space of the words of a search, of which the later win.

        Raises:
            UserError: For an axis that cannot be, or that a search may not have, and where there is none.
        """
        last = {word.get_key_element(): word for word in words}
        axes = {key: distribution(word) for key, word in last.items() if word.is_sweep_override()}
        if not axes:
            raise UserError(
                "A search needs something to vary, such as 'optimizer.lr=tag(log, interval(1e-4, 1e-2))' or "
                "'latent_dim=range(2, 64)'."
            )
        fixed = {key: _plain(word) for key, word in last.items() if key not in axes}
        return cls(fixed, axes)

    def words(self, params: Mapping[str, Any]) -> list[str]:
        """The words of the job at a point of the space."""
        return [*self.fixed.values(), *(f"{key}={_written(axis, params[key])}" for key, axis in self.axes.items())]

    def points(self) -> Iterator[dict[str, Any]]:
        """Every point, the last axis varying fastest.

        Raises:
            UserError: If an axis has no end of values.
        """
        values = [values_of(axis) for axis in self.axes.values()]
        for key, of_axis in zip(self.axes, values, strict=True):
            if of_axis is None:
                raise UserError(
                    f"sweep.sampler=grid goes through lists of values, and {key} is an interval; give it values, as in "
                    f"{key}=1,2,5, or choose another sampler."
                )
        for point in product(*(each or [] for each in values)):
            yield dict(zip(self.axes, point, strict=True))

    @property
    def size(self) -> int | None:
        """Number of its points; None where an axis is an interval."""
        size = 1
        for axis in self.axes.values():
            values = values_of(axis)
            if values is None:
                return None
            size *= len(values)
        return size

    def probes(self) -> Iterator[dict[str, Any]]:
        """Points at which every choice of every axis is met, and both ends of every range, one axis at a time."""
        first = {key: _ends(axis)[0] for key, axis in self.axes.items()}
        yield first
        for key, axis in self.axes.items():
            yield from (first | {key: value} for value in _ends(axis)[1:])


def distribution(word: Override) -> BaseDistribution:
    """The distribution that a word with several values asks for.

    ``a,b``, ``choice(a,b)`` and ``glob(*)`` are categories, ``range(2,64)`` numbers with a step, ``interval(0,1)`` and
    ``int(interval(1,64))`` all numbers between, and ``tag(log, ...)`` makes either logarithmic.

    Raises:
        UserError: If there is no such distribution.
    """
    key, value = word.get_key_element(), word.value()
    _refuse_key(key, word)
    if not isinstance(value, IntervalSweep | RangeSweep):
        choices = list(dict.fromkeys(word.sweep_string_iterator()))
        if not choices:
            raise UserError(f"{word.input_line} has no values.")
        return CategoricalDistribution(choices)
    start, end = value.start, value.stop if isinstance(value, RangeSweep) else value.end
    step = value.step if isinstance(value, RangeSweep) else None
    if start is None or end is None or not start < end or (step is not None and step <= 0):
        raise UserError(f"{word.input_line} holds no number; its first must be below its second.")
    log = "log" in value.tags
    if log and (start <= 0 or step not in (None, 1)):
        raise UserError(f"{word.input_line} cannot be logarithmic: that takes numbers above 0, and no step but 1.")
    if isinstance(start, int) and isinstance(end, int) and isinstance(step, int | None):
        # the end of a range is not one of its numbers
        return IntDistribution(start, end if step is None else range(start, end, step)[-1], log=log, step=step or 1)
    if step is None:
        return FloatDistribution(float(start), float(end), log=log)
    # Hydra's own list, which has the stop in it where rounding puts it there; rounded, or Optuna would say that the
    # last is not so many steps from the first
    numbers = [round(float(text), PLACES) for text in word.sweep_string_iterator()]
    return FloatDistribution(numbers[0], numbers[-1], step=float(step))


def values_of(axis: BaseDistribution) -> list[Any] | None:
    """The values of an axis; None for an interval."""
    if isinstance(axis, CategoricalDistribution):
        return list(axis.choices)
    if isinstance(axis, IntDistribution):
        return list(range(axis.low, axis.high + 1, axis.step))
    assert isinstance(axis, FloatDistribution)
    if axis.step is None:
        return None
    return [axis.low + axis.step * i for i in range(round((axis.high - axis.low) / axis.step) + 1)]


def _ends(axis: BaseDistribution) -> list[Any]:
    if isinstance(axis, CategoricalDistribution):
        return list(axis.choices)
    assert isinstance(axis, IntDistribution | FloatDistribution)
    return [axis.low, axis.high]


def _written(axis: BaseDistribution, value: Any) -> str:
    """A value as Hydra's grammar reads it."""
    if not isinstance(axis, FloatDistribution):
        return str(value)
    text = f"{value:.{DIGITS}g}"
    # without a point or an exponent it would be an integer there
    return text if set(text) & set(".en") else f"{text}.0"


def _plain(word: Override) -> str:
    return f"{word.get_key_element()}={word.get_value_element_as_str()}"


def _refuse_key(key: str, word: Override) -> None:
    name = key.lstrip("+~")
    if name in SEEDS:
        raise UserError(f"{word.input_line}: a search over seeds would choose the luckiest; give all trials one seed.")
    if name in OF_SCORES:
        raise UserError(f"{word.input_line}: {name} is what trials are scored by; give all of them one.")
    if name.split(".")[0] in NOT_OF_A_JOB:
        raise UserError(f"{word.input_line}: {name} is not of a trial but of the whole search; give it one value.")
