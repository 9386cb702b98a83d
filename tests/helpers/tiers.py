"""Two tiers of tests: ``pytest`` runs the fast one, ``pytest --all`` everything.

A test's tier follows from what it starts, which its fixtures say, its own or those of its fixtures:

- ``programs``: a new program, such as a fresh interpreter, a browser, git, or the service that records for W&B;
- ``commands``: our commands as real processes, forked from one that has imported everything;
- ``trainings``: whole runs of its own, trained or evaluated in this process for seconds.

Who asks for one of them is slow; all else is fast. Nobody has to remember: in any tier, a test that starts a program
without having asked fails, and so does one of the fast tier whose own work takes more than ``LIMIT`` seconds of
processor time; both are told what to ask for. A fork of the test's own process is free.

``pytest`` alone, or with folders, takes the fast tier of what it finds. A file or a test that is named runs, whatever
its tier, and without workers.
"""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.forkserver import ForkServer, forking

SLOW = {
    "programs": "new programs",
    "commands": "commands in forked processes",
    "trainings": "whole runs of its own",
}
LIMIT = 60.0
"""Seconds of processor time for what is meant to take some at most: machines differ, and others use them too."""
STARTS = {"subprocess.Popen", "os.posix_spawn", "os.spawn", "os.system", "os.exec"}
COUNTS = "lscpu"  # by which joblib counts the cores, once in a process
_started: list[str] = []
_watching = threading.Event()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="the slow tier too: processes, browser, mutants, trainings")


def pytest_report_header(config: pytest.Config) -> str:
    return (
        "tests: all" if config.getoption("--all") else "tests: the fast tier, and what is named; --all runs everything"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """No workers for one file: their start would take longer than most files; one more for all, since many wait."""
    if len(config.args) == 1 and _is_file(config.args[0]):
        return 0
    return (os.cpu_count() or 1) + 1 if config.getoption("--all") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all"):
        # the files that start processes take longest, and would leave the other workers idle at the end
        starting = {item.path for item in items if is_slow(item)}
        items.sort(key=lambda item: item.path not in starting)
        return
    named = {_path(config, word) for word in config.args if _is_file(word)}
    left = [item for item in items if is_slow(item) and item.path not in named]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]


def is_slow(item: pytest.Item) -> bool:
    """Whether it asks, itself or through its fixtures, for something that takes its time."""
    return not SLOW.keys().isdisjoint(getattr(item, "fixturenames", ()))


def _is_file(word: str) -> bool:
    return word.partition("::")[0].endswith(".py")


def _path(config: pytest.Config, word: str) -> Path:
    return (config.invocation_params.dir / word.partition("::")[0]).resolve()


@pytest.fixture(scope="session")
def programs() -> None:
    """For a test that starts programs."""


@pytest.fixture(scope="session")
def trainings() -> None:
    """For a test that trains or evaluates whole runs, seconds each."""


@pytest.fixture(scope="session")
def commands() -> Iterator[ForkServer]:
    """Runs Python scripts as real processes."""
    server = ForkServer()
    yield server
    server.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _started.clear()
    _watching.set()
    item.stash[_SECONDS] = 0.0
    try:
        return (yield)
    finally:
        _watching.clear()


_SECONDS = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    return (yield from _measured(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    result = yield from _measured(item)
    _judge(item)
    return result


def _measured(item: pytest.Item) -> Iterator[Any]:
    before = os.times()
    result = yield
    after = os.times()
    item.stash[_SECONDS] += after.user - before.user + after.system - before.system
    return result


def _judge(item: pytest.Item) -> None:
    asked = set(getattr(item, "fixturenames", ()))
    if _started and "programs" not in asked:
        pytest.fail(f"It starts a program and does not ask for the fixture `programs`: {_started[0]}.", pytrace=False)
    if not is_slow(item) and item.stash[_SECONDS] > LIMIT:
        used = f"{item.stash[_SECONDS]:.0f} s of processor time"
        pytest.fail(f"It used {used} in the fast tier and does not ask for the fixture `trainings`.", pytrace=False)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event in STARTS and _watching.is_set() and not forking():
        words = arguments[1] if event == "subprocess.Popen" else arguments[:1]
        words = " ".join(map(str, [words] if isinstance(words, str | bytes) else words))
        if not words.startswith(COUNTS):
            _started.append(words[:200])


sys.addaudithook(_note)
