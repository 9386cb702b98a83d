"""What goes into the loggers of a run and when: its config, its final table and files, its evaluations."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from taut.config.instantiate import instantiate, takes
from taut.config.logger_keys import logger_nodes
from taut.config.run_folder import FIGURES, choice_made, choice_of
from taut.config.secrets import NAMED, redacted
from taut.errors import UserError
from taut.evidence.diagnostics import MAX_KHAT
from taut.runtime.launch import first
from taut.training.loggers import tables
from taut.training.loggers.contents import contents_of
from taut.training.loggers.guarded import Guarded, guarded
from taut.training.loggers.tables import Tables
from taut.training.loggers.tracker import WITHOUT, finish, say, shown

FAILURE = "failure"
"""Name of the entry that tells what ended a training that failed; it is ``none`` where it was finished."""
COMPLETION = "completion"
"""Place of the pictures of completions, whatever the mask."""


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
    return numbers | _information(result.get("information"), place)


def _information(information: Mapping[str, Any] | None, place: str) -> dict[str, Any]:
    """The KL in its two parts, and the units that are active."""
    if information is None:
        return {}
    numbers = {}
    for name in ("kl", "mutual_information", "marginal_kl"):
        numbers |= _score(information[name], f"{place}/{name}")
    return numbers | _known({f"{place}/active_units": information["active_units"]})


def _section(result: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Scores on one set of data, and the interval that the best bounds give for log p(x) and the gap."""
    gap, evidence = result["gap"], result["evidence"]
    numbers = {}
    for name in ("certificate", "upper_certificate"):
        numbers |= _score(result.get(name), f"{place}/{name}")
    for name, score in evidence.items():
        numbers |= _score(score, f"{place}/{name}")
        medians = {of: diagnostic["median"] for of, diagnostic in score["diagnostics"].items()}
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
    numbers = {place: score["value"], **{f"{place}/{part}": score.get(part) for part in parts}}
    return _known({**numbers, f"{place}/doubts": "; ".join(score.get("doubts", ())) or None})


def _known(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Drop entries that are None or NaN."""
    return {name: number for name, number in numbers.items() if number is not None and number == number}


def build(cfg: DictConfig, folder: Path) -> list[Logger]:
    """The loggers of a run, none of which can end it; ``metrics.csv`` is written by a callback and needs none.

    Beside the first process of a data-parallel run there are as many that do nothing.

    Raises:
        UserError: If one cannot be used as configured, or its package is not installed.
    """
    quiet()
    about = {"name": run_name(cfg), "group": _group(cfg), "config": public(cfg) | {"choices": choices()}}
    return _built(logger_nodes(cfg.logger), {"folder": folder, **about})


def _built(nodes: Mapping[str, DictConfig], about: Mapping[str, Any]) -> list[Logger]:
    if not first():
        # not Lightning's DummyLogger, which answers Hydra's questions on what it is by nonsense
        return [Guarded(Logger, None) for _ in nodes]
    return [guarded(logger) for name, node in nodes.items() for logger in _made(name, node, about)]


def _made(name: str, node: DictConfig, about: Mapping[str, Any]) -> Sequence[Logger]:
    """What a node describes: a logger, or a function that makes some of what is known about the run.

    Raises:
        UserError: If a package is missing, or the arguments are refused; any other failure costs the logger alone.
    """
    # a logger of Lightning's would else write to the working directory, or refuse to be made
    place = {"save_dir": str(about["folder"])} if "save_dir" not in node and takes(node, "save_dir") else {}
    try:
        made = instantiate(node, **place)
        made = made if isinstance(made, Logger) else made(**about)
    except Exception as error:
        cause = error.__cause__ if isinstance(error, UserError) and error.__cause__ else error
        if isinstance(cause, ImportError):
            said = next(iter(str(cause).splitlines()), "").rstrip(".")
            raise UserError(f"logger.{name} needs a package that is not installed: {said}.") from cause
        if isinstance(cause, UserError | TypeError | MisconfigurationException):
            raise
        say(f"{name} failed ({shown(cause)}); {WITHOUT}")
        return [Guarded(Logger, None)]
    return [made] if isinstance(made, Logger) else made


def begin(loggers: Sequence[Logger], cfg: DictConfig, log_px: str) -> None:
    """Put the config into the loggers of a run, and the kind of the validation scores that rest on log p(x).

    Args:
        loggers: The loggers of the run.
        cfg: The config of the run; secrets are left out.
        log_px: ``exact``, or ``lower`` where log p(x) is bounded from below, and so the gap.
    """
    settings = public(cfg) | {"choices": choices()}
    for logger in _recording(loggers):
        logger.put(lambda contents: contents.settings(settings))
        logger.summarise({f"val/{name}/kind": log_px for name in ("log_px", "gap")})


def _recording(loggers: Sequence[Logger]) -> list[Guarded]:
    """Those that the run's own were made of: in a fast_dev_run Lightning puts one that does nothing in their place."""
    return [logger for logger in loggers if type(logger) is Guarded]


def log_picture(loggers: Sequence[Logger], name: str, path: Path, step: int) -> None:
    """Put a PNG file into all loggers that take pictures.

    Args:
        loggers: The loggers of the run.
        name: What it is called there, e.g. ``pictures/images_val``.
        path: The file.
        step: Steps of the training so far.
    """
    for logger in loggers:
        if type(logger) is Guarded:
            logger.put(lambda contents: contents.picture(name, path, step))
        else:
            contents_of(logger).picture(name, path, step)


def _group(cfg: DictConfig) -> str | None:
    return (cfg.get("sweep") or {}).get("name")


def choices() -> dict[str, str]:
    """Config groups of a run, in the words of the command line: dashboards group by them."""
    return {group: choice(group) for group in ("model", "data", "prior", "q", "likelihood", "objective")}


def choice(group: str) -> str:
    """The entry of a config group that this job runs with, or the class that its words put there."""
    job = HydraConfig.get()
    return choice_made(group, str(job.runtime.choices[group]), job.overrides.task)


def debugged() -> str | None:
    """The choice of ``debug``, of a run that looks for faults and whose numbers are no results."""
    return HydraConfig.get().runtime.choices.get("debug")


def run_name(cfg: DictConfig) -> str:
    """Name of a run in one line: model, k and seed first, since lists cut names short, then what else it is made of."""
    return name_of(choices(), cfg)


def name_of(chosen: Mapping[str, str], cfg: DictConfig) -> str:
    """Name of a run made of these choices, see :func:`run_name`."""
    words = [chosen["model"], f"k={cfg.k}", f"seed={cfg.seed}"]
    words += [chosen["data"], preparation(cfg), mask_word(cfg), chosen["prior"], chosen["q"]]
    return " ".join(str(word) for word in words if word != "none")


def preparation(cfg: DictConfig) -> str:
    """How pixels were made what is scored: their binarisation, and whether grey levels were spread by noise."""
    binarisation = str(cfg.data.get("binarisation") or "none")
    return f"{binarisation}, dequantised" if cfg.data.get("dequantise") else binarisation


def mask_word(cfg: DictConfig) -> str:
    """The mask on the command line, with its rate; ``none`` without one."""
    # without a class it says where a file has moved to
    if "_target_" not in (cfg.get("mask") or {}):
        return "none"
    name, rate = choice_of(str(cfg.mask._target_)), cfg.mask.get("rate")
    return name if rate is None else f"{name} {rate:g}"


def public(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain values, without secrets.

    What is read from the environment stays the name of its variable; a key that names a secret is hidden.
    """
    return _public(OmegaConf.to_container(cfg, resolve=True), OmegaConf.to_container(cfg, resolve=False))


def _public(value: Any, raw: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        known = raw if isinstance(raw, dict) else value
        return {name: _public(part, known[name], str(name)) for name, part in value.items()}
    if isinstance(value, list):
        known = raw if isinstance(raw, list) else value
        return [_public(part, origin, key) for part, origin in zip(value, known, strict=True)]
    if value is not None and NAMED.search(key):
        return "hidden"
    # a value of the environment may be a secret
    if isinstance(raw, str) and "oc.env" in raw:
        return raw
    return redacted(value) if isinstance(value, str) else value


def summarise(
    loggers: Sequence[Logger], result: Mapping[str, Any], folder: Path, checkpoint: str | None = None
) -> None:
    """Put the test scores, with their errors, and the seconds into the loggers of a run, and its files.

    Args:
        loggers: The loggers of the run.
        result: What ``result.json`` holds.
        folder: The run folder.
        checkpoint: The weights that were tested, if they were kept.
    """
    summary = {
        f"test/{name}" + (f"/{part}" if part != "value" else ""): score[part]
        for name, score in result["scores"].items()
        for part in ("value", "standard_error", "kind")
        if score.get(part) is not None
    } | {f"seconds/{stage}": seconds for stage, seconds in result["seconds"].items()}
    summary |= _warnings(result, "test") | {FAILURE: "none"}
    weights = None if checkpoint is None else Path(checkpoint)
    for logger in _recording(loggers):
        logger.summarise(summary)
        logger.put(lambda contents: contents.tables(tables.tested(result)))
        logger.put(lambda contents: contents.curve("curve", tables.curve(result)))
        logger.put(lambda contents: contents.keep(folder, weights))


def _warnings(result: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The number of warnings, and what they say."""
    warnings = result.get("warnings", [])
    return {f"{place}/warnings": len(warnings)} | ({f"{place}/warnings/said": " ".join(warnings)} if warnings else {})


def record_evaluation(cfg: DictConfig, folder: Path, name: str, result: Mapping[str, Any], evaluation: Path) -> None:
    """Add an evaluation, numbers and pictures, to the W&B, TensorBoard and MLflow records that its run has."""
    place = f"{evaluation.name}/{result['split']}"
    khat = tables.khat_of(evaluation)
    numbers = flat(result, place) | _warnings(result, place)
    if khat:
        numbers[f"{place}/importance/khat/untrusted"] = sum(value > MAX_KHAT for value in khat) / len(khat)
    found = {f"tables/{place}/{table}": rows for table, rows in tables.evaluated(result, cfg, khat).items()}
    for split, rows in tables.gap_parts(result, cfg).items():
        found[f"tables/{evaluation.name}/{split}/gap_parts"] = rows
    _record(cfg, folder, name, Record(numbers, _pictures(evaluation, place), found, _step(result)))


def record_completion(cfg: DictConfig, folder: Path, name: str, result: Mapping[str, Any], completion: Path) -> None:
    """Add a completion, numbers and pictures, to the W&B, TensorBoard and MLflow records that its run has."""
    place = f"{completion.name}/{result['split']}"
    numbers = flat({**result["observed"], "apart": {}}, place)
    for method, scores in result["errors"].items():
        numbers |= {f"{place}/{method}/{score}": error["value"] for score, error in scores.items()}
    # one name for those of all masks, so that one panel shows those of all runs
    pictures = _pictures(completion, COMPLETION)
    _record(cfg, folder, name, Record(numbers | _warnings(result, place), pictures, {}, _step(result)))


def _pictures(folder: Path, place: str) -> dict[str, Path]:
    """The pictures of an evaluation or a completion, by their names in a record."""
    return {f"pictures/{place}/{path.stem}": path for path in sorted((folder / FIGURES).glob("*.png"))}


def _step(result: Mapping[str, Any]) -> int:
    """Where in training the weights are from that were measured."""
    return int((result.get("checkpoint") or {}).get("step", 0))


@dataclass(frozen=True)
class Record:
    """Additions to the records of a run.

    Args:
        numbers: Numbers and words by their names.
        pictures: Files by their names.
        tables: Rows by the names of their tables.
        step: Where in training the weights are from that were measured.
    """

    numbers: Mapping[str, Any]
    pictures: Mapping[str, Path]
    tables: Tables
    step: int


def _record(cfg: DictConfig, folder: Path, name: str, added: Record) -> None:
    quiet()
    about = {"folder": folder, "name": name, "group": _group(cfg), "config": {}}
    try:
        made = _built(logger_nodes(cfg.logger), about)
    except UserError as error:  # the numbers are written, and the record is no reason to end in an error
        say(f"The loggers of the run have not got these numbers: {error}")
        return
    with finishing(made):
        for logger in _recording(made):
            logger.summarise(added.numbers, added.step)
            for title, path in added.pictures.items():
                log_picture([logger], title, path, added.step)
            logger.put(lambda contents: contents.tables(added.tables))


@contextmanager
def finishing(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close the loggers at the end of the block, whatever ends it, a W&B run with the exit code that fits."""
    try:
        yield
    except BaseException as error:
        _close(loggers, "failed", {FAILURE: redacted(shown(error))})
        finish(_exit_code(error))
        raise
    _close(loggers, "success", {})
    finish(0)


def _close(loggers: Sequence[Logger], status: str, last: Mapping[str, Any]) -> None:
    for logger in _recording(loggers):
        logger.close(status, last)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code else 1


def quiet() -> None:
    """Keep Lightning and matplotlib to warnings, said once, and without those about Lightning's own code or Slurm."""
    if logging.getLogger().hasHandlers():
        # Lightning has a handler of its own: with those of the root each line would come twice
        logging.getLogger("lightning").handlers.clear()
    # matplotlib, too, which else says that it has listed the fonts of this machine
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning still uses LeafSpec, which torch deprecates; epochs of few batches are usual here; and on a machine of a
    # cluster it misses srun in every process that was started without
    for message in (".*LeafSpec.*", ".*smaller than the logging interval.*", "The `srun` command is available.*"):
        warnings.filterwarnings("ignore", message=message)
