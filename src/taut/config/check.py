"""Checks of a config before anything is imported or written."""

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from taut.config import synonyms
from taut.config.instantiate import check_targets
from taut.config.logger_keys import logger_nodes
from taut.config.pieces import PUBLISHED, NeedsTrust, could_cover, covers, package_of
from taut.config.releases import register_resolver
from taut.config.secrets import IN_URL, NAMED, WANDB_KEY, remember
from taut.errors import UserError, nearest
from taut.runtime.memory import available, in_words

if TYPE_CHECKING:
    from taut.config.ranges import Range

REQUIRED = object()

KEYS = {
    "train": {
        *(
            "k",
            "k_eval",
            "k_test",
            "latent_dim",
            "layers",
            "seed",
            "matmul",
            "threads",
            "resume",
            "x_shape",
            "x_levels",
        ),
        *("ckpt_path", "lr_find"),
        *("data", "mask", "network", "prior", "likelihood", "q", "objective", "optimizer", "scheduler"),
        *("trainer", "callbacks", "logger", "model", "launcher", "sweep"),
    },
    "evaluate": {
        *("run", "ckpt_path", "k", "split", "limit", "seed", "evidence", "unfit", "simulated", "confidence", "gap"),
        *("share", "threads", "out", "trainer", "data", "mask", "tolerance", "per_datum", "budget"),
    },
    "complete": {
        *("run", "ckpt_path", "data", "mask", "k", "draws", "split", "limit", "seed", "refine", "confidence", "unfit"),
        "threads",
        *("out", "fill", "overwrite", "lecture", "evidence", "trainer"),
    },
    "audit": {
        *("model", "reported", "k", "split", "limit", "seed", "simulated", "confidence", "unfit", "threads"),
        *("data", "evidence", "gap"),
    },
}
"""The keys of each command's config."""
GAINED = {"ckpt_path", "lr_find", "x_levels", "layers"}
"""Keys that the config of an older run lacks."""
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
    "launcher",
    "model",
    "debug",
}
"""Groups of which a run has one; of a list Hydra would take the last without a word."""
JOB_LAUNCHER = "hydra_plugins.taut.launcher.JobLauncher"
EM = "taut.objective.em.Em"
"""The objective that has no use for an optimiser."""
SWEEPERS = {name: f"hydra_plugins.taut.launcher.{name.capitalize()}Sweeper" for name in ("grid", "optuna")}
SAMPLES = ("k", "k_eval", "k_test")
BYTES_PER_SAMPLE = {"train": 12, "evaluate": 100}
"""Three log-densities in the smaller precision; all that the estimators keep of a log-weight, measured."""
BYTES_PER_COORDINATE = 8
"""Of every one of several z of a training step, which are float64."""


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
    # unresolved: a value from the environment is not written into the run folder, its ${oc.env:...} is
    for key, name, value in _named(OmegaConf.to_container(cfg, resolve=False)):
        _refuse_secret(key, name, value)
    container = _resolved(cfg)
    _check_objects(container)
    check_targets(container)
    ranges = ranges_of(command)
    for key, name, value in _named(container):
        if name in ranges:
            check_range(key, ranges[name], value)
    if command == "train":
        _check_layers(container)
        _check_search(container)
    elif command == "audit":
        _check_audit(container)
    else:
        _check_run(container, command)
    _check_memory(container)


def _check_layers(container: dict[str, Any]) -> None:
    """Refuse layers that a file asks for without the choices that the word ``layers=`` stands for."""
    if (layers := container.get("layers")) is not None and container["prior"].get("sizes") != layers:
        raise UserError(
            f"layers={layers} has no say beside this prior; in a file, override /prior and /q to layers and set "
            "prior.sizes to ${layers}."
        )


def _check_search(container: dict[str, Any]) -> None:
    if not container.get("lr_find"):
        return
    trainer = container["trainer"]
    if isinstance(trainer["strategy"], dict):
        raise UserError(
            "lr_find=true searches in one process; find the rate with strategy=auto, and give it to the others: "
            "optimizer.lr=<rate>."
        )
    if trainer["fast_dev_run"]:
        raise UserError("lr_find=true makes a hundred steps, and trainer.fast_dev_run a few; leave one of the two out.")
    if "lr" not in container["optimizer"]:
        raise UserError("lr_find=true looks for optimizer.lr, which this optimizer lacks; leave it out.")
    if container["objective"]["_target_"] == EM:
        raise UserError("lr_find=true: objective=em makes no steps by gradients and has no rate; leave it out.")


def _check_run(container: dict[str, Any], command: str) -> None:
    run, checkpoint = container["run"], container.get("ckpt_path")
    if run is None and checkpoint is None and not container.get("lecture"):
        raise UserError(f"{command}.py needs the folder of a run: add run=outputs/runs/<run>.")
    if run is not None and checkpoint is not None:
        raise UserError(f"run={run} and ckpt_path={checkpoint} both name a run; leave one of them out.")


LOADER = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def _check_audit(container: dict[str, Any]) -> None:
    """Refuse a model that is no function, or one of a package that the user has not named; nothing is imported."""
    model, data = container["model"], container["data"]
    place = model.get("load") if isinstance(model, dict) else model
    if place is None:
        raise UserError(
            "audit.py needs a function that gives the model: add model=<module>:<function> and trust=[<package>], as "
            "in model=mylab.vae:load trust=[mylab]."
        )
    if not isinstance(place, str) or LOADER.fullmatch(place) is None:
        raise UserError(
            f"model={place} is no function; write model=<module>:<function>, as in model=mylab.vae:load, and evaluate "
            "a run of taut by evaluate.py run=<run>."
        )
    target = place.replace(":", ".")
    if place not in PUBLISHED and not covers(target):
        if not could_cover(target):
            raise UserError(f"model={place} may not be called: it is no function of a package of yours.")
        raise NeedsTrust([package_of(target)], f"model={place}")
    if data is not None and "_target_" not in data:
        raise UserError("data.path and the like go with a choice of data: add data=table or data=images.")


def check_overrides(overrides: list[str]) -> None:
    """Refuse several choices where there can be one, and secrets, because every override is kept in the run folder.

    Raises:
        UserError: Naming the key, and what to do instead.
    """
    words = dict(override.split("=", 1) for override in overrides if "=" in override)
    if words.get("lr_find") == "true" and "optimizer.lr" in words:
        raise UserError(
            f"optimizer.lr={words['optimizer.lr']} fixes the rate that lr_find=true looks for; leave one of the two "
            "out."
        )
    for override in overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+") in ONE_OF and value.startswith("["):
            raise UserError(f"{key}={value} names several; choose one of them, or run each with -m {key}=<a>,<b>.")
        # without the quotes of Hydra's grammar, behind which a key would not match
        if value and (NAMED.search(key.rpartition(".")[2]) or WANDB_KEY.fullmatch(value.strip("'\""))):
            raise UserError(
                f"{key.lstrip('+')} looks like a secret, and the command line is kept in the run folder; "
                "give it in the environment instead (WANDB_API_KEY for W&B)."
            )
        if is_for_wandb(key.lstrip("+"), value):
            raise UserError(
                f"{value} is a sweep that W&B deals out: wandb sweep sweeps/{value}.yaml; see docs/dashboards.md."
            )
        _refuse_password_in_url(key.lstrip("+"), value)


def is_for_wandb(group: str, name: str) -> bool:
    """Tell whether a file of ``sweeps/`` is meant for W&B's own sweeps."""
    return group == "sweep" and name.startswith("wandb_")


def refuse_processes(cfg: DictConfig) -> None:
    """Refuse several processes in jobs that Hydra runs in this one: each would start all the jobs again.

    Raises:
        UserError: Naming the ways out.
    """
    if "trainer" in cfg and not isinstance(cfg.trainer.strategy, str):
        raise UserError(
            "Several processes (strategy=ddp) and -m do not go together here; run the jobs one by one, or use "
            "strategy=auto."
        )


def check_sweep(cfg: DictConfig) -> None:
    """Refuse settings of a sweep that cannot be.

    Args:
        cfg: The config of the sweep, with Hydra's part.

    Raises:
        UserError: For the first thing that is wrong.
    """
    parts = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in ("launcher", "sweep")}
    ranges = ranges_of("train")
    for key, name, value in _named(parts):
        if name in ranges:
            check_range(key, ranges[name], value)
    if any(word.startswith("hydra.sweep.subdir=") for word in cfg.hydra.overrides.hydra):
        raise UserError("hydra.sweep.subdir: jobs name their folders themselves; choose the sweep's: hydra.sweep.dir=.")
    if cfg.hydra.launcher._target_ != JOB_LAUNCHER:
        raise UserError(
            "Jobs of a sweep are processes of their own, which hydra/launcher= would undo; choose with launcher=, "
            "e.g. launcher=joblib launcher.n_jobs=4."
        )
    if cfg.hydra.sweeper._target_ not in SWEEPERS.values():
        raise UserError("A sweep is every combination or a search; choose hydra/sweeper=grid or hydra/sweeper=optuna.")


def _check_keys(cfg: DictConfig, keys: set[str]) -> None:
    for key in map(str, cfg):
        if key == "trust":
            raise UserError(
                "trust comes from a config, and only you can say whom you trust: remove it there, and type "
                "trust=[mylab] if you know the package."
            )
        if key not in keys:
            elsewhere = in_another_group(key, cfg)
            hint = nearest(key, keys) if elsewhere is None else f"did you mean {elsewhere}?"
            raise UserError(f"There is no key {key}; {hint}")
    for key in sorted(keys - set(map(str, cfg)) - GAINED):
        raise UserError(f"The key {key} is missing; do not remove it.")


OBJECTS = ("prior", "likelihood", "q", "objective", "optimizer", "trainer", "model")
"""Keys of a training whose values say what is to be built."""
OPTIONAL_OBJECTS = ("data", "mask", "scheduler")
GROUPS_OF_KEYS = ("network", "callbacks", "logger", "evidence", "trainer", "launcher", "sweep", "gap", "lecture")
GROUPS_OF_OBJECTS = ("callbacks", "evidence")


def _check_objects(container: dict[str, Any]) -> None:
    """Refuse a plain value in the place of something that is to be built, and a shape that is not that of the data."""
    for key in GROUPS_OF_KEYS:
        if not isinstance(container.get(key, {}), dict) and not (key == "lecture" and container[key] is None):
            raise UserError(f"{key} must be a group of keys, got {container[key]!r}; set {key}.<key>= instead.")
    for key, value in _objects(container):
        if not isinstance(value, dict) or "_target_" not in value:
            group = key.partition(".")[0]
            raise UserError(
                f"{key} must be what a file of conf/{group} describes, got {value!r}; choose with {group}=."
            )
    for key, name, value in _named(container):
        if name == "x_shape" and value != container.get("x_shape"):
            raise UserError(f"{key} is read from the data, got {value!r}; leave it out.")


def _objects(container: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if _trains(container):
        yield from ((key, container[key]) for key in OBJECTS)
    for key in OPTIONAL_OBJECTS:
        value = container.get(key)
        # without a class, a command that measures a run is told where the run's own data are now
        if value is not None and (_trains(container) or not isinstance(value, dict) or "_target_" in value):
            yield key, value
    for group in GROUPS_OF_OBJECTS:
        parts = container.get(group) or {}
        # a callback is left out by null, an estimator by not choosing it
        yield from (
            (f"{group}.{name}", part) for name, part in parts.items() if part is not None or group == "evidence"
        )
    # one that stands there without a name is what its group says
    for name, part in logger_nodes(container.get("logger") or {}).items():
        yield (name if name == "logger" else f"logger.{name}"), part


def _trains(container: dict[str, Any]) -> bool:
    """Tell whether a config is one of a training: it alone says what is minimised."""
    return "objective" in container


def in_another_group(key: str, cfg: DictConfig) -> str | None:
    """The key of this name or meaning that does exist, if any: ``optimizer.lr`` for ``lr`` and ``learning_rate``.

    A name that is right tells more than the spelling of others, by which ``lr`` is nearest to ``logger``.
    """
    if (synonym := synonyms.KEYS.get(key)) in set(_paths(cfg)):
        return synonym
    same = [path for path in _paths(cfg) if path != key and path.rpartition(".")[2] == key.rpartition(".")[2]]
    return min(same, key=lambda path: path.count("."), default=None)


def _paths(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """The dotted key of every value; nothing is resolved."""
    for name in map(str, node):
        yield f"{prefix}{name}"
        if not OmegaConf.is_interpolation(node, name) and isinstance(part := node.get(name), DictConfig):
            yield from _paths(part, f"{prefix}{name}.")


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


def _refuse_secret(key: str, name: str, value: Any) -> None:
    if isinstance(value, str) and value and NAMED.search(name) and "${" not in value:
        raise UserError(
            f"{key} looks like a secret, and configs are kept in the run folder; read it from the environment: "
            f"{key}=${{oc.env:NAME}}."
        )
    for text in value if isinstance(value, list) else [value]:
        _refuse_password_in_url(key, text)


def _refuse_password_in_url(key: str, value: Any) -> None:
    if isinstance(value, str) and any("${" not in user for user in IN_URL.findall(value)):
        raise UserError(
            f"{key} holds a user or password in a URL, and it is kept in the run folder; put the whole URL into an "
            f"environment variable and write {key}=${{oc.env:NAME}}."
        )


def ranges_of(command: str) -> "dict[str, Range]":
    """What the keys of a command may hold, by their names."""
    from taut.config.ranges import OWN_RANGES, RANGES  # pydantic; --help and completion do without

    return RANGES | OWN_RANGES.get(command, {})


def check_range(key: str, allowed: "Range", value: Any) -> None:
    """Refuse a value out of the range of its key.

    Raises:
        UserError: Naming the key, what is expected and what was given.
    """
    from pydantic import ValidationError

    adapter, expected = allowed
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        raise UserError(f"{key} must be {expected}, got {value!r}.") from error


def _check_memory(container: dict[str, Any]) -> None:
    training = _trains(container)
    batch = container["data"].get("batch_size") or 1 if training else 1
    bytes_per_sample = BYTES_PER_SAMPLE["train" if training else "evaluate"]
    memory = available()
    # of several layers z is as long as all of them
    dim = (container["prior"].get("dim") or sum(container["prior"].get("sizes", []))) if training else 0
    for key, name, value in _named(container):
        z = BYTES_PER_COORDINATE * dim if training and name == "k" and value > 1 else 0
        need = value * batch * (bytes_per_sample + z) if name in SAMPLES else 0
        if need > memory:
            of = f"a batch of {batch} data" if training else "one datum"
            ways_out = f"{key} or data.batch_size" if batch > 1 else key
            raise UserError(
                f"{key}={value} needs at least {in_words(need)} for the samples of {of}, and this machine has "
                f"{in_words(memory)}; choose a smaller {ways_out}."
            )


def _env(name: str, default: Any = REQUIRED) -> str | None:
    """Hydra's ``oc.env``, which remembers what was read."""
    # a sentinel, since null is a default that may be given
    value = oc.env(name) if default is REQUIRED else oc.env(name, default)
    if name in os.environ:
        remember(os.environ[name], name)
    return value


register_resolver("oc.env", _env, replace=True)
