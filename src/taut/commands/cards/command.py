"""``taut cards``: published numbers, the commands that give ours, and whether they agree."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taut.commands.cards.card import OUTCOMES, Card, Outcome, Outcomes, cards, chosen, moved, verdict
from taut.config.program import REPOSITORY, conf, ended
from taut.errors import UserError, nearest

HELP = """\
Published numbers, the commands that give ours, and whether they agree.

  taut cards                                 the table
  taut cards <card> ...                      one card in full, with its command
  taut cards recompute=true                  run all that take less than a minute, and say whether they agree
  taut cards <card> ... recompute=true       run these, however long they take
  taut cards <card> ... recompute=short      run a short version of these, and compare it with its golden value
  taut cards <card> run=<run folder>         hold a run of yours against the card

In the repository, record=true beside recompute= or run= keeps what was found (machine="1 NVIDIA H200" says where a run
was made, if not here), and taut cards to=docs/cards.md writes the table into a page.
"""
KEYS = ("recompute", "run", "record", "machine", "to")


@dataclass(frozen=True)
class Asked:
    """The cards and keys that the words of the command name.

    Args:
        cards: The cards that were named.
        keys: The values of ``KEYS``.
    """

    cards: list[Card] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, words: Sequence[str]) -> "Asked":
        """Read the words.

        Raises:
            UserError: If one of them is unknown, or they do not go together.
        """
        keys = dict(word.split("=", 1) for word in words if "=" in word)
        for key, value in keys.items():
            if key not in KEYS:
                raise UserError(f"There is no word {key}= of taut cards; {nearest(key, KEYS)}")
            if not value:
                raise UserError(f"{key}= is empty; see taut cards --help.")
        asked = cls(chosen([word for word in words if "=" not in word]), keys)
        asked.check()
        return asked

    def check(self) -> None:
        """Refuse words that do not go together, before anything is run."""
        keys = self.keys
        for key, allowed in (("recompute", ("true", "short")), ("record", ("true",))):
            if key in keys and keys[key] not in allowed:
                raise UserError(f"{key} must be {' or '.join(allowed)}, got {keys[key]}; leave it out otherwise.")
        if "run" in keys and "recompute" in keys:
            raise UserError("run= reads a run and recompute= makes one; leave one of them out.")
        if "run" in keys and len(self.cards) != 1:
            raise UserError("run= is held against one card; name it: taut cards <card> run=<run folder>.")
        if "to" in keys and (len(keys) > 1 or self.cards):
            raise UserError("to= writes the page of all cards and goes with no other word.")
        if ("record" in keys or "machine" in keys) and not {"run", "recompute"} & keys.keys():
            raise UserError("record= and machine= go with run= or recompute=; add one of these.")
        if "machine" in keys and "run" not in keys:
            raise UserError("machine= says where a run was made, and goes with run=; what is recomputed runs here.")
        if "record" in keys and conf() != REPOSITORY / "conf":
            raise UserError("record=true writes into the repository of taut; leave it out of an installed taut.")
        if keys.get("recompute") == "short" and (whole := [card.name for card in self.cards if not card.golden.words]):
            raise UserError(f"{whole[0]} is short as it is; use recompute=true.")


def main(words: Sequence[str]) -> int:
    """The exit code: 0, 1 where a number that was computed does not agree, 2 for a mistake in the command."""
    return ended(lambda: _run(words))


def _run(words: Sequence[str]) -> int:
    if words and words[0] in ("--help", "-h"):
        print(HELP, end="")
        return 0
    asked, outcomes = Asked.of(words), Outcomes.recorded()
    if place := asked.keys.get("to"):
        _write_page(Path(place).expanduser(), outcomes)
        return 0
    if {"run", "recompute"} & asked.keys.keys():
        return _compute(asked, outcomes)
    _show(asked.cards, outcomes)
    return 0


def _show(named: Sequence[Card], outcomes: Outcomes) -> None:
    # here, so that --help and a mistake in the command answer at once
    from rich.console import Console

    from taut.commands.cards.show import details, table

    console = Console()
    for shown in [details(card, outcomes) for card in named] or [table(cards().values(), outcomes)]:
        console.print(shown)


def _write_page(path: Path, outcomes: Outcomes) -> None:
    from taut.commands.cards.show import BEGIN, END, page
    from taut.files import write_atomically

    text = path.read_text(encoding="utf-8") if path.is_file() else f"{BEGIN}\n{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"to={path} has no place for the cards; put the lines {BEGIN} and {END} into it.")
    write_atomically(path, f"{before}{BEGIN}\n\n{page(list(cards().values()), outcomes)}\n\n{END}{after}")
    print(path)


def _compute(asked: Asked, outcomes: Outcomes) -> int:
    short, agree = asked.keys.get("recompute") == "short", True
    for card, outcome in _found(asked, short=short):
        golden = outcomes.golden(card) if short or not card.golden.words else None
        agree &= _told(card, outcome, golden, short=short)
        if "record" in asked.keys:
            # one after another: a card that fails later takes nothing from those before it
            found = {card.name: outcome}
            Outcomes.recorded().with_further(*(({}, found) if short else (found, {}))).write()
    if "record" in asked.keys:
        print(f"{OUTCOMES}; taut cards to=docs/cards.md writes the page anew")
    return 0 if agree else 1


def _found(asked: Asked, *, short: bool) -> Iterable[tuple[Card, Outcome]]:
    # here: what starts processes, or looks for a GPU
    from taut.commands.cards.compute import computed, outcome_of

    if place := asked.keys.get("run"):
        (card,) = asked.cards
        return [(card, outcome_of(card, Path(place).expanduser(), machine=asked.keys.get("machine")))]
    return computed(asked.cards or _default(short), short=short)


def _default(short: bool) -> list[Card]:
    return [card for card in cards().values() if (card.golden.words if short else card.quick)]


def _told(card: Card, outcome: Outcome, golden: Outcome | None, *, short: bool) -> bool:
    """Print what was found; false where it does not agree with what was published, or was recorded."""
    from taut.commands.cards.show import ours_of

    said, change = verdict(card, outcome), moved(card, golden, outcome.value)
    against = "" if short else f", published {card.digits}: {said.words}"
    print(f"{card.name}: {ours_of(card, outcome)}{against}", flush=True)
    if change:
        print(change, flush=True)
    return change is None and (short or said.agrees is not False)
