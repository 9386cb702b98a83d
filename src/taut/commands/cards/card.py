"""A published number, our number, and whether they agree: the facts and the outcomes of the cards, read from files.

Facts (``cards.yaml``) are written by people: source, published value, commands, tolerance and why it is that. Outcomes
(``outcomes.json``) are written by ``taut cards record=true`` alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from taut.config.plain_yaml import read_values
from taut.errors import UserError, nearest
from taut.files import write_json

FACTS, OUTCOMES = (Path(__file__).with_name(name) for name in ("cards.yaml", "outcomes.json"))
QUICK = 1.0
"""Minutes below which a card is computed anew by every run of the tests."""
ERRORS = 4
"""Monte Carlo errors of ours that a difference may come to beside the tolerance."""


@dataclass(frozen=True)
class Score:
    """Where a number stands in a result file.

    Args:
        path: Keys that lead to it, with dots: to a number, or to a mapping with ``value`` and errors.
        file: The file, in the folder of the run.
        at: K of the point, where the path leads to a curve.
        minus: Path of what is subtracted.
        error: Name of the Monte Carlo error beside the value; None where ours has none.
    """

    path: str
    file: str = "result.json"
    at: int | None = None
    minus: str | None = None
    error: str | None = None

    def read(self, result: Mapping[str, Any]) -> tuple[float, float]:
        """The number and its Monte Carlo error, 0 where it has none.

        Raises:
            UserError: If the result has no such number.
        """
        value, error = self._at(result, self.path)
        if self.minus is None:
            return value, error
        other, further = self._at(result, self.minus)
        return value - other, (error**2 + further**2) ** 0.5

    def _at(self, result: Mapping[str, Any], path: str) -> tuple[float, float]:
        node: Any = result
        try:
            for name in path.split("."):
                node = node[name]
            if not isinstance(node, Mapping):
                return float(node), 0.0
            value, error = node["value"], node[self.error] if self.error else 0.0
            if self.at is not None:
                place = node["k"].index(self.at)
                value, error = value[place], node[self.error][place] if self.error else 0.0
            return float(value), float(error)
        except (KeyError, TypeError, ValueError) as problem:
            raise UserError(
                f"The run has no {path} in its {self.file}; give the folder of a run of the card's own command."
            ) from problem


@dataclass(frozen=True)
class Golden:
    """A value that a new version of a library must not move.

    Args:
        tolerance: How far another machine may be from it.
        words: What shortens each command, where the whole takes more than a minute.
    """

    tolerance: float
    words: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Card:
    """The facts of a card.

    Args:
        name: Its name, most often that of its experiment.
        source: Paper or program.
        row: Which of its numbers.
        digits: The number, as it is published.
        unit: What it is a number of.
        tolerance: How far ours may be from it, the Monte Carlo error of ours apart.
        because: Where the tolerance comes from.
        commands: What a user types behind ``taut``; ``{run}`` is the folder of the run.
        score: Where our number stands.
        minutes: What the commands may take on two idle cores.
        golden: The value that tests hold fast.
        compare: ``value``, or ``sign`` where the published number is of another model.
        wants: What it takes that a laptop lacks.
    """

    name: str
    source: str
    row: str
    digits: str
    unit: str
    tolerance: float
    because: str
    commands: tuple[str, ...]
    score: Score
    minutes: float
    golden: Golden
    compare: Literal["value", "sign"] = "value"
    wants: str | None = None

    @property
    def published(self) -> float:
        """The published number."""
        return float(self.digits)

    @property
    def quick(self) -> bool:
        """True where it takes less than a minute."""
        return self.minutes < QUICK


@dataclass(frozen=True)
class Outcome:
    """The number that a computation gave, and its circumstances.

    Args:
        value: Our number.
        error: Its Monte Carlo error; 0 where it has none.
        seed: Seed of the run.
        digest: SHA-256 of the data.
        versions: Of taut, torch, Python and others.
        machine: Where it ran, in words.
        date: When, as year-month-day.
        words: Settings of the run that are not those of the card's command.
    """

    value: float
    error: float
    seed: int
    digest: str
    versions: Mapping[str, str]
    machine: str
    date: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The judgement of ours beside the published number.

    Args:
        words: As the table says it.
        agrees: None where there is no number of ours.
    """

    words: str
    agrees: bool | None = None


def verdict(card: Card, outcome: Outcome | None) -> Verdict:
    """Hold an outcome against the published number."""
    if outcome is None:
        return Verdict(f"not run here (wants {card.wants})" if card.wants else "not run here")
    if card.compare == "sign":
        same = outcome.value * card.published > 0 and abs(outcome.value) > ERRORS * outcome.error
        return Verdict("same sign" if same else "not the same sign", same)
    difference = outcome.value - card.published
    if abs(difference) <= card.tolerance + ERRORS * outcome.error:
        return Verdict("within error", True)
    return Verdict(f"{'above' if difference > 0 else 'below'} by {abs(difference):.3g}", False)


def moved(card: Card, recorded: Outcome | None, value: float) -> str | None:
    """A sentence where a number computed anew is not the golden one; None where it is, or there is none."""
    if recorded is None or abs(value - recorded.value) <= card.golden.tolerance:
        return None
    return (
        f"{card.name}: {value:.8g} where {recorded.value:.8g} was recorded on {recorded.date} with torch "
        f"{recorded.versions.get('torch')}; they may differ by {card.golden.tolerance:g}."
    )


@dataclass(frozen=True)
class Outcomes:
    """All that was recorded.

    Args:
        whole: Outcomes of the commands, by card.
        short: Outcomes of the shortened commands.
    """

    whole: Mapping[str, Outcome] = field(default_factory=dict)
    short: Mapping[str, Outcome] = field(default_factory=dict)

    @classmethod
    def recorded(cls, path: Path = OUTCOMES) -> "Outcomes":
        """The outcomes in the file."""
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        parts = {part: content.get(part, {}) for part in ("whole", "short")}
        return cls(**{part: {name: _outcome(each) for name, each in found.items()} for part, found in parts.items()})

    def golden(self, card: Card) -> Outcome | None:
        """The outcome that tests hold fast."""
        return (self.short if card.golden.words else self.whole).get(card.name)

    def with_further(self, whole: Mapping[str, Outcome], short: Mapping[str, Outcome]) -> "Outcomes":
        """These and others, which take the place of earlier ones of the same cards."""
        return Outcomes({**self.whole, **whole}, {**self.short, **short})

    def write(self, path: Path = OUTCOMES) -> None:
        """Write the file, cards in their order."""
        parts = {"whole": self.whole, "short": self.short}
        content = {part: {name: asdict(found[name]) for name in sorted(found)} for part, found in parts.items()}
        write_json(path, content)


def _outcome(content: Mapping[str, Any]) -> Outcome:
    return Outcome(**{**content, "words": tuple(content["words"])})


@cache
def cards(path: Path = FACTS) -> Mapping[str, Card]:
    """All cards, by name, in the order of the file."""
    return {name: _card(name, facts) for name, facts in read_values(path).items()}


def _card(name: str, facts: Mapping[str, Any]) -> Card:
    golden = facts["golden"]
    return Card(
        **{
            **facts,
            "name": name,
            "commands": tuple(facts["commands"]),
            "score": Score(**facts["score"]),
            "golden": Golden(golden["tolerance"], tuple(map(tuple, golden.get("words", ())))),
        }
    )


def chosen(names: Sequence[str]) -> list[Card]:
    """The cards of these names.

    Raises:
        UserError: If there is no such card.
    """
    known = cards()
    for name in names:
        if name not in known:
            raise UserError(f"There is no card {name}; {nearest(name, known)}")
    return [known[name] for name in names]
