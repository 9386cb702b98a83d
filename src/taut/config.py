"""What a config must satisfy before anything is imported or written."""

import math
import os
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, TypeAdapter, ValidationError

from taut.errors import UserError
from taut.targets import check_targets, check_targets_resolved

__all__ = ["check", "check_overrides", "check_targets_resolved", "check_yaml", "nearest", "refuse_processes"]

KEYS = {
    "train": {
        *("k", "k_eval", "k_test", "latent_dim", "seed", "threads", "resume", "x_shape"),
        *("data", "mask", "network", "prior", "likelihood", "q", "objective", "optimizer", "scheduler"),
        *("trainer", "callbacks", "logger", "model"),
    },
    "evaluate": {
        *("run", "k", "split", "limit", "seed", "evidence", "unfit", "simulated", "confidence", "gap"),
        *("share", "threads", "out", "trainer"),
    },
    "complete": {
        *("run", "data", "mask", "k", "draws", "split", "limit", "seed", "refine", "confidence", "unfit", "threads"),
        *("out", "fill", "overwrite", "lecture", "evidence", "trainer"),
    },
}
"""The keys of each command's config."""
ONE_OF = {
    "data",
    "mask",
    "network",
    "prior",
    "likelihood",
    "q",
    "objective",
    "optimizer",
    "scheduler",
    "strategy",
    "model",
}
"""Groups of which a run has one; of a list Hydra would take the last without a word."""
SECRET = re.compile(r"api_?key|token|secret|password|credential", re.IGNORECASE)
WANDB_KEY = re.compile(r"[0-9a-f]{40}|wandb_v\d\w{20,}")
MOST_YAML_NODES = 100_000
SAMPLES = ("k", "k_eval", "k_test")
BYTES_PER_SAMPLE = {"train": 12, "evaluate": 100}
"""Three log-densities in the smaller precision; all that the estimators keep of a log-weight, measured."""

Range = tuple[TypeAdapter, str]
Count = Annotated[int, Field(strict=True, ge=1)]
Place = Annotated[int, Field(strict=True, ge=0)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]
Quadrants = list[Literal["upper_left", "upper_right", "lower_left", "lower_right"]]

A_COUNT = (TypeAdapter(Count), "a whole number of 1 or more")
A_FEW = (TypeAdapter(Annotated[int, Field(strict=True, ge=1, le=10**6)]), "a whole number from 1 to 1,000,000")
A_COUNT_OR_NULL = (TypeAdapter(Count | None), "a whole number of 1 or more, or null")
A_SEED = (TypeAdapter(Seed), "a whole number from 0 to 4294967295")
A_POSITIVE = (TypeAdapter(Positive), "a finite number above 0")
A_POSITIVE_OR_NULL = (TypeAdapter(Positive | None), "a finite number above 0, or null")
A_PRECISION = (
    TypeAdapter(Literal["32-true", "64-true", "16-mixed", "bf16-mixed"]),
    "32-true, 64-true, 16-mixed or bf16-mixed, which leave scores in full precision",
)
DEVICES = (
    TypeAdapter(Literal["auto", -1] | Count | Annotated[list[Place], Field(min_length=1)]),
    "a whole number of 1 or more, auto, or a list of GPUs",
)
ONLY_ONE = (TypeAdapter(Literal[1]), "1, because noise and weights are counted in optimiser steps")
A_SHARE = (TypeAdapter(Share), "a number from 0 to below 1")
A_SPLIT = (TypeAdapter(Literal["train", "val", "test"]), "train, val or test")
SPLITS = (TypeAdapter(list[Literal["train", "val", "test"]]), "a list of train, val and test")
A_FOLDER_NAME = (
    TypeAdapter(Annotated[str, Field(pattern=r"^evaluation[\w-]*$")]),
    "a name that begins with evaluation",
)

RANGES = {
    **dict.fromkeys(("k", "k_eval", "k_test", "latent_dim", "max_epochs", "channels", "every_n_epochs"), A_COUNT),
    **dict.fromkeys(("threads", "components", "batch_size", "check_val_every_n_epoch"), A_COUNT_OR_NULL),
    **dict.fromkeys(("seed", "split_seed"), A_SEED),
    **dict.fromkeys(("lr", "min_variance", "spread", "eps"), A_POSITIVE),
    **dict.fromkeys(("gradient_clip_val",), A_POSITIVE_OR_NULL),
    "rate": (TypeAdapter(Annotated[float, Field(strict=True, gt=0, lt=1)]), "a number between 0 and 1"),
    "side": (TypeAdapter(Annotated[float, Field(strict=True, gt=0, le=1)]), "a number above 0 and at most 1"),
    **dict.fromkeys(("momentum", "min_share", "val_fraction", "test_fraction"), A_SHARE),
    "precision": A_PRECISION,
    "accumulate_grad_batches": ONLY_ONE,
    "accelerator": (TypeAdapter(Literal["auto", "cpu", "gpu", "cuda", "mps"]), "auto, cpu or gpu"),
    "devices": DEVICES,
    "num_nodes": A_COUNT,
    **dict.fromkeys(("steps", "chains", "leapfrog", "runs", "simulated", "samples"), A_FEW),
    "run": (TypeAdapter(Annotated[str | None, Field(min_length=1)]), "the folder of a run"),
    "fill": (TypeAdapter(Literal["mean", "most_probable", "draws"]), "mean, most_probable or draws"),
    "draws": A_FEW,
    "repetitions": (TypeAdapter(Annotated[int, Field(strict=True, ge=2)]), "a whole number of 2 or more"),
    **dict.fromkeys(("overwrite", "fresh"), (TypeAdapter(Annotated[bool, Field(strict=True)]), "true or false")),
    "refine": (TypeAdapter(Literal[True, False, "auto"]), "true, false or auto"),
    **dict.fromkeys(("limit", "blocks"), A_COUNT_OR_NULL),
    "split": A_SPLIT,
    "splits": SPLITS,
    "confidence": (TypeAdapter(Annotated[float, Field(strict=True, gt=0, lt=1)]), "a number between 0 and 1"),
    "share": (TypeAdapter(Literal["data", "samples"]), "data or samples"),
    "unfit": (TypeAdapter(Literal["refuse", "skip"]), "refuse or skip"),
    "hidden": (TypeAdapter(list[Count]), "a list of whole numbers of 1 or more"),
    "quarters": (
        TypeAdapter(Annotated[Quadrants, Field(min_length=1)]),
        "a list of one or more of upper_left, upper_right, lower_left and lower_right",
    ),
}

OWN_RANGES: dict[str, dict[str, Range]] = {
    "evaluate": {"out": A_FOLDER_NAME},
    "complete": {"limit": (TypeAdapter(Count | None | Literal["auto"]), "a whole number of 1 or more, null or auto")},
}
"""Of keys that mean another thing, or allow more, in one command."""


def check(cfg: DictConfig, command: str = "train") -> None:
    """Refuse a config that cannot or may not be run, without importing what it names.

    Unknown keys, unresolvable values, targets outside the list, and numbers out of range, in this order.

    Args:
        cfg: The config.
        command: The command it is for.

    Raises:
        UserError: For the first thing that is wrong.
    """
    _check_keys(cfg, KEYS[command])
    container = _resolved(cfg)
    check_targets(container)
    ranges = RANGES | OWN_RANGES.get(command, {})
    for key, name, value in _named(container):
        if name in ranges:
            _check_range(key, ranges[name], value)
    if command != "train" and container["run"] is None and not container.get("lecture"):
        raise UserError(f"{command}.py needs the folder of a run: add run=outputs/runs/<run>.")
    _check_memory(container)


def check_overrides(overrides: list[str]) -> None:
    """Refuse several choices where there can be one, and secrets, because every override is kept in the run folder.

    Raises:
        UserError: Naming the key, and what to do instead.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+") in ONE_OF and value.startswith("["):
            raise UserError(f"{key}={value} names several; choose one of them, or run each with -m {key}=<a>,<b>.")
        if value and (SECRET.search(key.rpartition(".")[2]) or WANDB_KEY.fullmatch(value.strip("'\""))):
            raise UserError(
                f"{key.lstrip('+')} looks like a secret, and the command line is kept in the run folder; "
                "give it in the environment instead (WANDB_API_KEY for W&B)."
            )


def check_yaml(place: Path) -> None:
    """Refuse YAML files whose aliases unfold to a giant or into themselves, before anything unfolds them.

    Raises:
        UserError: Naming the file.
    """
    for path in sorted(place.rglob("*.y*ml")) if place.is_dir() else [place]:
        try:
            nodes = _unfolded(yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader), {})
        except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0] or type(error).__name__
            raise UserError(f"{path} is not a readable YAML file: {reason}.") from error
        if nodes > MOST_YAML_NODES:
            raise UserError(f"{path} unfolds to {nodes:.3g} values through its aliases (*name); write it without them.")


def refuse_processes(cfg: DictConfig) -> None:
    """Refuse data-parallel training in a sweep: its processes would each start the sweep again.

    Raises:
        UserError: Naming the ways out.
    """
    if not isinstance(cfg.trainer.strategy, str):
        raise UserError(
            "Data-parallel training and -m do not go together; run the jobs one by one, or use strategy=auto."
        )


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence about a name that does not exist: the one meant, or all there are."""
    choices = sorted(known)
    near = get_close_matches(name, choices, 1, cutoff=0.5)
    if near:
        return f"did you mean {prefix}{near[0]}?"
    return f"choose among {', '.join(prefix + choice for choice in choices)}." if choices else "there is none."


def _check_keys(cfg: DictConfig, keys: set[str]) -> None:
    for key in map(str, cfg):
        if key not in keys:
            raise UserError(f"There is no key {key}; {nearest(key, keys)}")
    for key in sorted(keys - set(map(str, cfg))):
        raise UserError(f"The key {key} is missing; do not remove it.")


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    try:
        container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except RecursionError as error:
        raise UserError("The config refers to itself: two interpolations ${...} name each other.") from error
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}; give it a value.") from error
    assert isinstance(container, dict)
    return container  # type: ignore[return-value]


def _named(value: Any, key: str = "") -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, dict):
        for name, part in value.items():
            path = f"{key}.{name}" if key else str(name)
            yield path, str(name), part
            yield from _named(part, path)
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from _named(part, f"{key}[{i}]")


def _check_range(key: str, allowed: Range, value: Any) -> None:
    adapter, expected = allowed
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        raise UserError(f"{key}={value!r} cannot be; {key} must be {expected}.") from error


def _check_memory(container: dict[str, Any]) -> None:
    training = "model" in container
    batch = container["data"].get("batch_size") or 1 if training else 1
    bytes_per_sample = BYTES_PER_SAMPLE["train" if training else "evaluate"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for key, name, value in _named(container):
        need = value * batch * bytes_per_sample if name in SAMPLES else 0
        if need > memory:
            of = f"a batch of {batch} data" if training else "one datum"
            ways_out = f"{key} or data.batch_size" if batch > 1 else key
            raise UserError(
                f"{key}={value} needs at least {_gib(need)} for the log-weights of {of}, and this machine has "
                f"{_gib(memory)}; choose a smaller {ways_out}."
            )


def _gib(size: int) -> str:
    return f"{size / 2**30:,.0f} GiB"


def _unfolded(node: yaml.Node | None, sizes: dict[int, float]) -> float:
    """Values a YAML graph unfolds to; infinite where it contains itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = math.inf
        parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else [pair])]
        sizes[id(node)] = 1 + sum(_unfolded(part, sizes) for part in parts)
    return sizes[id(node)]
