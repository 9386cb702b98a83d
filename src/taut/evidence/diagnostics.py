"""Reasons in words to distrust the value of an estimator, or a model that does not use its latents."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from taut.evidence.log_evidence import LogEvidence
from taut.evidence.weights import FEWEST

MAX_BAD_SHARE = 0.1
"""Share of the data that may have bad weights before the mean over all is doubted."""
MAX_KHAT = 0.7
"""Shape of the tail above which weights have no finite variance (Vehtari et al., 2024)."""
MIN_ESS, MIN_CHAINS = 10.0, 2.0
"""Effective number of samples, and of annealed chains, below which few decide."""
MAX_WEIGHT = 0.5
"""Normalised weight above which one sample decides."""
MAX_BIAS = 0.5
"""Nats by which a bias correction may move importance sampling."""
MAX_CORRECTION = 1.0
"""Nats of E[Y/X] - 1 above which Struski's bound says little."""
MAX_MISSED = 0.1
"""Share of the posterior that q may miss."""
ACCEPTANCE = (0.3, 0.95)
"""Range of HMC's acceptance where the tuning has settled."""
ACTIVE = 1e-2
"""A latent unit is active where Var_x(E_q[z]) exceeds this (Burda et al., 2016)."""
REMEDY = (
    " Annealed chains do not rest on q alone: 'evidence=[importance,ais,struski]' limit=50 runs them, about a second "
    "per datum."
)
"""The way out of weights of q without a variance, behind a sentence about them."""
MIN_ACTIVE_SHARE = 0.1
"""Share of the latent units below which the posterior is said to have collapsed."""


class ReliabilityWarning(NamedTuple):
    """A reason for distrust.

    Args:
        short: Two to five words for a table.
        text: What it is and what it means.
        name: The estimator it is about.
        softened: What is left of it where log p(x) lies between bounds that are as good as one; empty where all is.
            Only what annealed chains help against has such words.
    """

    short: str
    text: str
    name: str
    softened: str = ""


def reliability_warnings(evidence: LogEvidence) -> list[ReliabilityWarning]:
    """Every reason to doubt that the value is near log p(x), the gravest first; none is the good case.

    A lower bound with bad weights is still a lower bound: what is in doubt is its distance to log p(x).
    """
    reasons = [*_infinite(evidence), *_missed(evidence), *_weights(evidence), *_chains(evidence), *_tails(evidence)]
    return [ReliabilityWarning(short, text, evidence.name, *softened) for short, text, *softened in reasons]


def warning_sentences(evidence: Sequence[LogEvidence], *, annealable: bool, closed: bool = False) -> list[str]:
    """Every reason once, behind the names of all estimators that it holds for.

    Args:
        evidence: Estimators of the same data.
        annealable: Whether chains may be annealed, which is advised where none were.
        closed: Whether the best lower and upper bound are as good as one: nearer than the data leave either known.
    """
    names: dict[str, list[str]] = {}
    advice = REMEDY if annealable and not any(_of_chains(one) for one in evidence) else ""
    for one in evidence:
        for warning in reliability_warnings(one):
            text = warning.softened if closed and warning.softened else warning.text
            text += advice if warning.softened else ""
            names.setdefault(text, []).append(warning.name)
    return [f"{_together(who)}: {text}" for text, who in names.items()]


def _of_chains(one: LogEvidence) -> bool:
    """Tell whether chains were annealed, which a bracket to a tolerance does where the weights of q are poor."""
    return "acceptance" in one.diagnostics or one.name.startswith("tolerance")


def _together(names: Sequence[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def collapse(active: float, units: int, kl: float) -> str | None:
    r"""Warn of posterior collapse where fewer than a tenth of the latent units are active (Bowman et al., 2016).

    Units of a q that is far narrower than its prior can tell x apart by differences that are too small to count as
    active; a KL of more than a nat for each unit shows that they carry something. None where there is no collapse.

    Args:
        active: Units with $Var_x(E_q[z])$ above 0.01 (Burda et al., 2016).
        units: Number of latent units.
        kl: Mean of $KL(q(z | x) \| p(z))$ in nats.
    """
    if kl > units or active >= max(1.0, MIN_ACTIVE_SHARE * units):
        return None
    verb = "is" if active == 1 else "are"
    return (
        f"posterior collapse: {active:.0f} of {units} latent units {verb} active (Var_x E_q[z] above 0.01); q(z|x) of "
        "the others is about the same for every x, so they carry nothing. What may help: KL warm-up "
        "(callbacks=[default,warmup]), a smaller latent_dim, or objective=iwae k=50."
    )


def _infinite(evidence: LogEvidence) -> list[tuple[str, str]]:
    reasons, value = [], evidence.value
    if lost := int(value.isneginf().sum()):
        reasons.append(("no mass found", f"no sample of {lost} of {len(value)} data had any mass."))
    if lost := int(value.isposinf().sum()):
        short, meaning = "no finite value", "and so is the mean: hardly a sample had mass, or the density has no bound"
        if evidence.kind == "upper":
            short, meaning = "no finite bound", "and bounds nothing there"
        reasons.append((short, f"it is +infinite for {lost} of {len(value)} data, {meaning}."))
    return reasons


def _missed(evidence: LogEvidence) -> list[tuple[str, str]]:
    missed = evidence.diagnostics.get("missed")
    if missed is None or not (alarmed := missed > MAX_MISSED).any():
        return []
    n, share = int(alarmed.sum()), missed[alarmed].mean()
    return [
        (
            "q misses a mode",
            f"q misses a mode of {n} of {len(missed)} data, with {share:.0%} of the posterior on average: every value "
            "that rests on draws of q alone is too low there, upper bounds included.",
        )
    ]


def heavy_tailed(evidence: LogEvidence) -> bool:
    """Tell whether the weights of too many data have no finite variance: its stated error is too small."""
    khat = evidence.diagnostics.get("khat")
    return khat is not None and _share(khat > MAX_KHAT, khat) > MAX_BAD_SHARE


def _weights(evidence: LogEvidence) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    k = evidence.k or 0
    khat, ess, largest = (evidence.diagnostics.get(name) for name in ("khat", "ess", "max_weight"))
    annealed = "acceptance" in evidence.diagnostics
    least = MIN_CHAINS if annealed else MIN_ESS
    if ess is not None and ess.median() < least < k:
        unit = "chains" if annealed else "samples"
        found.append(
            (
                f"ESS {ess.median():.1f}",
                f"the effective sample size is {ess.median():.1f} of {k} {unit} (median over the data).",
            )
        )
    # that of all data together is known for fewer
    if khat is not None and k < FEWEST and bool(khat.isnan().all()):
        found.append(
            (
                f"{k} samples are too few for k-hat",
                f"{k} samples are too few for k-hat ({FEWEST} or more tell it), so nothing says whether the weights "
                "have a variance.",
            )
        )
    if khat is not None and heavy_tailed(evidence):
        share, known = _share(khat > MAX_KHAT, khat), int((~khat.isnan()).sum())
        of = "the data" if known == len(khat) else f"the {known} of {len(khat)} data that have one"
        found.append(
            (
                f"k-hat > 0.7: {share:.0%}",
                f"k-hat is above 0.7 for {share:.0%} of {of}: their weights have no finite variance, so the "
                "value may be far from log p(x) and its stated error is too small.",
                f"k-hat is above 0.7 for {share:.0%} of {of}, yet the bounds from below and from above differ by less "
                "than the error over the data: only a mode that q misses could lie between.",
            )
        )
    if largest is not None and not annealed and _share(largest > MAX_WEIGHT, largest) > MAX_BAD_SHARE:
        share = _share(largest > MAX_WEIGHT, largest)
        found.append(
            ("one sample decides", f"one sample holds more than half of the weight of {share:.0%} of the data.")
        )
    return found


def _chains(evidence: LogEvidence) -> list[tuple[str, str]]:
    acceptance = evidence.diagnostics.get("acceptance")
    if acceptance is None or acceptance.isnan().all():
        return []
    rate, (low, high) = acceptance.nanmean().item(), ACCEPTANCE
    if low <= rate <= high:
        return []
    advice = "the tuning did not settle: take more steps."
    return [(f"acceptance {rate:.2f}", f"HMC accepts {rate:.0%} of its moves, aimed at 65%; {advice}")]


def _tails(evidence: LogEvidence) -> list[tuple[str, str]]:
    correction = evidence.diagnostics.get("correction")
    if correction is not None and correction.isfinite().all() and correction.mean() > MAX_CORRECTION:
        top = correction.sort().values[-max(1, len(correction) // 100) :].sum() / correction.sum()
        worst = "the worst datum" if len(correction) < 200 else "the worst 1% of the data"
        sentence = (
            f"E[Y/X] - 1 is {correction.mean():.3g} nats on average, and {top:.0%} of it comes from {worst}: "
            "the tail is heavy, the stated error too small and the bound loose."
        )
        return [("heavy tail", sentence)]
    bias = evidence.diagnostics.get("bias")
    if evidence.kind == "estimate" and bias is not None and bias.isfinite().all() and -bias.mean() > MAX_BIAS:
        return [
            (
                "large correction",
                f"it moves importance sampling by {-bias.mean():.2f} nats; take more samples.",
            )
        ]
    return []


def _share(bad: Tensor, values: Tensor) -> float:
    known = ~values.isnan()
    return (bad & known).sum().item() / max(1, int(known.sum()))
