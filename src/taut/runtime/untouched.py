"""The process as the caller has set it up: nothing of it may be another one after a call."""

import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

LIGHTNING = ("lightning.pytorch", "lightning.fabric")
"""Loggers by which Lightning tells of devices and of its products whenever a trainer is made."""


@contextmanager
def untouched(dtype: torch.dtype | None = None) -> Iterator[None]:
    """Leave generators, dtype, threads, warnings, environment, signals and loggers as they were before the block.

    Args:
        dtype: Default float type inside the block; that of the caller if not given.
    """
    with ExitStack() as after:
        after.enter_context(warnings.catch_warnings())
        after.enter_context(_generators())
        for restore in (_torch, _environment, _signals, _loggers):
            after.enter_context(restore())
        if dtype is not None:
            torch.set_default_dtype(dtype)
        yield


@contextmanager
def _generators() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    # of a GPU that nobody has used, a copy of its state would be what starts it
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _torch() -> Iterator[None]:
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    only_warn = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        # to set the number that there is may start a pool of threads
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=only_warn)
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


@contextmanager
def _signals() -> Iterator[None]:
    """Put back the answers to signals: Lightning has its own while it trains, and ignores Ctrl-C once it has met it."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        yield
    finally:
        for number, answer in before.items():
            if signal.getsignal(number) is not answer:
                signal.signal(number, answer)


@contextmanager
def _loggers() -> Iterator[None]:
    """Keep Lightning quiet inside, and the handlers and levels of the root logger and of Lightning's as they are."""
    loggers = [logging.getLogger(), *map(logging.getLogger, LIGHTNING)]
    before = [(each.level, each.handlers[:], each.propagate) for each in loggers]
    for each in loggers[1:]:
        each.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for each, (level, handlers, propagate) in zip(loggers, before, strict=True):
            each.setLevel(level)
            each.handlers[:] = handlers
            each.propagate = propagate
