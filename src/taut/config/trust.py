"""What only the user may type: Hydra's own keys, and those by which a cluster would run commands.

A config says what a run computes, never what the process is: Hydra can set the environment, log to any file, build
objects and change folders, and a launcher can run a shell. Of these keys a config, ``--config-dir`` included, may say
those listed here, and the words of a run folder none at all. Words that the user types are the user's own.
"""

import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

import yaml
from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from taut.config.instantiate import BASIC, hydras_basic
from taut.config.pieces import is_trust
from taut.errors import UserError, nearest

OUTPUTS = "outputs"
"""Folder below which a config may place runs and sweeps."""
OPEN = ("hydra.mode", "hydra.help", "hydra.sweeper.params", "hydra.job.override_dirname", "hydra.job.config_name")
"""Keys of a config's own, and two that Hydra fills in."""
FILLED_IN = ("hydra.runtime", "hydra.overrides")
"""What Hydra writes itself, over whatever a config says; the overrides are compared with the words there were."""
PLACES = ("hydra.run.dir", "hydra.sweep.dir")
PLUGIN = "hydra_plugins.taut.launcher"
FIXED: dict[str, tuple[Any, ...]] = {
    "hydra.job.chdir": (None, False),
    "hydra.output_subdir": (None, ".hydra"),
    "hydra.sweep.subdir": ("${hydra.job.num}", "."),
    "hydra.launcher._target_": (f"{PLUGIN}.JobLauncher",),
    "hydra.sweeper._target_": (f"{PLUGIN}.GridSweeper", f"{PLUGIN}.OptunaSweeper"),
    "hydra.sweeper.max_batch_size": (None,),
    "hydra.job_logging.handlers.file.delay": (True,),
}
"""Keys with the values that taut gives them."""
HYDRAS_OWN = {
    "env": ("default",),
    "hydra_help": ("default",),
    "hydra_logging": ("default", "disabled", "none"),
    "job_logging": ("default", "disabled", "none", "stdout"),
    "output": ("default",),
}
"""Files of Hydra's own groups that do no more than print, and log to the run folder."""

SLURM = (
    *("partition", "account", "qos", "constraint", "gres", "time", "mem", "mem_per_gpu", "mem_per_cpu"),
    *("gpus_per_task", "cpus_per_gpu", "ntasks_per_node", "nodelist", "exclude", "exclusive", "dependency"),
    *("comment", "mail_type", "mail_user", "wckey", "signal_delay_s", "stderr_to_stdout"),
)
"""Keys of ``launcher.slurm``: what submitit writes after ``#SBATCH``."""
SLURM_TYPED = ("setup", "teardown", "srun_args", "additional_parameters", "use_srun")
"""Keys of submitit that run commands or pass any option on."""

Source = Callable[[str], str]


def check_hydra_keys(cfg: DictConfig, words: Sequence[str], command: str, source: Source) -> None:
    """Refuse what a config says of Hydra, but for the keys that a config needs.

    Args:
        cfg: The config with Hydra's part.
        words: The words it was composed of: typed by the user, or added by the program.
        command: The name of the command, which is that of Hydra's job.
        source: The file that sets a key.

    Raises:
        UserError: Naming the key and the file.
    """
    typed = _typed(words)
    _check_overrides(cfg, words, source)
    defaults = {**_defaults(), "hydra.job.name": (command,)}
    for key, value in _leaves(OmegaConf.to_container(cfg.hydra, resolve=False), "hydra"):
        if _below(key, [*typed, *OPEN, *FILLED_IN]) or value in defaults.get(key, ()):
            continue
        if key in PLACES:
            _check_place(cfg, key, command, source)
        else:
            _refuse(key, source(key))
    if not _below("hydra.sweeper.params", typed):
        _check_params(OmegaConf.to_container(cfg.hydra.sweeper, resolve=True), source)


def check_words(words: Iterable[str], where: str) -> None:
    """Refuse words that the user has not typed and that are Hydra's, or flags, or name packages to trust.

    Args:
        words: Overrides, of a run folder or of a config.
        where: Where they are from.

    Raises:
        UserError: Naming the first such word.
    """
    for word in words:
        if word.startswith("-") or is_hydras(word) or is_trust(word):
            name = word.partition("=")[0].strip().lstrip("+~")
            raise UserError(
                f"{name} comes from {where}, which may say what a run computes and nothing of the process; remove it, "
                "or type it on the command line if you trust it."
            )


def check_launch(cfg: DictConfig, words: Sequence[str], source: Source) -> None:
    """Refuse keys of ``launcher.slurm`` that do not exist, and, from a config, what would run commands.

    Args:
        cfg: The config of a sweep.
        words: The words on the command line.
        source: The file that sets a key.

    Raises:
        UserError: Naming the key.
    """
    # launcher=slurm and +sweep=<study> choose files, which say the rest
    typed = [key for word in words if "." in (key := _key(word))]
    settings = OmegaConf.to_container(cfg.launcher, resolve=True)
    slurm = settings.get("slurm") if isinstance(settings, dict) else None
    if not isinstance(slurm, dict | None):
        raise UserError(f"launcher.slurm must be keys of sbatch, such as launcher.slurm.partition=gpu, got {slurm!r}.")
    for name, value in (slurm or {}).items():
        key = f"launcher.slurm.{name}"
        if name not in SLURM and name not in SLURM_TYPED:
            raise UserError(f"{key} is not a key of sbatch; {nearest(str(name), SLURM, 'launcher.slurm.')}")
        if name in SLURM_TYPED and value is not None and not _below(key, typed):
            _refuse(key, source(key))
        # submitit writes it into a shell script, where another line would be a command
        if name in SLURM and not (value is None or _is_line(value)):
            raise UserError(f"{key} must be one number or one line of text, got {value!r}.")
    evaluate = cfg.sweep.evaluate
    if isinstance(evaluate, str) and not _below("sweep.evaluate", typed):
        check_words(shlex.split(evaluate), source("sweep.evaluate"))


def _check_overrides(cfg: DictConfig, words: Sequence[str], source: Source) -> None:
    """Refuse words that a config has put among those of the command line, which Hydra keeps and composes again."""
    for part in ("hydra", "task"):
        known = OmegaConf.to_container(cfg.hydra.overrides[part], resolve=False)
        if not isinstance(known, list) or any(word not in words for word in known):
            _refuse(f"hydra.overrides.{part}", source(f"hydra.overrides.{part}"))


def _check_place(cfg: DictConfig, key: str, command: str, source: Source) -> None:
    try:
        value = str(OmegaConf.select(cfg, key))
    except OmegaConfBaseException:  # of a key that is missing, which the check of keys names
        return
    parts = PurePosixPath(value).parts
    if (parts[:1] == (OUTPUTS,) and ".." not in parts) or (value == "." and command != "train"):
        return
    raise UserError(
        f"{key}={value!r} comes from {source(key)}, and a config may place runs below {OUTPUTS}/ alone; type "
        f"{key}=<folder> on the command line for any other."
    )


def _check_params(sweeper: Any, source: Source) -> None:
    params = sweeper.get("params") if isinstance(sweeper, dict) else None
    for name in params if isinstance(params, dict) else ():
        if is_hydras(f"{name}=0") or is_trust(f"{name}=0"):
            _refuse(f"hydra.sweeper.params.{name}", source("hydra.sweeper.params"))


def _refuse(key: str, where: str) -> None:
    raise UserError(
        f"{key} comes from {where}, and a config may say what a run computes and nothing of the process; remove it, or "
        "type it on the command line if you trust it."
    )


def _typed(words: Iterable[str]) -> list[str]:
    """The keys of Hydra's that words set; a group sets all below it, unless its choice is one of Hydra's own."""
    words = [word for word in words if not _chooses_own(word)]
    keys = [_key(word) for word in words] + [package for word in words if (package := _package(word))]
    return [key for key in keys if key.split(".")[0] == "hydra"]


def _chooses_own(word: str) -> bool:
    group, _, choice = word.partition("=")
    return choice in HYDRAS_OWN.get(group.removeprefix("hydra/"), ())


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~").partition("@")[0].replace("/", ".")


def _package(word: str) -> str:
    return word.partition("=")[0].partition("@")[2].removeprefix("_global_.")


def is_hydras(word: str) -> bool:
    """Tell whether a word sets anything of Hydra's, by its key or by the package it puts a choice into."""
    try:
        override = OverridesParser.create().parse_override(word)
        name = f"{override.key_or_group}.{override.package or ''}"
    except HydraException:
        # not a word that Hydra takes: judged by what stands before its value
        name = word.partition("=")[0]
    return "hydra" in re.split(r"\W+", name)


def _below(key: str, prefixes: Collection[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _is_line(value: Any) -> bool:
    return isinstance(value, str | int | float) and str(value).isprintable()


@cache
def _defaults() -> Mapping[str, tuple[Any, ...]]:
    """The values that keys have where no config says anything of them."""
    known: dict[str, tuple[Any, ...]] = {
        key: (value,) for key, value in _leaves(OmegaConf.to_container(OmegaConf.structured(HydraConf)), "hydra")
    }
    for group, names in HYDRAS_OWN.items():
        for name in names:
            text = (files("hydra.conf") / "hydra" / group / f"{name}.yaml").read_text(encoding="utf-8")
            # the folders of runs stand beside the groups, not in one
            for key, value in _leaves(yaml.safe_load(text) or {}, "hydra" if group == "output" else f"hydra.{group}"):
                known[key] = (*known.get(key, ()), value)
    basic = {f"hydra.{part}._target_": (hydras_basic(part),) for part in BASIC}
    return known | {key: (*values, *basic.get(key, ())) for key, values in FIXED.items()}


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every value by its dotted key; lists and empty mappings are values."""
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _leaves(part, f"{key}.{name}")
    else:
        yield key, value
