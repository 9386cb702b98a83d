"""Why a process failed, in one sentence, from its exit code and what it said last."""

import re
import signal

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ERROR = re.compile(r"[\w.]*(?:Error|Exception|Interrupt)\b(?::|$)")
HINTS = {
    signal.SIGKILL: "killed by SIGKILL: out of memory, or by hand",
    signal.SIGSEGV: "killed by SIGSEGV: a segmentation fault",
    signal.SIGABRT: "killed by SIGABRT: a library gave up",
    signal.SIGTERM: "stopped by SIGTERM",
    signal.SIGINT: "stopped by Ctrl-C",
}
LONGEST = 300


def reason(code: int, said: str) -> str:
    """Why a process that ended with ``code`` did not finish.

    Args:
        code: Its exit code; negative for the signal that ended it.
        said: What it wrote to standard output and error.
    """
    number = -code if code < 0 else code - 128
    if number in HINTS:
        return HINTS[signal.Signals(number)]
    if code < 0:
        return f"killed by {signal.Signals(number).name}"
    if code == 0:
        return "ended with exit code 0 before its result was written"
    return (_last_error(said) or f"ended with exit code {code} and said nothing")[:LONGEST]


def _last_error(said: str) -> str:
    lines = [ESCAPES.sub("", line).strip() for line in said.replace("\r", "\n").splitlines()]
    lines = [line for line in lines if line and not line.startswith("Go on with:")][-60:]
    errors = [line for line in lines if ERROR.match(line)]
    return (errors or lines or [""])[-1]
