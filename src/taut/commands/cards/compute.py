"""Outcomes of cards: their commands run anew, or a finished run read."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from taut.commands.cards.card import Card, Outcome
from taut.config import compose as _resolvers  # noqa: F401  (the interpolations of configs)
from taut.config.foreign import read_object
from taut.config.plain_yaml import read_config
from taut.config.program import NAME, conf
from taut.config.releases import VERSION_BASE
from taut.config.run_folder import config_of
from taut.errors import RunError, UserError
from taut.report.read.configs import differing, flat, settings

Start = Callable[[Sequence[str]], None]
"""Runs a command of taut, given the words behind ``taut``."""
QUIET = {"train": ["logger=csv", "trainer.enable_progress_bar=false"]}
"""Words that a computation adds to a command: no number depends on them."""
OF_THE_MACHINE = (
    *("trainer.accelerator", "trainer.strategy", "trainer.devices", "trainer.num_nodes", "trainer.enable_progress_bar"),
    *("callbacks", "data.dir", "evidence", "logger"),
)
"""Beginnings of keys that say where a run was made and what it kept, and nothing of what it computed."""


def start(words: Sequence[str]) -> None:
    """Run a command in a process of its own.

    Raises:
        RunError: If it fails, with the last lines it printed.
    """
    # -P: the folder of the user, which python -m would search first, may hold a random.py
    done = subprocess.run([sys.executable, "-P", "-m", NAME, *words], capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise RunError(f"taut {shlex.join(words)} ended with code {done.returncode}: {said}")


def computed(cards: Iterable[Card], *, short: bool = False, start: Start = start) -> Iterator[tuple[Card, Outcome]]:
    """The outcomes of cards; those of the same commands are of one computation.

    Args:
        cards: The cards.
        short: Whether the commands are shortened as the golden value says.
        start: What runs a command.
    """
    together: dict[tuple[Any, ...], list[Card]] = {}
    for card in cards:
        together.setdefault((card.commands, card.golden.words if short else ()), []).append(card)
    for (commands, words), group in together.items():
        with TemporaryDirectory() as place:
            folder = Path(place) / "run"
            for command, further in zip_longest(commands, words, fillvalue=()):
                start(_words(str(command), folder, further))
            for card in group:
                yield card, outcome_of(card, folder, words=[word for further in words for word in further])


def _words(command: str, folder: Path, further: Sequence[str]) -> list[str]:
    name, *words = shlex.split(command.replace("{run}", shlex.quote(str(folder))))
    where = [f"hydra.run.dir={folder}"] if name in ("train", "audit") else []
    return [name, *words, *further, *QUIET.get(name, []), *where]


def outcome_of(card: Card, folder: Path, *, machine: str | None = None, words: Sequence[str] | None = None) -> Outcome:
    """The outcome that a folder holds.

    Args:
        card: The card.
        folder: The folder of a run, or of an audit.
        machine: Where it ran, in words; this machine by default.
        words: Settings that are not those of the card; by default they are read from the run.

    Raises:
        UserError: If the folder does not hold the number.
    """
    path = folder / card.score.file
    result = read_object(path)
    if not result:
        raise UserError(f"run={folder} has no {card.score.file}; give the folder of a finished run of the card.")
    value, error = card.score.read(result)
    run = read_object(folder / "result.json") or result
    return Outcome(
        value,
        error,
        seed=int(run["seed"]),
        digest=str(run.get("data_digest", "")),
        versions=result["versions"],
        machine=machine or this_machine(),
        date=datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d"),
        words=tuple(_further(card, folder) if words is None else words),
    )


def _further(card: Card, folder: Path) -> list[str]:
    """The settings of a run that are not those of the card's command, as words that would set them."""
    path = folder / "config.yaml" if (folder / "config.yaml").is_file() else config_of(folder)
    if not path.is_file():
        return []
    name, *words = shlex.split(card.commands[0])
    with initialize_config_dir(str(conf()), **VERSION_BASE):
        own = compose(name, words)
    configs = [settings(flat(OmegaConf.to_container(cfg, resolve=False))) for cfg in (own, read_config(path))]
    pairs = {key: values[1] for key, values in differing(configs).items() if not key.startswith(OF_THE_MACHINE)}
    # a key that a run of an older version lacks is none that was set
    return [f"{key}={value}" for key, value in pairs.items() if value]


def this_machine() -> str:
    """This machine in words: cores, processor, and the GPU if torch finds one."""
    import torch

    if torch.cuda.is_available():
        return f"1 {torch.cuda.get_device_name(0)}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{cores} cores of {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # there is none on macOS
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return " ".join(next(names, platform.machine()).replace("(R)", "").replace("(TM)", "").split())
