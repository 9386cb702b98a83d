"""A process that ends when the one that watches over it does."""

import os
import signal
import threading

SUPERVISOR_PIPE = "TAUT_SUPERVISOR_PIPE"


def end_with_supervisor() -> None:
    """End this process and those it started, at once, when the other end of the pipe in the environment is closed.

    A watcher that is killed cannot say so; the kernel closes its end of the pipe.
    """
    descriptor = os.environ.pop(SUPERVISOR_PIPE, None)
    if descriptor is not None:
        threading.Thread(target=_end_at_close, args=(int(descriptor),), daemon=True).start()


def _end_at_close(descriptor: int) -> None:
    os.read(descriptor, 1)
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
