"""The panels of the dashboard: five questions about bounds, and what answers each; how they are drawn stands elsewhere.

A panel names what it draws by the keys of a run's record: ``config:<key>``, ``summary:<key>`` (the last value),
``history:<key>`` (every value), ``picture:<key>``, and ``table:<key>:<column>`` for the rows that
``training.loggers.tables`` writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

EVALUATED = "evaluation/test"
"""Place of the default evaluation of the test split (``evaluate.py``) in a record."""
NATS = "nats per datum"
TRUSTED_KHAT = 0.7
"""Largest k-hat of weights whose mean is to be trusted (Vehtari et al., 2024)."""
SERIES = ("model", "prior", "q")
"""Choices that tell lines apart where the axis is K; seeds are repetitions of one line."""


@dataclass(frozen=True)
class Panel:
    """One panel.

    Args:
        title: What it shows.
    """

    title: str

    @property
    def keys(self) -> Sequence[str]:
        """Keys of a record that it draws."""
        return ()


@dataclass(frozen=True)
class Points(Panel):
    """A point for every run, one number against another.

    Args:
        x: Key of the horizontal axis.
        y: Key of the vertical axis.
        log_x: Whether the horizontal axis is logarithmic.
    """

    x: str
    y: str
    log_x: bool = False

    @property
    def keys(self) -> Sequence[str]:
        return self.x, self.y


@dataclass(frozen=True)
class Lines(Panel):
    """A line for every run, against the epoch or against another axis.

    Args:
        names: Values on the vertical axis, in the history.
        unit: What they are measured in.
        x: Value on the horizontal axis, in the history.
        log_x: Whether the horizontal axis is logarithmic.
    """

    names: Sequence[str]
    unit: str = NATS
    x: str = "epoch"
    log_x: bool = False

    @property
    def keys(self) -> Sequence[str]:
        return [f"history:{name}" for name in (self.x, *self.names)]


@dataclass(frozen=True)
class Bars(Panel):
    """Bars for every run, one for each number.

    Args:
        names: Values in the summary.
        unit: What they are measured in.
    """

    names: Sequence[str]
    unit: str = NATS

    @property
    def keys(self) -> Sequence[str]:
        return [f"summary:{name}" for name in self.names]


@dataclass(frozen=True)
class Chart(Panel):
    """A chart over the rows of a table of all runs; W&B draws it by one of the specifications in ``charts``.

    Args:
        kind: ``gap_against_k``, ``interval``, ``stacked`` or ``khat_histogram``.
        table: Name of the table.
        fields: Column of the table for each field of the specification.
        unit: What the values are measured in.
    """

    kind: str
    table: str
    fields: Mapping[str, str]
    unit: str = NATS

    @property
    def keys(self) -> Sequence[str]:
        return [f"table:{self.table}:{column}" for column in self.fields.values()]


@dataclass(frozen=True)
class Picture(Panel):
    """The last picture of a name of every run.

    Args:
        name: Its name in the record.
    """

    name: str

    @property
    def keys(self) -> Sequence[str]:
        return (f"picture:{self.name}",)


@dataclass(frozen=True)
class Parallel(Panel):
    """A line for every run through what it is made of and what it reaches.

    Args:
        columns: Key of each axis, by its name.
        logarithmic: Names of axes that are logarithmic.
    """

    columns: Mapping[str, str]
    logarithmic: Sequence[str] = ()

    @property
    def keys(self) -> Sequence[str]:
        return list(self.columns.values())


@dataclass(frozen=True)
class Differences(Panel):
    """A table of the settings in which the runs differ, beside their scores."""


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
    panels: Sequence[Panel] = field(default_factory=list)


def _score(name: str) -> str:
    return f"summary:{name}"


def _interval(of: str) -> dict[str, str]:
    ends = {"low": f"{of}_low", "high": f"{of}_high"}
    return {"run": "run"} | ends | {f"{end}_error": f"{column}_error" for end, column in ends.items()}


STACKED = {"run": "run", "part": "part", "value": "value"}
K, GAP, LOG_PX = "config:k", _score("test/gap"), _score("test/log_px")

TIGHT = Section(
    "Is the bound tight?",
    "The gap is log p(x) - ELBO, in nats per datum. A bar goes from the best lower to the best upper bound of it, and "
    "the gap lies in between; whiskers are one standard error over the data. An arrow has no upper bound: the gap is "
    "at least that. On the diagonal of upper against lower bound nothing is left open. Do not compare runs of other "
    "data or binarisations.",
    [
        Chart("the gap lies between", "interval", f"tables/{EVALUATED}/bounds", _interval("gap")),
        Chart("log p(x) lies between", "interval", f"tables/{EVALUATED}/bounds", _interval("log_px")),
        Points(
            "upper against lower bound of log p(x)",
            _score(f"{EVALUATED}/bracket/low"),
            _score(f"{EVALUATED}/bracket/high"),
        ),
        Lines("gap while training, at least", ["val/gap"]),
    ],
)
SOURCE = Section(
    "Where does the gap come from?",
    "Approximation is what the best q of the family leaves, at least as much as is drawn where log p(x) is bounded; "
    "amortisation is what the encoder falls short of it. KL(q(z|x) || p(z)) is I(x; z), what z tells about x, and "
    "KL(q(z) || p(z)), how far all z together are from the prior. Do not believe parts whose search has not settled.",
    [
        Chart("parts of the gap", "stacked", f"tables/{EVALUATED}/gap_parts", STACKED),
        Chart("parts of the KL", "stacked", f"tables/{EVALUATED}/kl_parts", STACKED),
        Bars("active units", ["test/active_units"], "latents"),
        Lines("parts of the ELBO", ["val/reconstruction", "val/kl"]),
    ],
)
MORE_SAMPLES = Section(
    "Does K help?",
    "K is the number of samples of the training bound. Every point is a run at its own K; lines join the means over "
    "seeds at one K, never over K, and the whiskers are one standard error over seeds. A gap that rests on a lower "
    "bound of log p(x) is one from below, so a smaller one may be a looser bound.",
    [
        Chart(
            "gap against K",
            "gap_against_k",
            "tables/gap",
            {"k": "k", "gap": "gap", **{name: name for name in SERIES}},
        ),
        Points("gap of every run against K", K, GAP, log_x=True),
        Points("log p(x) against K", K, LOG_PX, log_x=True),
        Lines("gap left with K samples at the test", ["curve/left"], x="curve/k", log_x=True),
    ],
)
BETTER = Section(
    "Which run is better?",
    "A larger lower bound of log p(x) is better on the same data; a smaller gap alone is not, for a poor model may "
    "have a tight bound. A difference below two standard errors says nothing: `{report} <folder>` tests it.",
    [
        Parallel(
            "every run through prior, q, K, its bound and its gap",
            {
                "model": "config:choices.model",
                "prior": "config:choices.prior",
                "q": "config:choices.q",
                "K": K,
                "validation bound": _score("val/bound.max"),
                "log p(x)": LOG_PX,
                "gap": GAP,
            },
            ("K",),
        ),
        Bars("ELBO and log p(x), at least", ["test/elbo", "test/log_px"]),
        Lines("bound on the validation split", ["val/bound"]),
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
        Chart(
            "k-hat of the data",
            "khat_histogram",
            f"tables/{EVALUATED}/khat",
            {"khat": "khat", "model": "model", "k": "k"},
            "k-hat",
        ),
        Points("median k-hat against K", K, _score("test/khat"), log_x=True),
        Bars("data with a k-hat above 0.7", [f"{EVALUATED}/importance/khat/untrusted"], "share of the data"),
        Lines("effective sample size", ["val/ess"], "samples"),
        Picture("every estimator of log p(x)", f"pictures/{EVALUATED}/bracket"),
        Bars("warnings", ["test/warnings", f"{EVALUATED}/warnings"], "number"),
        Lines("throughput of the training", ["speed/rows_per_second"], "rows per second"),
        Bars("time", ["seconds/fit", "seconds/test"], "seconds"),
    ],
)
SECTIONS = (TIGHT, SOURCE, MORE_SAMPLES, BETTER, WRONG)

COLUMNS = ("run:state", "config:k.value", "config:seed.value", "summary:test/gap", "summary:test/log_px")
COLUMNS += ("summary:val/bound.max", "summary:test/warnings", "summary:failure")
"""Columns of the list of runs."""
