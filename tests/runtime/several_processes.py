"""Work done by several processes of one run, in forks of this one: no import is paid for twice."""

import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch


def in_processes(world: int, work: Callable[[], Any], folder: Path) -> list[Any]:
    """What ``work`` returns in each process, in order of rank: tensors and plain values."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    children = [_fork(rank, world, port, work, folder) for rank in range(world)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * world, codes
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


def _fork(rank: int, world: int, port: int, work: Callable[[], Any], folder: Path) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with as_rank(rank, world, port):
                torch.save(work(), folder / f"{rank}.pt")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return child


@contextmanager
def as_rank(rank: int, world: int, port: int) -> Iterator[None]:
    """The environment of one process of several on this machine, as Lightning reads it."""
    if world > 1:
        here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
        os.environ |= here | {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    yield
    with suppress(Exception):
        torch.distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
