"""Cards as a reader sees them: the table on the terminal, one card in full, and the page of the documentation."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from rich.console import Group, RenderableType
from rich.text import Text

from taut.commands.cards.card import Card, Outcome, Outcomes, Verdict, verdict
from taut.report.tables.table import new_table

BEGIN, END = "<!-- taut cards to=docs/cards.md -->", "<!-- end of the cards -->"
"""Comments between which a page holds the cards."""
COLUMNS = ("card", "published", "ours", "within error?", "minutes", "last run")
MARK = "*"
"""Behind a number of a run whose settings are not those of its card."""
STYLES = {True: "green", False: "bold red", None: "dim"}


def table(cards: Iterable[Card], outcomes: Outcomes) -> RenderableType:
    """All cards, a line for each."""
    grid = new_table("published numbers, and ours", padding=0)
    # 80 columns cut no name, by which a card is typed; when and where it last ran stands in the card and on the page
    for name in COLUMNS[:-1]:
        number = name in ("published", "ours", "minutes")
        whole = len(name) if name == "within error?" else None
        grid.add_column(name, justify="right" if number else "left", no_wrap=number or name == "card", min_width=whole)
    others = False
    for card in cards:
        outcome = outcomes.whole.get(card.name)
        said = verdict(card, outcome)
        others |= bool(outcome and outcome.words)
        *cells, words, minutes, _ = _cells(card, outcome, said)
        grid.add_row(*cells, Text(words, STYLES[said.agrees]), minutes)
    notes = [f"{MARK} of other settings than those of the card; taut cards <card> shows them"] if others else []
    return Group(
        grid,
        *(Text(note, "dim") for note in notes),
        Text("taut cards <card> shows its command, and when and where it last ran", "dim"),
    )


def _cells(card: Card, outcome: Outcome | None, said: Verdict) -> list[str]:
    ours = "" if outcome is None else ours_of(card, outcome) + (MARK if outcome.words else "")
    last = "" if outcome is None else f"{outcome.date}, torch {outcome.versions.get('torch', '?')}"
    return [card.name, card.digits, ours, said.words, f"{card.minutes:g}", last]


def ours_of(card: Card, outcome: Outcome) -> str:
    """Our number with as many decimals as the published one, or as its error has, and that error."""
    decimals = max(3, -int(Decimal(card.digits).as_tuple().exponent))
    if outcome.error == 0:
        return f"{outcome.value:.{decimals}f}"
    decimals = max(3, min(decimals, -(Decimal(f"{outcome.error:.1g}").adjusted()) + 1))
    return f"{outcome.value:.{decimals}f} ± {outcome.error:.{decimals}f}"


def facts(card: Card, outcomes: Outcomes) -> list[tuple[str, str]]:
    """All that is known of a card, as pairs of a word and what it stands for."""
    outcome = outcomes.whole.get(card.name)
    said = verdict(card, outcome)
    pairs = [
        ("source", card.source),
        ("row", card.row),
        ("published", f"{card.digits}, {card.unit}"),
        (
            "tolerance",
            f"{card.tolerance:g}: {card.because}" if card.compare == "value" else f"the sign: {card.because}",
        ),
        ("command", " && ".join(typed(card))),
        ("budget", f"{card.minutes:g} minutes" + (f"; wants {card.wants}" if card.wants else "")),
    ]
    if outcome is None:
        return [*pairs, ("ours", said.words)]
    also = [("other settings", " ".join(outcome.words))] if outcome.words else []
    return [*pairs, ("ours", f"{ours_of(card, outcome)}: {said.words}"), *also, *_circumstances(outcome)]


def _circumstances(outcome: Outcome) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {version}" for name, version in outcome.versions.items())
    return [
        ("last run", f"{outcome.date}, {outcome.machine}"),
        ("versions", versions),
        ("data", f"SHA-256 {outcome.digest}" if outcome.digest else "none"),
        ("seed", str(outcome.seed)),
    ]


def typed(card: Card) -> list[str]:
    """The commands as a user types them."""
    return [f"taut {command}".replace("{run}", "outputs/runs/<run>") for command in card.commands]


def details(card: Card, outcomes: Outcomes) -> RenderableType:
    """One card in full."""
    grid = new_table(Text(card.name, "bold"), show_header=False)
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for word, said in facts(card, outcomes):
        grid.add_row(word, Text(said))
    return grid


def page(cards: Sequence[Card], outcomes: Outcomes) -> str:
    """The cards in Markdown: the table, and below it every card in full."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for card in cards:
        outcome = outcomes.whole.get(card.name)
        name, *cells = _cells(card, outcome, verdict(card, outcome))
        lines.append(f"| {' | '.join([f'[`{name}`](#{name})', *map(_escaped, cells)])} |")
    for card in cards:
        lines += ["", f"### {card.name}", "", "| | |", "|---|---|"]
        lines += [f"| {word} | {_marked(word, said)} |" for word, said in facts(card, outcomes)]
    return "\n".join(lines)


def _marked(word: str, said: str) -> str:
    return f"`{said}`" if word in ("command", "other settings", "seed") else _escaped(said)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
