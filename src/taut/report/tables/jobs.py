"""Table of all jobs of a sweep: on the terminal and as ``jobs.csv``."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.table import Table
from rich.text import Text

from taut.config.run_folder import read_result
from taut.files import write_atomically
from taut.report.numbers import number
from taut.report.read.scores import void_of
from taut.report.read.search import SearchResult
from taut.report.tables.table import broken, new_table
from taut.report.tables.training import CRITERIA

NAME = "jobs.csv"
HEADS = {"bound": "validation:\nbound", "log_px": "test:\nlog p(x)", "bits": "test:\nbits/dim", "gap": "test:\ngap"}
STYLES = {"finished": "green", "failed": "bold red", "pruned": "yellow"}
SCORES = ("elbo", "log_px", "gap")


class JobLike(Protocol):
    """Properties of a job that a table needs."""

    @property
    def folder(self) -> str: ...
    @property
    def words(self) -> Sequence[str]: ...


class StatusLike(Protocol):
    """Properties of a status that a table needs."""

    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def score(self) -> float | None: ...
    @property
    def log(self) -> str: ...


def jobs_table(
    folder: Path, jobs: Sequence[JobLike], states: Mapping[str, StatusLike], search: SearchResult | None = None
) -> Table:
    """The jobs with their state, best validation bound and test scores in nats; failures with reason and log.

    The trials of a search stand in the order of what they have scored, and the best are marked.
    """
    title = Text(f"{folder.name}: {len(jobs)} jobs, nats per datum", style="bold")
    table = new_table(title, caption_justify="left")
    table.add_column("job", overflow="fold")
    table.add_column("state")
    results = {job.folder: _result(folder / job.folder) for job in jobs}
    criteria = {name: result["criteria"] for name, result in results.items() if result.get("criteria")}
    fitted = bool(criteria) and len(criteria) == sum(bool(result) for result in results.values())
    # 80 columns; of a search, what trials are compared by takes the place of the bound
    in_bits = any("bits" in result.get("scores", {}) for result in results.values())
    left_out = {"bits": not in_bits, "bound": fitted or bool(search), "gap": fitted}
    columns = [column for name in HEADS if not left_out.get(name) for column in _columns(name, results)]
    compared = [] if search is None else [label.replace("val/", "validation:\n") for label in search.labels]
    heads = [
        *compared,
        *(HEADS[name] + (f"\n{measure}" if measure else "") for name, measure in columns),
        *(CRITERIA.values() if criteria else ()),
        "seconds",
    ]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for job in _best_first(jobs, search):
        status, own = states[job.folder], criteria.get(job.folder, {})
        best = search is not None and job.folder in search.best
        found = ["" if value is None else number(value, 3) for value in _values(search, job.folder)]
        table.add_row(
            Text(broken(job.folder), style="bold" if best else ""),
            Text(status.state, style=STYLES.get(status.state, "")),
            *(Text(f"{text} *", style="bold") if best else f"{text}  " for text in found),
            *_scored(status, results[job.folder], columns),
            *([number(own.get(key), 1) for key in CRITERIA] if criteria else []),
            "" if status.seconds is None else f"{status.seconds:.0f}",
        )
    failed = [(job.folder, states[job.folder]) for job in jobs if states[job.folder].state == "failed"]
    lines = [
        *_marked(search),
        *(Text(f"? {reason}", style="yellow") for reason in _doubts(results, [name for name, _ in columns])),
        *(Text(line) for line in firsts(results)),
        *(_failure(folder, name, status) for name, status in failed),
    ]
    if lines:
        table.caption, table.caption_style = Text("\n").join(lines), ""
    return table


def _scored(status: StatusLike, result: Mapping[str, Any], columns: Sequence[tuple[str, str | None]]) -> Sequence[str]:
    """The scores of a job, in the columns of its measure."""
    scores = result.get("scores", {})
    cells = {name: _signed(scores, name) for name in ("log_px", "bits", "gap")}
    cells["bound"] = "" if status.score is None else number(status.score, 3)
    return [cells[name] if measure in (None, result.get("measure")) else "" for name, measure in columns]


def _columns(name: str, results: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str | None]]:
    """The columns of a score: one for each measure where jobs have densities and masses, which share none."""
    measures = sorted({result["measure"] for result in results.values() if result.get("measure")})
    apart = len(measures) > 1 and name in ("bound", "log_px")
    return [(name, measure) for measure in measures] if apart else [(name, None)]


def _best_first(jobs: Sequence[JobLike], search: SearchResult | None) -> Sequence[JobLike]:
    """The jobs in the order of what they have scored, and behind them those that have no score."""
    known = {} if search is None else search.values
    return sorted(jobs, key=lambda job: (job.folder not in known, [-value for value in known.get(job.folder, [])]))


def _values(search: SearchResult | None, job: str) -> Sequence[float | None]:
    return [] if search is None else search.values.get(job, [None] * len(search.labels))


def _marked(search: SearchResult | None) -> list[Text]:
    if search is None or not search.best:
        return []
    alone = len(search.labels) == 1
    return [
        Text("* the best" if alone else "* the Pareto front: no other is better in one score and as good in the rest")
    ]


def firsts(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Name the first job by each information criterion and by log p(x) of the test split.

    Jobs are held against each other only where they saw the same rows. Those on which a floor binds are left out:
    their likelihood says how low the floor is; and those that have not converged, for criteria presume a maximum.

    Args:
        results: What each job wrote to ``result.json``, by its name.
    """
    fitted = {name: result for name, result in results.items() if result.get("criteria")}
    if len({(result["data_digest"], result["criteria"]["n"], result["cells"]) for result in fitted.values()}) != 1:
        return []
    sound = {
        n: result for n, result in fitted.items() if not result.get("limits") and result.get("converged") is not False
    }
    lines = [
        _first(label, {n: result["criteria"][key] for n, result in sound.items()}) for key, label in CRITERIA.items()
    ]
    held_out = {n: -result["scores"]["log_px"]["value"] for n, result in sound.items() if result["held_out"]}
    lines.append(_first("log p(x) of the test split", held_out))
    left = f"{len(fitted) - len(sound)} of {len(fitted)} jobs are not ranked: a floor binds, or EM has not converged."
    return [line for line in lines if line] + [left] * (len(sound) < len(fitted))


def _first(label: str, values: Mapping[str, float | None]) -> str:
    """The job with the least value, and how far behind the next is."""
    known = sorted((value, name) for name, value in values.items() if value is not None)
    if not known:
        return ""
    ahead = f", {known[1][0] - known[0][0]:.3f} ahead of {known[1][1]}" if len(known) > 1 else ""
    return f"First by {label}: {known[0][1]}{ahead}"


def write_jobs(
    folder: Path, jobs: Sequence[JobLike], states: Mapping[str, StatusLike], search: SearchResult | None = None
) -> None:
    """Write that table as ``jobs.csv``, atomically; of a search with the scores of its trials, too."""
    labels = [] if search is None else [label.partition("\n")[0].replace("val/", "search_") for label in search.labels]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["job", "words", "state", "val_bound", *labels, *SCORES, "bits", "measure", *CRITERIA, "converged"]
    columns += ["exit_code", "reason", "log", "seconds"]
    writer.writerow(columns)
    for job in jobs:
        status, result = states[job.folder], _result(folder / job.folder)
        scores, criteria = result.get("scores", {}), result.get("criteria") or {}
        numbers = [None if _void(scores, name) else scores.get(name, {}).get("value") for name in (*SCORES, "bits")]
        numbers.append(result.get("measure"))
        numbers += [*(criteria.get(key) for key in CRITERIA), result.get("converged")]
        known = [status.state, status.score, *(_values(search, job.folder)), *numbers, status.exit_code, status.reason]
        log = f"{job.folder}/{status.log}" if (folder / job.folder / status.log).exists() else None
        writer.writerow([job.folder, " ".join(job.words), *known, log, status.seconds])
    write_atomically(folder / NAME, text.getvalue())


def _result(folder: Path) -> Mapping[str, Any]:
    result = read_result(folder)
    return result if isinstance(result.get("scores"), dict) else {}


def _void(scores: Mapping[str, Any], name: str) -> bool:
    """Tell whether a score, or one that it rests on, broke an inequality."""
    rests_on = {"gap": ("log_px", "elbo", "gap"), "bits": ("log_px",)}.get(name, (name,))
    return any(void_of(scores.get(part)) for part in rests_on)


def _signed(scores: Mapping[str, Any], name: str) -> str:
    if _void(scores, name):
        return "void"
    score = scores.get(name)
    sign = {"exact": "", "upper": "<= "}.get(score["kind"], ">= ") if score else ""
    return sign + number(score["value"], 3) + (" ?" if score.get("doubts") else "") if score else ""


def _doubts(results: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Reasons why scores carry a ``?``, each once for all jobs."""
    scores = [result.get("scores", {}).get(name) or {} for result in results.values() for name in names]
    return list(dict.fromkeys(reason for score in scores for reason in score.get("doubts") or ()))


def _failure(folder: Path, name: str, status: StatusLike) -> Text:
    log = folder / name / status.log
    text = Text(f"{name}: ", style="bold red").append(str(status.reason), style="not bold default")
    return text.append(f"  {log}", style="dim") if log.exists() else text
