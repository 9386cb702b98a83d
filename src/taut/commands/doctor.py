"""``taut doctor``: what there is on this machine, and what is missing. No secret is shown, and nothing is sent."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from taut.config.program import conf, ended, extra
from taut.errors import UserError
from taut.runtime.memory import available, in_words

REQUIRED = {
    "torch": "torch",
    "lightning": "lightning",
    "hydra-core": "hydra",
    "omegaconf": "omegaconf",
    "wandb": "wandb",
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
}
"""Packages that every command needs, with what is imported of them."""
OPTIONAL = {
    "submitit": ("submitit", "sweep", "launcher=slurm"),
    "optuna": ("optuna", "optuna", "hydra/sweeper=optuna"),
    "tensorboard": ("tensorboard", "tensorboard", "logger=tensorboard"),
    "mlflow-skinny": ("mlflow", "mlflow", "logger=mlflow"),
    "wandb-workspaces": ("wandb_workspaces", "dashboard", "taut dashboard"),
}
"""Packages by their name: what is imported, the extra that holds them, and what needs them."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SLURM_CPUS_PER_TASK")
MISSING, BROKEN = "missing", "broken"


class Finding(NamedTuple):
    """One line of the table.

    Args:
        what: What was looked at.
        found: What is there.
        state: ``ok``, ``missing`` where something optional is not there, ``broken`` where something required is not.
    """

    what: str
    found: str
    state: str = "ok"


def main(words: Sequence[str]) -> int:
    """The exit code: 0, 1 where something required is broken, 2 for a mistake in the command."""
    return ended(lambda: _examine(words))


def _examine(words: Sequence[str]) -> int:
    if words and set(words) <= {"--help", "-h"}:
        print("taut doctor: versions, devices, threads, memory, data, W&B, and what is missing. It takes no words.")
        return 0
    if words:
        raise UserError(f"taut doctor takes no words, got {words[0]}.")
    found = list(findings())
    _show(found)
    broken = [finding.what for finding in found if finding.state == BROKEN]
    print(f"broken: {', '.join(broken)}" if broken else "everything that is required is there")
    return 1 if broken else 0


def findings() -> Iterator[Finding]:
    """All that is looked at, in the order of the table."""
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("system", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield _configs()
    for name, module in REQUIRED.items():
        yield _package(name, module)
    for look in (_devices, _threads, _memory, _data, _outputs, _wandb):
        yield _seen(look)
    yield _slurm()
    for name, (module, group, needed) in OPTIONAL.items():
        yield _optional(name, module, group, needed)


def _configs() -> Finding:
    there = (conf() / "train.yaml").is_file()
    return Finding("taut", f"{version('taut')}, configs in {conf()}", "ok" if there else BROKEN)


def _package(name: str, module: str) -> Finding:
    try:
        import_module(module)
        return Finding(name, version(name))
    # a library that is installed for another machine can fail in any way
    except Exception as error:
        return Finding(name, f"cannot be imported: {_first_line(error)}", BROKEN)


def _seen(look: Callable[[], Finding]) -> Finding:
    """What a look finds; a library that is broken has a line of its own, and harms no other."""
    try:
        return look()
    except Exception as error:
        return Finding(look.__name__.strip("_"), f"cannot be told: {_first_line(error)}", MISSING)


def _devices() -> Finding:
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        gpus.append("Apple MPS (not used: it has no float64)")
    return Finding("devices", ", ".join(gpus) or "CPU alone: no GPU that torch can use")


def _threads() -> Finding:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [f"{name}={os.environ[name]}" for name in THREADS if name in os.environ]
    allowed = f"{cores} of {os.cpu_count()} cores"
    return Finding("threads", f"{torch.get_num_threads()} on {allowed}" + (f", {', '.join(limits)}" if limits else ""))


def _memory() -> Finding:
    return Finding("memory", in_words(available()))


def _data() -> Finding:
    from taut.data.readers.fetch import data_folder

    folder = data_folder(None)
    by = "TAUT_DATA" if os.environ.get("TAUT_DATA") else "the user's cache; TAUT_DATA names another"
    there = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return Finding("data", f"{folder} ({by}): {', '.join(there) or 'nothing yet, what is missing is downloaded'}")


def _outputs() -> Finding:
    free = in_words(shutil.disk_usage(Path.cwd()).free)
    if not os.access(Path.cwd(), os.W_OK):
        return Finding("outputs", f"{Path.cwd()} cannot be written to", MISSING)
    return Finding("outputs", f"{Path.cwd() / 'outputs'}, {free} free")


def _wandb() -> Finding:
    from taut.runtime.connection import has_key

    key = "an API key is there" if has_key() else "no API key (wandb login), which offline records need not"
    return Finding("W&B", f"offline unless logger.mode=online; {key}")


def _slurm() -> Finding:
    place = shutil.which("sbatch")
    return Finding("Slurm", place or "no sbatch here; launcher=slurm needs it", "ok" if place else MISSING)


def _optional(name: str, module: str, group: str, needed: str) -> Finding:
    if find_spec(module) is None:
        return Finding(name, f"not installed; {needed} needs it: {extra(group)}", MISSING)
    try:
        return Finding(name, f"{version(name)}, for {needed}")
    except PackageNotFoundError:
        return Finding(name, f"without a version, for {needed}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _show(found: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    styles = {"ok": "green", MISSING: "yellow", BROKEN: "bold red"}
    for name in ("", "what", "found"):
        table.add_column(name, overflow="fold")
    for finding in found:
        table.add_row(Text(finding.state, styles[finding.state]), finding.what, Text(finding.found))
    Console().print(table)
