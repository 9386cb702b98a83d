"""Composing a command's config once, and judging it before anything runs or is written."""

import hashlib
import logging
import os
import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from secrets import token_hex
from time import strftime
from typing import Any, Self

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from taut.config import descriptions
from taut.config.check import check, check_sweep, is_for_wandb, refuse_processes
from taut.config.checkpoint_files import run_and_file, weights_at
from taut.config.error_words import STUDY
from taut.config.foreign import check_entries
from taut.config.instantiate import check_hydra
from taut.config.layer_words import with_layers
from taut.config.logger_keys import with_names
from taut.config.overrides import flag_parser, key, own_words, parsed_word
from taut.config.program import typed
from taut.config.releases import NEW, VERSION_BASE, register_resolver
from taut.config.run_folder import refuse_other_folder, refuse_run
from taut.config.trust import check_hydra_keys, check_launch
from taut.errors import UserError
from taut.files import CreatedFolder
from taut.runtime import devices

BUILT_BY_HYDRA = ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging")


# cached for the process: a config that is composed again must name the same folder
@cache
def _moment() -> str:
    return strftime("%Y-%m-%d_%H-%M-%S")


@cache
def _unique() -> str:
    return token_hex(3)


def _sweep(words: Sequence[str]) -> str:
    """A name for the sweep of these words, and for no other: its study, or its axes, and a digest of the rest."""
    words = own_words(words)
    study = [word.partition("=")[2] for word in words if word.startswith("+sweep=")]
    others = [word for word in words if not word.startswith("+sweep=")]
    axes = [re.sub(r"\W", "", key(word).rpartition(".")[2]) for word in others if re.search(r"[,(]", word)]
    digest = hashlib.sha256("\n".join(others).encode()).hexdigest()[:6]
    return "-".join([*(study or axes or ["sweep"]), *([digest] if others else [])])


def _kept(debug: str | None) -> str:
    """The folder below outputs/ for runs, or for those that look for faults and have no results."""
    return "debug" if debug else "runs"


def _choices(*added: str, _root_: DictConfig) -> str:
    """For ``--help``: the groups of this command, with what can be chosen and what that is."""
    groups = {*(group for group in _root_.hydra.runtime.choices if not group.startswith("hydra/")), *added}
    loader = GlobalHydra.instance().config_loader()
    names = {
        group: [name for name in loader.get_group_options(group) if not is_for_wandb(group, name)] for group in groups
    }
    folders = _folders(loader)
    said = {
        group: {name: descriptions.of_choice(descriptions.read(folders, group, name)) for name in names[group]}
        for group in sorted(groups)
    }
    # Hydra reads the text as a template
    return "\n" + descriptions.laid_out(said).replace("$", "$$") + "\n"


def _folders(loader: ConfigLoader) -> list[Path]:
    """Where the files of config groups lie, in the order in which they are looked for."""
    return [Path(source.path) for source in loader.get_sources() if source.scheme() == "file"]


register_resolver("taut.choices", _choices, use_cache=False, replace=True)
register_resolver("taut.kept", _kept, use_cache=False, replace=True)
register_resolver("taut.moment", _moment, use_cache=True, replace=True)
register_resolver("taut.commands.sweep", _sweep, use_cache=False, replace=True)
register_resolver("taut.typed", typed, use_cache=False, replace=True)
register_resolver("taut.unique", _unique, use_cache=True, replace=True)


class _Loader(ConfigLoader):
    """Hydra's loader of configs, which refuses what a config may not say of Hydra, in every config it loads.

    Args:
        hydras: Hydra's own.
        command: The name of the command.
        ahead: A config that is given out, once, instead of being composed once more.
    """

    def __init__(self, hydras: ConfigLoader, command: str) -> None:
        self.hydras, self.command = hydras, command
        self.ahead: DictConfig | None = None
        self._options: dict[tuple[str, ObjectType | None], list[str]] = {}

    def load_configuration(
        self, config_name: str | None, overrides: list[str], run_mode: RunMode, *args: Any, **kwargs: Any
    ) -> DictConfig:
        # given out once: a sweep then loads the configs of its jobs in its own way
        cfg, self.ahead = self.ahead, None
        if cfg is None:
            cfg = self.hydras.load_configuration(config_name, overrides, run_mode, *args, **kwargs)
            # here, since Hydra acts on the configs of a sweep's jobs, and on that of --help, as soon as it has them
            self._check(cfg, config_name, overrides, run_mode)
        return cfg

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        # those of the command line are whole, but an axis may have several values of layers=
        sweep_overrides = with_layers(sweep_overrides) if self.command == "train" else sweep_overrides
        cfg = self.hydras.load_sweep_config(master_config, sweep_overrides)
        words = [*master_config.hydra.overrides.hydra, *sweep_overrides]
        self._check(cfg, master_config.hydra.job.config_name, words, RunMode.RUN)
        return cfg

    def get_search_path(self) -> ConfigSearchPath:
        return self.hydras.get_search_path()

    def get_sources(self) -> list[Any]:
        return self.hydras.get_sources()

    def list_groups(self, parent_name: str) -> list[str]:
        return self.get_group_options(parent_name, ObjectType.GROUP)

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """Choices of a group; of no words in particular from the sources themselves.

        Hydra's own copies all of its sources for each of the 150 times that ``--help`` asks, half of its time.
        """
        if config_name is not None or overrides:
            return self.hydras.get_group_options(group_name, results_filter, config_name, overrides)
        asked = group_name, results_filter
        if asked not in self._options:
            holders = [source for source in self.get_sources() if source.is_group(group_name)]
            self._options[asked] = sorted({name for source in holders for name in source.list(*asked)})
        return self._options[asked]

    def compute_defaults_list(self, *args: Any, **kwargs: Any) -> Any:
        return self.hydras.compute_defaults_list(*args, **kwargs)

    def source(self, config_name: str | None, overrides: list[str], run_mode: RunMode, key: str) -> str:
        """The file that sets a key last, of those that are composed."""
        files = self.compute_defaults_list(config_name, overrides, run_mode).defaults
        # without Hydra's first, which sets every key
        for path, package in [(file.config_path, file.package) for file in reversed(files)]:
            holder = next((each for each in self.get_sources() if path and each.is_config(path)), None)
            if path == "hydra/config" or holder is None:
                continue
            found = holder.load_config(path)
            if _sets(found.config, package or "", key):
                return f"{re.sub('^[a-z]+://', '', found.path)}/{path}.yaml"
        return "a config file"

    def _check(self, cfg: DictConfig, config_name: str | None, overrides: list[str], run_mode: RunMode) -> None:
        check_hydra_keys(cfg, overrides, self.command, partial(self.source, config_name, overrides, run_mode))


class FurtherConfigs(SearchPathPlugin):
    """Puts the folder of ``--config-dir`` before that of the command."""

    folder: ContextVar[str | None] = ContextVar("folder", default=None)

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if folder := self.folder.get():
            search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))


def _sets(config: Any, package: str, key: str) -> bool:
    """Whether a config that is put into a package holds a key."""
    node = OmegaConf.to_container(config, resolve=False)
    for name in reversed(package.split(".") if package else []):
        node = {name: node}
    for name in key.split("."):
        if not isinstance(node, dict) or name not in node:
            # of a mapping that is an interpolation, what is below it is set as well
            return isinstance(node, str)
        node = node[name]
    return True


class Composer:
    """Hydra for one command: composes its config, judges it, and runs what it was composed for.

    Hydra's own entry point composes when it runs, and once before to learn whether it runs one job or several. Here
    the config is composed once, so that the config that was checked is the one that runs. A context manager: Hydra is
    open inside.

    Args:
        name: The command: of its primary config and of Hydra's job.
        conf: The folder of the configs.
        args: The parsed command line.
    """

    def __init__(self, name: str, conf: Path, args: Namespace) -> None:
        self.name = args.config_name or name
        self.conf = os.path.abspath(args.config_path or conf)
        self.task, self.extra, self.multirun = name, args.config_dir, args.multirun
        self.words: list[str] = []

    def __enter__(self) -> Self:
        """Open Hydra with the search path of the command.

        Raises:
            UserError: If the folder of further configs does not exist.
        """
        if self.extra and not os.path.isdir(self.extra):
            raise UserError(f"--config-dir {self.extra} is not a folder.")
        # initialize_config_dir refuses to replace a Hydra that an earlier command of this process left
        GlobalHydra.instance().clear()
        Plugins.instance().register(FurtherConfigs)
        further = FurtherConfigs.folder.set(os.path.abspath(self.extra) if self.extra else None)
        initialize_config_dir(self.conf, job_name=self.task, **VERSION_BASE)
        FurtherConfigs.folder.reset(further)
        self.hydra: Any = GlobalHydra.instance().hydra
        self.loader = self.hydra.config_loader = _Loader(self.hydra.config_loader, self.task)
        return self

    def __exit__(self, *_: object) -> None:
        GlobalHydra.instance().clear()

    def composed(self, overrides: list[str]) -> DictConfig:
        """The config of these words, with Hydra's part: its ``hydra.mode`` says whether they ask for one run."""
        if self.multirun:
            return self._composed([*overrides, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
        try:
            cfg = self._composed(overrides, RunMode.RUN)
        except (HydraException, OmegaConfBaseException):
            # several values of a key are an error in one run, and what a sweep is for; a file of conf/ may ask for one
            if self.mode(overrides) == RunMode.RUN:
                raise
            return self._composed(overrides, RunMode.MULTIRUN)
        if cfg.hydra.mode == RunMode.MULTIRUN:
            return self._composed(overrides, RunMode.MULTIRUN)
        if cfg.hydra.mode is None:
            _refuse_forgotten_mode(cfg)
            cfg.hydra.mode = RunMode.RUN
            if not NEW:  # Hydra 1.3 notes it in .hydra/hydra.yaml
                cfg.hydra.overrides.hydra.append("hydra.mode=RUN")
        return cfg

    def compose(self, overrides: list[str]) -> DictConfig:
        """The task config of one run."""
        return _task(self._composed(overrides, RunMode.RUN))

    def mode(self, overrides: list[str]) -> RunMode:
        """Mode that these words, or a file they name, ask for; words that cannot be composed ask for one run."""
        if self.multirun:
            return RunMode.MULTIRUN
        return self.hydra.get_mode(self.name, list(overrides)) or RunMode.RUN

    def check(self, cfg: DictConfig, new: bool) -> CreatedFolder:
        """Refuse what may not run, and note which folders will be new.

        Args:
            cfg: What ``composed`` gave.
            new: Whether the run starts afresh.

        Raises:
            UserError: For the first thing that is wrong; the config of a sweep's jobs is checked job by job.
        """
        HydraConfig.instance().set_config(cfg)  # for ${hydra:...}
        check_hydra(_built_by_hydra(cfg))
        if cfg.hydra.mode == RunMode.MULTIRUN:
            if self.task == "train":
                check_sweep(cfg)
                check_launch(cfg, self.words, partial(self.loader.source, self.name, self.words, RunMode.MULTIRUN))
            else:
                refuse_processes(cfg)
            return CreatedFolder.of(Path(cfg.hydra.sweep.dir).absolute())
        self._refuse_launcher()
        check(_task(cfg), self.task)
        devices.check(cfg)
        devices.check_folder(cfg)
        folder = Path(cfg.hydra.run.dir).absolute()
        if self.task not in ("train", "audit"):
            if cfg.run is not None:
                refuse_other_folder(Path(cfg.run).expanduser(), f"run={cfg.run}")
            elif cfg.ckpt_path is not None:
                run_and_file(cfg.ckpt_path)
        elif new:
            refuse_run(folder)
            if cfg.get("ckpt_path") is not None:
                weights_at(cfg.ckpt_path)
            check_entries(folder, f"hydra.run.dir={cfg.hydra.run.dir}")
        return CreatedFolder.of(folder)

    def _refuse_launcher(self) -> None:
        """Refuse to train here what a word would have handed over, had it been a sweep."""
        named = [word for word in self.words if key(word).split(".")[0] == "launcher" and word != "launcher=basic"]
        if named:
            raise UserError(
                f"{named[0]} hands over the jobs of a sweep, and this is one training, which would run here; add -m "
                "and several values, or +sweep=<study>. One training goes to Slurm by sbatch docs/train.sbatch."
            )

    def run(self, cfg: DictConfig, job: Callable[[DictConfig], Any]) -> None:
        """Have Hydra make the folder, describe the run in ``.hydra``, set up logging and call ``job``.

        Args:
            cfg: What ``composed`` gave, checked.
            job: Called with the task config, once or for each job of a sweep.
        """
        OmegaConf.set_readonly(cfg.hydra, False)  # as it was composed; HydraConfig locked it
        # its lines on jobs repeat the words of the command, and each job names its run itself
        logging.getLogger("hydra").setLevel(logging.WARNING)
        self.loader.ahead = cfg
        start = self.hydra.multirun if cfg.hydra.mode == RunMode.MULTIRUN else self.hydra.run
        start(self.name, job, list(cfg.hydra.overrides.hydra) + list(cfg.hydra.overrides.task))

    def debug(self, cfg: DictConfig) -> str:
        """A line on what a choice of ``debug`` does, as its file says; empty without one."""
        name = cfg.hydra.runtime.choices.get("debug")
        return f"debug={name}: {descriptions.of_choice(self._text('debug', name))}." if name else ""

    def _text(self, group: str, name: str) -> str:
        return descriptions.read(_folders(self.loader), group, name)

    def show_help(self, args: Namespace) -> None:
        """Print what ``--help`` or ``--hydra-help`` asks for.

        Hydra sets up the logging of the config for that, so the config is one that was checked.

        Raises:
            UserError: If it says what a config may not.
        """
        show = self.hydra.hydra_help if args.hydra_help else self.hydra.app_help
        show(config_name=self.name, args_parser=flag_parser(), args=args)

    def _composed(self, overrides: list[str], mode: RunMode) -> DictConfig:
        for word in overrides:
            self._refuse_no_choice(word)
        overrides = self._with_loggers(overrides, mode)
        self.words = overrides
        return self.hydra.compose_config(self.name, list(overrides), mode, from_shell=True)

    def _with_loggers(self, overrides: list[str], mode: RunMode) -> list[str]:
        """The words with the names of loggers that were left out, where the rest of them can be composed."""
        try:
            return with_names(overrides, lambda words: self.hydra.compose_config(self.name, words, mode))
        except (HydraException, OmegaConfBaseException):  # which composing all of them will raise once more
            return overrides

    def _refuse_no_choice(self, word: str) -> None:
        """Refuse a number or null in the place of a choice, on which Hydra would end in an error of its own."""
        group = key(word)
        options = self.loader.get_group_options(group) if "." not in group and "=" in word else []
        if not options:
            return
        if group == "sweep" and not word.startswith("+"):
            raise UserError(STUDY)
        value = parsed_word(word).value()
        for choice in value.list if isinstance(value, ChoiceSweep) else value if isinstance(value, list) else [value]:
            if not isinstance(choice, str | QuotedString):
                names = [name for name in options if not is_for_wandb(group, name)]
                shown = "null" if choice is None else choice
                raise UserError(f"{group}={shown} is not a choice; choose among {', '.join(names)}, or leave it out.")


def _task(cfg: DictConfig) -> DictConfig:
    # a copy, since the original still needs Hydra's part to run
    cfg = deepcopy(cfg)
    with read_write(cfg), open_dict(cfg):
        del cfg["hydra"]
    return cfg


def _built_by_hydra(cfg: DictConfig) -> dict:
    """The parts of Hydra's own config that name classes, resolved as for the first job."""
    cfg = deepcopy(cfg)
    OmegaConf.set_readonly(cfg.hydra, False)
    # Hydra leaves these missing until a job starts, and resolving them would raise
    cfg.hydra.runtime.output_dir, cfg.hydra.job.num, cfg.hydra.job.id = ".", 0, "0"
    return {part: OmegaConf.to_container(cfg.hydra[part], resolve=True) for part in BUILT_BY_HYDRA}


def _refuse_forgotten_mode(cfg: DictConfig) -> None:
    """Refuse to train once what says of itself that it is several trainings.

    Raises:
        UserError: If parameters of the sweeper are given, or a search is chosen, and nothing asks for a sweep.
    """
    sweeper = cfg.hydra.sweeper
    varied = [str(name) for name in sweeper.get("params") or {}]
    search = str(sweeper._target_).endswith("OptunaSweeper")
    if varied or search:
        what = (
            f"hydra.sweeper.params gives values of {', '.join(varied)}" if varied else "hydra/sweeper=optuna searches"
        )
        raise UserError(
            f"{what}, and nothing asks for a sweep, so that one training would ignore it; add -m, or mode: MULTIRUN "
            "under hydra: in the file of the study."
        )
