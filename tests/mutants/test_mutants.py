"""Each seeded bug, in a copy of the package, makes the tests named beside it fail; without a bug they pass."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from forked import MEANING
from mutants import BOUNDS, MUTANTS, ORACLE, Mutant

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
PASSED, FAILED = 0, 1  # pytest's exit codes


class Case(NamedTuple):
    """Tests to run on a copy of the package, with a bug in it or without."""

    name: str
    tests: list[str]
    mutant: Mutant | None = None


def _bug(mutant: Mutant) -> Case:
    return Case(mutant.name, [mutant.tests], mutant)


def _without_a_bug() -> list[Case]:
    """One case for each file of tests that a bug names: the test that most of them name.

    It shows that a run like those of the bugs passes where there is none. That all other tests pass without a bug is
    what the rest of the suite shows.
    """
    named = Counter(mutant.tests for mutant in MUTANTS)
    most = {tests.partition("::")[0]: tests for tests, _ in reversed(named.most_common())}
    return [Case(f"no bug: {file}", [tests]) for file, tests in sorted(most.items())]


IN_BOUNDS = "functional/bounds.py"
BROKEN = [
    Case("does not parse", [BOUNDS], Mutant("", IN_BOUNDS, "def iwae(", "def iwae((", "")),
    Case("does not import", [BOUNDS, ORACLE], Mutant("", IN_BOUNDS, "import torch\n", "import torchh\n", "")),
    Case("no such test", [BOUNDS + "::test_of_nothing"]),
]


class Runs:
    """The runs of all selected cases, in the background; their results by name."""

    def __init__(self, cases: list[Case], folder: Path) -> None:
        self.folder = folder
        self.outputs: dict[str, Path] = {}
        self.codes: dict[str, int] = {}
        (folder / "jobs.json").write_text(json.dumps([self._job(case) for case in cases]), encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "forked.py"), str(folder / "jobs.json")],
            cwd=ROOT,
            # else their threads run at the fork
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"},
            stdout=subprocess.PIPE,
            stderr=(folder / "errors.txt").open("w"),
            text=True,
            start_new_session=True,
        )

    def _job(self, case: Case) -> dict[str, object]:
        assert case.name not in self.outputs, f"two bugs are called {case.name}"
        folder = self.folder / str(len(self.outputs))
        self.outputs[case.name] = folder / "output.txt"
        # with what is compiled: it counts for sources of the same time and size, so for all but the one with the bug
        shutil.copytree(SOURCE, folder / "src", ignore=shutil.ignore_patterns("*.egg-info"))
        for name in ("train.py", "conf"):  # by which the package knows that it lies in a repository
            (folder / name).symlink_to(ROOT / name)
        if case.mutant:
            path = folder / "src" / "taut" / case.mutant.file
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(case.mutant.old, case.mutant.new), encoding="utf-8")
        output, source = str(self.outputs[case.name]), str(folder / "src")
        return {"name": case.name, "source": source, "output": output, "tests": case.tests}

    def of(self, case: Case) -> tuple[int, str]:
        """Exit code of a case's run (negative: the signal that ended it) and the end of what it printed."""
        while case.name not in self.codes:
            line = self.process.stdout.readline()
            assert line, (self.folder / "errors.txt").read_text(encoding="utf-8")[-2000:]
            result = json.loads(line)
            self.codes[result["name"]] = result["code"]
        output = self.outputs[case.name]
        shutil.rmtree(output.parent / "src", ignore_errors=True)
        return self.codes[case.name], output.read_text(encoding="utf-8", errors="replace")[-2000:]

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture(scope="module")
def runs(programs, request, tmp_path_factory) -> Iterator[Runs]:
    """Starts what this session will ask for, no more."""
    here = [item for item in request.session.items if item.path == Path(__file__)]
    running = Runs([item.callspec.params["case"] for item in here], tmp_path_factory.mktemp("runs"))
    yield running
    running.end()


def _killed(code: int, output: str) -> bool:
    """A test failed; where tests cannot be collected pytest may leave with the same code."""
    return code == FAILED and re.search("^1 failed", output, re.MULTILINE) is not None


def _name(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", _without_a_bug(), ids=_name)
def test_without_a_bug_the_same_tests_pass(case: Case, runs: Runs):
    code, output = runs.of(case)
    assert code == PASSED, f"{MEANING.get(code, f'exit code {code}')}:\n{output}"


@pytest.mark.parametrize("case", [_bug(mutant) for mutant in MUTANTS], ids=_name)
def test_mutant_is_killed(case: Case, runs: Runs):
    found = (SOURCE / "taut" / case.mutant.file).read_text(encoding="utf-8").count(case.mutant.old)
    assert found == 1, f"{case.name}: its text is found {found} times"
    code, output = runs.of(case)
    assert _killed(code, output), f"{case.name} lives, {MEANING.get(code, f'exit code {code}')}:\n{output}"


@pytest.mark.parametrize("case", BROKEN, ids=_name)
def test_a_run_that_breaks_is_no_kill(case: Case, runs: Runs):
    code, output = runs.of(case)
    assert code != PASSED, output
    assert not _killed(code, output), output
