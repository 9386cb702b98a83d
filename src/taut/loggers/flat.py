"""The numbers of an evaluation under the flat names of a W&B summary."""

from collections.abc import Mapping
from typing import Any


def flat(result: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Every number that the tables of an evaluation show, and the words for those that cannot be trusted."""
    numbers = _section(result, place)
    if result.get("simulated"):
        numbers |= _section(result["simulated"], f"{place}/simulated")
    for split, parts in result["apart"].items():
        numbers |= _score(parts["amortisation"], f"{place}/{split}/amortisation")
        for end in ("low", "high"):
            numbers |= _score(parts["approximation"][end], f"{place}/{split}/approximation/{end}")
        numbers[f"{place}/{split}/settled"] = parts["settled"]
    return numbers


def _section(result: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What was found on one set of data, and where the best bounds put log p(x) and the gap."""
    gap, evidence = result["gap"], result["evidence"]
    numbers = {}
    for name in ("certificate", "upper_certificate"):
        numbers |= _score(result.get(name), f"{place}/{name}")
    for name, score in evidence.items():
        numbers |= _score(score, f"{place}/{name}")
        medians = {of: one["median"] for of, one in score["diagnostics"].items()}
        numbers |= _known({f"{place}/{name}/{of}": median for of, median in medians.items()})
    for end, name in (("low", gap["lower"]), ("high", gap["upper"])):
        numbers |= _score(gap[end], f"{place}/gap/{end}")
        numbers |= _known({f"{place}/bracket/{end}": evidence[name]["value"] if gap[end] else None})
    return numbers


def _score(score: Mapping[str, Any] | None, place: str) -> dict[str, Any]:
    """A number with its errors, kind, K and confidence, as far as it has them; doubts in words."""
    if score is None:
        return {}
    parts = ("standard_error", "monte_carlo_error", "kind", "k", "confidence")
    found = {place: score["value"], **{f"{place}/{part}": score.get(part) for part in parts}}
    return _known({**found, f"{place}/doubts": "; ".join(score.get("doubts", ())) or None})


def _known(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is None or NaN."""
    return {name: number for name, number in numbers.items() if number is not None and number == number}
