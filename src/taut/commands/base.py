"""The one path of a command that measures a trained run: open it, launch processes, measure, write, print, record.

``evaluate`` and ``complete`` differ in their :class:`Measurement` and in their :class:`Output`, and in nothing else.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from rich.console import Console, RenderableType

from taut.api.measurement import Measurement
from taut.config.checkpoint_files import run_and_file
from taut.config.instantiate import check_targets_resolved
from taut.config.overrides import child_command
from taut.config.run_folder import sole_writer_of, versions, write_result
from taut.errors import UserError
from taut.evidence.summary import plain
from taut.files import RESULT, atomic_folder
from taut.runtime.processes import Processes
from taut.training import loggers
from taut.training.build import set_up_torch
from taut.training.callbacks.run_folder import gone
from taut.training.stored_run import Run


@dataclass(frozen=True)
class Output(ABC):
    """The numbers of a command, and what becomes of them.

    Args:
        cfg: The config of the command.
        run: The run that was measured.
        result: What goes into ``result.json``; the tables in the terminal show the same.
    """

    cfg: DictConfig
    run: Run
    result: dict[str, Any]

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder that is written, inside that of the run."""

    @abstractmethod
    def write_details(self, folder: Path) -> None:
        """Write what goes beside ``result.json``: pictures, and a table of every datum."""

    @abstractmethod
    def export(self) -> Sequence[Path]:
        """Write what the user wants elsewhere, and return where that is."""

    @abstractmethod
    def tables(self, width: int) -> Sequence[RenderableType]:
        """Tables for a terminal of so many columns."""

    @abstractmethod
    def record(self) -> None:
        """Add numbers and pictures to the W&B record of the run, if it has one, and close it."""


def measure_run(
    cfg: DictConfig,
    measurement: type[Measurement],
    divide: Literal["data", "samples"],
    output: Callable[[DictConfig, Run, Any], Output],
) -> dict[str, Any]:
    """Measure the run that ``cfg`` names, publish the output, and return its ``result.json`` and its folder.

    Args:
        cfg: The config of the command.
        measurement: What is measured.
        divide: What is divided among the processes.
        output: Makes of the command's config, the run and what was found the output to be published.

    Raises:
        UserError: If the run cannot be read or written to, or an estimator does not fit its model.
    """
    # before anything is built: an alias must not lead out of the listed parts
    check_targets_resolved(cfg)
    refuse_others(cfg.evidence)
    folder, weights = run_and_file(cfg.ckpt_path) if cfg.run is None else (Path(cfg.run), None)
    run = replace(Run.open(folder, told_places(cfg)), weights=weights)
    if not os.access(run.folder, os.W_OK):
        raise UserError(f"{run.folder} is not writable, and the results go there; copy the run folder first.")
    if cfg.threads:
        run.cfg.threads = cfg.threads
    set_up_torch(run.cfg, cfg.trainer)
    loggers.quiet()
    with Processes.launch(cfg.trainer, divide, child_command(".")) as processes:
        measuring = measurement(cfg, run, processes)
        with sole_writer_of(run.folder, measuring.output) if processes.first else nullcontext():
            found = measuring.run_all()
            if processes.first:
                publish(output(cfg, run, found))
    return {**found.result, "folder": str(run.folder / measuring.output)}


def told_places(cfg: DictConfig) -> dict[str, str]:
    """Where the command says that the files of the run are now, by key.

    A choice of ``data`` or ``mask`` is the command's own, and so are its files.
    """
    groups = {name: cfg.get(name) for name in ("data", "mask")}
    places = {
        f"{group}.{name}": node[name]
        for group, node in groups.items()
        if node is not None and "_target_" not in node
        for name in node
    }
    return {name: place for name, place in places.items() if place is not None}


def publish(output: Output) -> None:
    """Write the folder, whole or not at all, print the tables, and add the numbers to the record of the run."""
    output.result["versions"] = versions("arviz-stats")
    if not output.run.folder.is_dir():
        raise gone(output.run.folder)
    earlier = (output.folder / RESULT).exists()
    # a kill or a full disk leaves the earlier results as they were
    with atomic_folder(output.folder) as partial:
        output.write_details(partial)
        OmegaConf.save(output.cfg, partial / "config.yaml")
        write_result(partial, plain(output.result))
    exported = output.export()
    console = Console()
    for table in output.tables(console.width):
        console.print(table)
    if earlier:
        console.print("[dim]In place of the results of an earlier command in the same folder:[/]", highlight=False)
    for path in (output.folder, *exported):
        # without rich's line breaks and colours of digits, so that the path can be copied
        console.print(f"[dim]{path}[/]", highlight=False, soft_wrap=True)
    output.record()


def refuse_others(nodes: DictConfig) -> None:
    """Refuse what is not an estimator, before anything is read.

    Raises:
        UserError: Naming it.
    """
    for name, node in nodes.items():
        # another part of taut is no estimator; what a package of the user's own builds shows when it is built
        target = str(node.get("_target_"))
        if target.startswith("taut.") and not target.startswith("taut.evidence."):
            raise UserError(f"evidence.{name} is not an estimator of log p(x); choose evidence=[importance,ais].")
