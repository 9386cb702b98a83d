"""Scores as they stand in ``result.json``: numbers with their errors and kinds, whatever else the file holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from taut.report.numbers import ceiled, floored
from taut.report.read.files import number, part, whole, word
from taut.report.tables.training import CRITERIA

KINDS = ("exact", "lower", "upper", "estimate")
PARTS = ("amortisation", "approximation")
TOLERANCE = "tolerance_lower"
"""Name of the lower end that draws to a tolerance give."""
LONGEST = 400
"""Letters of a sentence that are kept."""


@dataclass(frozen=True)
class Score:
    """One number in nats per datum.

    Args:
        value: The mean over the data.
        error: Its standard error over the data, or None where it is not known.
        noise: Its Monte Carlo standard error at fixed data, or None.
        kind: ``exact``, ``lower``, ``upper`` or ``estimate``.
        k: Importance samples it rests on, or None.
        doubts: Why its estimator is not to be trusted, in few words.
    """

    value: float
    error: float | None = None
    noise: float | None = None
    kind: str = "estimate"
    k: int | None = None
    reliability_warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, value: Any, kind: str | None = None) -> "Score | None":
        """Score as a file gives it; ``None`` where it gives no finite number, or says that the score is void."""
        value = value if isinstance(value, Mapping) else {}
        found, said = number(value.get("value")), kind or word(value.get("kind"))
        if found is None or void_of(value):
            return None
        return cls(
            found,
            _error(value.get("standard_error")),
            _error(value.get("monte_carlo_error")),
            said if said in KINDS else "estimate",
            whole(value.get("k")),
            tuple(_sentences(value.get("doubts"))),
        )


def void_of(value: Any) -> str:
    """Reason why a score is void: it broke an inequality that holds for every right one. Empty where it is not."""
    return word(value.get("void"), LONGEST) if isinstance(value, Mapping) else ""


@dataclass(frozen=True)
class Bracket:
    """Range of a number: a point, an interval, or at least ``low``.

    Args:
        low: Its lower end; itself where ``exact``.
        high: Its upper end, or None where nothing bounds it from above.
        exact: Whether it is known.
        lower: Name of the estimator that ``low`` comes from.
        upper: Name of the one that ``high`` comes from.
    """

    low: Score
    high: Score | None = None
    exact: bool = False
    lower: str = ""
    upper: str = ""

    @property
    def ceiling(self) -> Score | None:
        """Number that it certainly does not exceed."""
        return self.low if self.exact else self.high

    @classmethod
    def of(cls, value: Mapping[str, Any], *, exact: bool | None = None) -> "Bracket | None":
        """Gap, or a part of it, as a file gives it."""
        known = value.get("exact") is True if exact is None else exact
        low, high = (Score.of(value.get(end), kind) for end, kind in (("low", "lower"), ("high", "upper")))
        names = word(value.get("lower")), word(value.get("upper"))
        return None if low is None else cls(low, None if known else high, known, *names)

    @classmethod
    def at_least(cls, score: Score | None, name: str = "") -> "Bracket | None":
        """Range that one score alone gives: itself if it is exact, else a lower end."""
        if score is None or score.kind not in ("exact", "lower"):
            return None
        return cls(score, exact=score.kind == "exact", lower=name)


@dataclass(frozen=True)
class Apart:
    """The gap of a split in its two parts.

    Args:
        n: Data it was taken apart for.
        amortisation: What the encoder loses.
        approximation: What the family loses.
        settled: Share of the data for which two starts of the search agree, or None.
    """

    n: int | None
    amortisation: Score
    approximation: Bracket
    settled: float | None

    @classmethod
    def of(cls, value: Any) -> "Apart | None":
        """Decomposition of the gap on a split, as ``evaluation/result.json`` gives it."""
        value = value if isinstance(value, Mapping) else {}
        amortisation = Score.of(value.get("amortisation"))
        approximation = Bracket.of(part(value, "approximation"), exact=value.get("exact") is True)
        if amortisation is None or approximation is None:
            return None
        return cls(whole(value.get("n")), amortisation, approximation, number(value.get("settled")))


@dataclass(frozen=True)
class Scores:
    """Scores of one evaluation, or of the test at the end of a run.

    Args:
        about: What the scores are of and how they were made, in words.
        key: The words that comparable scores have in common.
        elbo: The bound at K = 1.
        log_px: Where log p(x) lies.
        gap: log p(x) - ELBO.
        bound: The bound at the K of training.
        others: Further scores by name.
        apart: The gap in parts, by split.
        doubts: Reasons not to trust them.
        table: The file with the values of every datum, inside the run folder; empty where there is none.
        voids: By score, why it is void: it is then none of the above, and nothing that rests on it is.
        broken: All sentences about what is void.
        limits: Floors and caps that bind, in sentences: the scores depend on them.
        converged: Whether the training reached its tolerance; None where nothing is said of it.
        criteria: Information criteria of the training rows, ``bic``, ``aic``, ``icl``, by name; lower is better.
        fitted: Rows those are of, or None.
    """

    about: Mapping[str, str]
    key: Mapping[str, str]
    elbo: Score | None
    log_px: Bracket | None
    gap: Bracket | None
    bound: Score | None = None
    others: Mapping[str, Score] = field(default_factory=dict)
    apart: Mapping[str, Apart] = field(default_factory=dict)
    reliability_warnings: tuple[str, ...] = ()
    table: str = ""
    voids: Mapping[str, str] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    converged: bool | None = None
    criteria: Mapping[str, float] = field(default_factory=dict)
    fitted: int | None = None

    @classmethod
    def tested(cls, result: Mapping[str, Any]) -> "Scores | None":
        """The scores of ``result.json``; ``None`` where it has none."""
        known, voids = _known(part(result, "scores"))
        rests_on = voids.get("log_px") or voids.get("elbo")
        if rests_on:
            voids.setdefault("gap", rests_on)
        if not {*known, *voids} & {"elbo", "bound", "log_px", "gap"}:
            return None
        log_px, gap = (Bracket.at_least(known.get(name), name) for name in ("log_px", "gap"))
        criteria = {name: number(part(result, "criteria").get(name)) for name in CRITERIA}
        return cls(
            _about(result, TESTED),
            key_of(result, TESTED),
            known.get("elbo"),
            log_px,
            None if "gap" in voids else gap,
            known.get("bound"),
            known,
            reliability_warnings=tuple(_sentences(result.get("warnings"))),
            voids=voids,
            broken=_broken(result, voids),
            limits=tuple(_sentences(result.get("limits"))),
            converged=result["converged"] if isinstance(result.get("converged"), bool) else None,
            criteria={} if "log_px" in voids else {name: one for name, one in criteria.items() if one is not None},
            fitted=whole(part(result, "criteria").get("n")),
        )

    @classmethod
    def evaluated(cls, result: Mapping[str, Any], table: str) -> "Scores | None":
        """The scores of ``evaluation/result.json``; ``None`` where it has none."""
        known, voids = _known(part(result, "evidence"))
        if not known and not voids:
            return None
        told, missed = part(result, "gap"), _missed(part(result, "tolerance"))
        if missed:
            known |= {
                name: replace(score, reliability_warnings=(*score.reliability_warnings, missed))
                for name, score in known.items()
                if name == TOLERANCE
            }
        gap, log_px = _ends(told, known, voids)
        voids |= _resting(result, voids)
        listed = [*_sentences(result.get("warnings")), *_sentences(result.get("gap_warnings"))]
        splits = {word(name): Apart.of(value) for name, value in part(result, "apart").items()}
        return cls(
            _about(result, EVALUATED),
            key_of(result, EVALUATED),
            known.get("elbo"),
            log_px,
            None if "gap" in voids else gap,
            None,
            known,
            {name: one for name, one in splits.items() if one is not None},
            tuple(listed),
            table,
            voids,
            _broken(result, voids),
            tuple(_sentences(result.get("limits"))),
        )


PROBLEM = ("data", "binarisation", "mask", "cells", "measure", "data_digest", "held_out", "split", "n")
"""What scores must have in common to be compared: the quantity, and the rows and columns it is of."""
TESTED = (*PROBLEM, "k_test")
EVALUATED = (*PROBLEM, "k", "estimators")
TOLD = ("likelihood", "families", "precision", "other_data")
"""Settings that comparable scores may differ in: scores are computed in float32 or float64, whatever the precision of
training, and what float32 rounds is below what is shown."""
MASSES = ("bernoulli", "categorical", "discretised_logistic", "negative_binomial", "poisson")
"""Likelihoods that are probability masses of x."""
DENSITIES = ("beta", "component", "continuous_bernoulli", "factor", "gaussian", "laplace", "linear", "student_t")
"""Likelihoods that are densities of x, in the units of its columns."""


def key_of(result: Mapping[str, Any], names: Sequence[str] = EVALUATED) -> dict[str, str]:
    """The words that comparable scores have in common.

    Args:
        result: What a training or an evaluation wrote.
        names: What is asked of it, ``TESTED`` or ``EVALUATED``.
    """
    words = {name: word(result.get(name)) or "unknown" for name in names}
    words["measure"] = _measure(result)
    if "estimators" in names:
        words["estimators"] = _estimators(result)
    return words


def _measure(result: Mapping[str, Any]) -> str:
    """Reference measure of log p(x): two densities of the same columns have one unit, a density and a mass have not.

    By the name of the likelihood, since evaluations of older versions say no more; a likelihood from elsewhere says it
    itself.
    """
    likelihood, families = word(result.get("likelihood")), result.get("families")
    if isinstance(families, Mapping) and families:
        masses = [word(name) for name, family in families.items() if word(family).split(" ")[0] in MASSES]
        if 0 < len(masses) < len(families):
            return f"mass of {', '.join(masses)} and density of the other columns"
        return "mass" if masses else "density"
    if likelihood == "self_masking":
        return "density of the cells and mass of which of them are missing"
    if likelihood in MASSES or likelihood in DENSITIES:
        return "mass" if likelihood in MASSES else "density"
    return word(result.get("measure")) or f"that of likelihood={likelihood or 'unknown'}"


def _about(result: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    words = {name: word(result.get(name)) or "unknown" for name in (*names, *TOLD) if name != "measure"}
    return words | {"families": _settings(result.get("families")), "estimators": _estimators(result)}


def _estimators(result: Mapping[str, Any]) -> str:
    return "; ".join(f"{word(name)} {_settings(told)}".strip() for name, told in _told(result))


def _told(result: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return list(part(result, "estimators").items())


def _settings(told: Any) -> str:
    items = told.items() if isinstance(told, Mapping) else ()
    return ", ".join(f"{word(name)}={word(value)}" for name, value in items if value is not None)


def _known(told: Mapping[str, Any]) -> tuple[dict[str, Score], dict[str, str]]:
    """The scores that hold, and why the others are void."""
    found = {word(name): Score.of(value) for name, value in told.items()}
    voids = {word(name): sentence for name, value in told.items() if (sentence := void_of(value))}
    return {name: score for name, score in found.items() if score is not None}, voids


def _ends(
    told: Mapping[str, Any], known: Mapping[str, Score], voids: Mapping[str, str]
) -> tuple[Bracket | None, Bracket | None]:
    """The brackets of the gap and of log p(x), without an upper end that is void."""
    gap, low = Bracket.of(told), known.get(word(told.get("lower")))
    if gap is not None and gap.upper in voids:
        gap = replace(gap, high=None, upper="")
    if gap is None or low is None:
        return gap, None
    return gap, Bracket(low, None if gap.exact else known.get(gap.upper), gap.exact, gap.lower, gap.upper)


def _missed(told: Mapping[str, Any]) -> str:
    """Say that a tolerance was not reached, and the bracket that was; empty where it was, or none was asked for."""
    low, high = number(told.get("low")), number(told.get("high"))
    if told.get("reached") is not False or low is None or high is None:
        return ""
    return f"not reached, the mean log p(x) lies in [{floored(low)}, {ceiled(high)}]"


def _resting(result: Mapping[str, Any], voids: Mapping[str, str]) -> dict[str, str]:
    """Parts of an evaluation that are void by what they rest on: ``log_px``, ``gap``, ``apart <split>``; and why."""
    told, said = part(result, "gap"), _sentences(result.get("void"))
    lower = voids.get(word(told.get("lower")), "")
    missing = "" if told else next(iter([*voids.values(), *said]), "")
    parts = {
        f"apart {word(split)}": next(filter(None, map(void_of, (value, *(part(value, name) for name in PARTS)))), "")
        for split, value in part(result, "apart").items()
    }
    found = {"log_px": lower or missing, "gap": void_of(told) or lower or missing or voids.get("elbo", ""), **parts}
    return {name: sentence for name, sentence in found.items() if sentence}


def _broken(result: Mapping[str, Any], voids: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*voids.values(), *_sentences(result.get("void"))]))


def _sentences(value: Any) -> list[str]:
    return [word(one, LONGEST) for one in value if word(one)][:50] if isinstance(value, list) else []


def _error(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and found >= 0 else None
