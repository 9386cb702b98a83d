"""Which scores may stand in one column: those of the same data, made the same way."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from taut.report.candidates import Entry
from taut.report.runs import Run

Source = Literal["test", "evaluation"]


@dataclass(frozen=True)
class ScoreSet:
    """Scores that can be compared with one another, and with no others.

    Args:
        source: The test at the end of each run, or an evaluation.
        about: What they have in common.
        entries: One for each run, and one more for each further evaluation of it.
    """

    source: Source
    about: Mapping[str, str]
    entries: Sequence[Entry]

    @property
    def title(self) -> str:
        """What was scored, and when."""
        return f"{'Test' if self.source == 'test' else 'Evaluation'}: {self.heading}"

    @property
    def heading(self) -> str:
        """What was scored."""
        about = self.about
        parts = [about["data"], f"binarisation {about['binarisation']}", f"{about['likelihood']} likelihood"]
        if about["mask"] not in ("none", "unknown"):
            parts.append(f"mask {about['mask']}")
        if about["cells"] == "observed":
            parts.append("observed cells")
        return ", ".join(parts)

    @property
    def details(self) -> str:
        """How it was scored."""
        about = self.about
        same = " (training rows)" if about["held_out"].lower() == "false" else ""
        n = int(about["n"]) if about["n"].isdigit() else 0
        k = about.get("k_test") or about.get("k", "unknown")
        return f"{about['split']} split{same}, {n:,} data, K = {k}, {about['precision']}"

    @property
    def split(self) -> str:
        """The rows that were scored, as the heads of columns say it."""
        if self.about["held_out"].lower() == "false":
            return "training rows"
        return {"val": "validation"}.get(self.about["split"], self.about["split"])

    @property
    def digest(self) -> str:
        """The first digits of the digest of the data."""
        return self.about["data_digest"][:12]


def score_sets(runs: Sequence[Run]) -> list[ScoreSet]:
    """Every set of comparable scores: tests before evaluations, larger ones first."""
    groups: dict[tuple[Source, tuple[tuple[str, str], ...]], list[Entry]] = defaultdict(list)
    for run in runs:
        if run.tested is not None:
            groups["test", tuple(run.tested.about.items())].append(Entry(run, run.tested))
        for scores in run.evaluations.values():
            groups["evaluation", tuple(scores.about.items())].append(Entry(run, scores))
    found = [ScoreSet(source, dict(about), entries) for (source, about), entries in groups.items()]
    return sorted(found, key=lambda one: (one.source != "test", -len(one.entries)))
