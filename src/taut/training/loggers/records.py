"""The numbers of an evaluation under the flat names of a W&B summary."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from taut.config.instantiate import instantiate
from taut.config.run_folder import choice_of
from taut.config.secrets import NAMED, redacted
from taut.training.loggers.tracker import Wandb, finish


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
    """The trackers of a run; ``metrics.csv`` is written by a callback and needs none.

    Raises:
        UserError: If the tracker cannot be used as configured.
    """
    quiet()
    make = instantiate(cfg.logger)
    return make(folder=folder, name=run_name(cfg), group=_group(cfg), config=public(cfg) | {"choices": choices()})


def _group(cfg: DictConfig) -> str | None:
    return (cfg.get("sweep") or {}).get("name")


def choices() -> dict[str, str]:
    """Config groups of a run, in the words of the command line: dashboards group by them."""
    return {group: choice(group) for group in ("model", "data", "prior", "q", "likelihood", "objective")}


def choice(group: str) -> str:
    """The entry of a config group that this job runs with."""
    return str(HydraConfig.get().runtime.choices[group])


def debugged() -> str | None:
    """The choice of ``debug``, of a run that looks for faults and whose numbers are no results."""
    return HydraConfig.get().runtime.choices.get("debug")


def run_name(cfg: DictConfig) -> str:
    """Name of a run in one line: model, data, binarisation, mask, prior, q, k and seed."""
    return name_of(choices(), cfg)


def name_of(chosen: Mapping[str, str], cfg: DictConfig) -> str:
    """Name of a run made of these choices, see :func:`run_name`."""
    words = [chosen["model"], chosen["data"], cfg.data.get("binarisation") or "none", mask_word(cfg)]
    words += [chosen["prior"], chosen["q"], f"k={cfg.k}", f"seed={cfg.seed}"]
    return " ".join(str(word) for word in words if word != "none")


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


def summarise(loggers: Sequence[Logger], result: Mapping[str, Any]) -> None:
    """Put the test scores, with their errors, and the seconds into the summary of a W&B run."""
    summary = {
        f"test/{name}" + (f"/{part}" if part != "value" else ""): score[part]
        for name, score in result["scores"].items()
        for part in ("value", "standard_error", "kind")
        if score.get(part) is not None
    } | {f"seconds/{stage}": seconds for stage, seconds in result["seconds"].items()}
    for logger in loggers:
        if isinstance(logger, Wandb):
            logger.summarise(summary)


def say_kinds(loggers: Sequence[Logger], log_px: str) -> None:
    """Put the kind of the validation scores that rest on log p(x) into the summary of a W&B run.

    Args:
        loggers: The trackers of the run.
        log_px: ``exact``, or ``lower`` where log p(x) is bounded from below, and so the gap.
    """
    for logger in loggers:
        if isinstance(logger, Wandb):
            logger.summarise({f"val/{name}/kind": log_px for name in ("log_px", "gap")})


def record_evaluation(cfg: DictConfig, folder: Path, name: str, result: Mapping[str, Any], evaluation: Path) -> None:
    """Add an evaluation, numbers and pictures, to the W&B record of its run, if the run has one."""
    place = f"{evaluation.name}/{result['split']}"
    _record(cfg, folder, name, flat(result, place), place, evaluation)


def record_completion(cfg: DictConfig, folder: Path, name: str, result: Mapping[str, Any], completion: Path) -> None:
    """Add a completion, numbers and pictures, to the W&B record of its run, if the run has one."""
    place = f"{completion.name}/{result['split']}"
    numbers = flat({**result["observed"], "apart": {}}, place)
    for method, scores in result["errors"].items():
        numbers |= {f"{place}/{method}/{score}": error["value"] for score, error in scores.items()}
    _record(cfg, folder, name, numbers, place, completion)


def _record(cfg: DictConfig, folder: Path, name: str, numbers: Mapping[str, Any], place: str, pictures: Path) -> None:
    quiet()
    made = instantiate(cfg.logger)(folder=folder, name=name, group=_group(cfg), config={})
    for logger in made:
        if isinstance(logger, Wandb):
            with finishing(made):
                logger.summarise(numbers)
                for path in sorted((pictures / "figures").glob("*.png")):
                    logger.log_image(f"pictures/{place}/{path.stem}", [str(path)])


@contextmanager
def finishing(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close the W&B run at the end of the block, whatever ends it, with the exit code that fits."""
    del loggers
    try:
        yield
    except BaseException as error:
        finish(_exit_code(error))
        raise
    finish(0)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code else 1


def quiet() -> None:
    """Keep Lightning to warnings, said once, and without those about its own code, short epochs or Slurm."""
    if logging.getLogger().hasHandlers():
        # Lightning has a handler of its own: with those of the root each line would come twice
        logging.getLogger("lightning").handlers.clear()
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning still uses LeafSpec, which torch deprecates; epochs of few batches are usual here; and on a machine of a
    # cluster it misses srun in every process that was started without
    for message in (".*LeafSpec.*", ".*smaller than the logging interval.*", "The `srun` command is available.*"):
        warnings.filterwarnings("ignore", message=message)
