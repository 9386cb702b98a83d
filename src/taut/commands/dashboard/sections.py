"""The dashboard: five questions about bounds, and the panels that answer each."""

from collections.abc import Sequence
from dataclasses import dataclass

from taut.commands.dashboard.charts import TRUSTED_KHAT, GapAgainstK, Interval, KhatHistogram, Stacked
from taut.commands.dashboard.panels import NATS, Bars, Differences, K, Lines, Panel, Parallel, Picture, Points
from taut.config.program import typed

EVALUATED = "evaluation/test"
"""Place of the default evaluation of the test split (``evaluate.py``) in a record."""
TABLES = f"tables/{EVALUATED}"
BOUND, GAP, LOG_PX = "summary:val/bound.max", "summary:test/gap", "summary:test/log_px"
PER_ROW = 4
"""Panels of width 1 in a row."""


@dataclass(frozen=True)
class Section:
    """One question.

    Args:
        question: The question.
        reading: How to read the answers: what is a bound, what is an error, when not to believe them.
        panels: The answers.
    """

    question: str
    reading: str
    panels: Sequence[Panel]

    @property
    def rows(self) -> Sequence[Sequence[Panel]]:
        """The panels as they lie beside one another, in their order."""
        rows: list[list[Panel]] = [[]]
        for panel in self.panels:
            if sum(one.width for one in [*rows[-1], panel]) > PER_ROW:
                rows.append([])
            rows[-1].append(panel)
        return rows


TIGHT = Section(
    "Is the bound tight?",
    "The gap is log p(x) - ELBO, in nats per datum. A bar goes from the best lower to the best upper bound of it, and "
    "the gap lies in between; whiskers are one standard error over the data. An arrow has no upper bound: the gap is "
    "at least that. On the diagonal of upper against lower bound nothing is left open. Do not compare runs of other "
    "data or binarisations.",
    [
        Interval("the gap lies between", f"{TABLES}/bounds", "gap_low", "gap_high"),
        Interval("log p(x) lies between", f"{TABLES}/bounds", "log_px_low", "log_px_high"),
        Points(
            "upper against lower bound of log p(x)",
            f"summary:{EVALUATED}/bracket/high",
            f"upper, {NATS}",
            f"summary:{EVALUATED}/bracket/low",
            f"lower, {NATS}",
        ),
        Lines("gap while training, at least", {"val/gap": "gap"}),
    ],
)
SOURCE = Section(
    "Where does the gap come from?",
    "Approximation is what the best q of the family leaves, at least as much as is drawn where log p(x) is bounded; "
    "amortisation is what the encoder falls short of it. KL(q(z|x) || p(z)) is I(x; z), what z tells about x, and "
    "KL(q(z) || p(z)), how far all z together are from the prior. Do not believe parts whose search has not settled.",
    [
        Stacked("parts of the gap", f"{TABLES}/gap_parts"),
        Stacked("parts of the KL", f"{TABLES}/kl_parts"),
        Bars("active units", {"test/active_units": "active"}, "latents"),
        Lines("parts of the ELBO", {"val/reconstruction": "reconstruction", "val/kl": "KL"}),
    ],
)
MORE_SAMPLES = Section(
    "Does K help?",
    "K is the number of samples of the training bound. Every point is a run at its own K; lines join the means over "
    "seeds at one K, never over K, and the whiskers are one standard error over seeds. A gap that rests on a lower "
    "bound of log p(x) is one from below, so a smaller one may be a looser bound.",
    [
        GapAgainstK("gap against K", "tables/gap"),
        Points("log p(x) against K", LOG_PX, f"at least, {NATS}"),
        Lines("gap left with K samples at the test", {"curve/left": "left"}, x="curve/k", x_name="K of the test"),
        Points("time of the training against K", "summary:seconds/fit", "seconds"),
    ],
)
BETTER = Section(
    "Which run is better?",
    "A larger lower bound of log p(x) is better on the same data; a smaller gap alone is not, for a poor model may "
    "have a tight bound. Whiskers are one standard error over the data, which moves all runs alike: they may overlap "
    f"where one run is better, and `{typed('report')} <folder>` tests it.",
    [
        Interval("from the ELBO to log p(x), at least", "tables/gap", "elbo", "log_px", width=2),
        Lines("bound on the validation split, at the K of training", {"val/bound": "bound"}, width=2),
        Parallel(
            "every run through prior, q, K, its bound and its gap",
            {
                "model": "config:choices.model",
                "prior": "config:choices.prior",
                "q": "config:choices.q",
                "K": K,
                "validation bound": BOUND,
                "log p(x)": LOG_PX,
                "gap": GAP,
            },
        ),
        Picture("data, reconstructions, samples", "pictures/images_test"),
        Picture("completions", "pictures/completion/completions"),
        Differences("settings that differ"),
    ],
)
WRONG = Section(
    "Did anything go wrong?",
    f"Weights with a k-hat above {TRUSTED_KHAT} have no mean to be trusted: the bound still holds, but log p(x) may be "
    "far above it. A small effective sample size says the same, and so do bounds that cross. What ended a failed run "
    "stands in the column `failure` of the list of runs, and what warnings say in `test/warnings/said`.",
    [
        KhatHistogram("k-hat of the data", f"{TABLES}/khat"),
        Points("median k-hat against K", "summary:test/khat", "k-hat"),
        Bars(
            f"data with a k-hat above {TRUSTED_KHAT}",
            {f"{EVALUATED}/importance/khat/untrusted": "above"},
            "share of the data",
        ),
        Lines("effective sample size", {"val/ess": "size"}, "samples"),
        Picture("every estimator of log p(x)", f"pictures/{EVALUATED}/bracket"),
        Bars("warnings", {"test/warnings": "test", f"{EVALUATED}/warnings": "evaluation"}, "number"),
        Lines("throughput of the training", {"speed/rows_per_second": "speed"}, "rows per second"),
    ],
)
SECTIONS = (TIGHT, SOURCE, MORE_SAMPLES, BETTER, WRONG)

COLUMNS = ("run:state", "config:k.value", "config:seed.value", "summary:test/gap", "summary:test/log_px")
COLUMNS += ("summary:val/bound.max", "summary:test/warnings", "summary:failure")
"""Columns of the list of runs."""
