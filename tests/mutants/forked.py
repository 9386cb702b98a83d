"""One interpreter that imports the heavy libraries once and forks a child for each job, two at a time.

``python forked.py JOBS``: a JSON list of jobs in; a line of JSON ``{"name", "code", "seconds"}`` for each finished one.
A child sees the copy of the package that its job names and nothing of it was imported before the fork. No thread may
run at a fork, so nothing is computed here.
"""

import gc
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypedDict

AT_ONCE = 2
LIMIT = 300.0  # seconds for one child
LIBRARIES = [
    "beartype",
    "hydra.extra.pytest_plugin",
    "hypothesis.extra.pytestplugin",
    "jaxtyping",
    "lightning",
    "pydantic",
    "pytest",
    "scipy.stats",
    "sklearn.cluster",
    "sklearn.decomposition",
    "sklearn.mixture",
    "torch._dynamo",
    "torchmetrics",
]
WRONG_COPY, CRASHED = 77, 78  # the child's exit codes beside pytest's own
MEANING = {
    0: "no test failed",
    1: "something failed that is not a test",
    WRONG_COPY: "another copy of the package was tested",
    CRASHED: "the run itself crashed",
    -9: f"killed, perhaps because {LIMIT:.0f} s were over",
}


class Job(TypedDict):
    """Tests to run on a copy of the package: ``source`` holds it, ``output`` takes what the run prints."""

    name: str
    source: str
    output: str
    tests: list[str]


def warm() -> None:
    """Import what the tests import, but for the package itself."""
    for name in LIBRARIES:
        import_module(name)
    import hypothesis
    import torch

    torch.set_num_threads(1)
    # What fails need not be made small, and must not depend on what failed before.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("verdict", derandomize=True, phases=phases)
    hypothesis.settings.load_profile("verdict")
    assert not [name for name in sys.modules if name.partition(".")[0] == "taut"]
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()  # a child's collections need not walk what it shares
    tasks = Path("/proc/self/task")  # Linux: threads of native libraries too
    assert not tasks.exists() or len(list(tasks.iterdir())) == 1


def run(jobs: list[Job]) -> Iterator[dict[str, Any]]:
    """Results as they come, about in the order of the jobs."""
    waiting, running = jobs[::-1], {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            job = waiting.pop()
            child = get_context("fork").Process(target=_child, args=(job,))
            child.start()
            running[child] = (job["name"], time.monotonic())
        wait([child.sentinel for child in running], timeout=1)
        for child in [child for child, (_, start) in running.items() if _ended(child, start)]:
            name, start = running.pop(child)
            yield {"name": name, "code": child.exitcode, "seconds": round(time.monotonic() - start, 1)}


def _ended(child: BaseProcess, start: float) -> bool:
    if child.is_alive() and time.monotonic() - start > LIMIT:
        child.kill()
        child.join()
    return not child.is_alive()


def _child(job: Job) -> None:
    """Never returns: what ends here is only this run."""
    code = CRASHED
    try:
        output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = _tests(Path(job["source"]), job["tests"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _tests(source: Path, tests: list[str]) -> int:
    import pytest

    sys.path.insert(0, str(source))
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}  # for what the tests start
    options = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "--tb=short", "--disable-warnings", "--color=no"]
    code = int(pytest.main([*options, *tests]))
    import taut

    return code if Path(str(taut.__file__)).is_relative_to(source) else WRONG_COPY


if __name__ == "__main__":
    warm()
    for result in run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))):
        print(json.dumps(result), flush=True)
