"""Work on the CPU that each of torch's threads does on its own, in the place of sharing every small operation."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def each_alone(work: Callable[[T], R], parts: Iterable[T]) -> list[R]:
    """``work`` on each part without gradients, in the order of the parts, whichever thread ends first.

    The threads meet once, not in every small operation, which on a machine with other work to do costs more than it
    saves: an E-step of 569 rows with missing cells on two busy cores takes four times as long when it is shared out.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        with torch.no_grad():
            return [work(part) for part in parts]
    # one torch thread in each, or the threads of all parts would compete for the cores
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        # no_grad is of the thread that says it
        found = list(pool.map(torch.no_grad()(work), parts))
    torch.set_num_threads(threads)  # for threads to come: what one of them sets is the default of the next
    return found
