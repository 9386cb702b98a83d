"""The house stands: imports go one way, light doors stay light, nothing unsafe is called, files stay readable."""

import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from house import measures

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "taut"
FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("module", measures.files())
def test_imports_go_one_way(module):
    folder = measures.folder_of(module)
    assert folder in measures.FLOOR, f"{folder} has no place in the house"
    upward = [name for upper, name in measures.upward() if upper == module]
    assert not upward, f"{module} imports {upward}"


def test_every_folder_of_the_order_is_there():
    assert set(measures.FLOOR) == {measures.folder_of(module) for module in measures.files()}


def test_pictures_and_reports_know_no_model():
    for path in (SOURCE / "report").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) (torch|lightning)", text, re.MULTILINE), path


def test_the_command_line_loads_no_heavy_library(programs):
    heavy = ("torch", "lightning", "wandb", "matplotlib", "sklearn", "scipy")
    code = f"import sys, taut.cli, taut.config.check; print([n for n in {heavy!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    "unsafe",
    ["weights_only=False", r"pickle\.loads?\(", r"\beval\((?!\))", r"\bexec\(", r"\bshell=True", r"yaml\.load\("],
)
def test_nothing_unsafe_is_called(unsafe):
    for path in [*FILES, *ROOT.glob("*.py")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not re.search(unsafe, line), f"{path}: {line}"


@pytest.mark.parametrize(
    "private",
    [r"hydra\._internal", r"\b_(?:get_node|get_full_key|get_flag|get_parent|is_none|is_missing|is_interpolation)\("],
)
def test_nothing_private_of_hydra_is_used(private):
    """What Hydra and OmegaConf do not document may change with any of their releases."""
    for path in [*(ROOT / "src").rglob("*.py"), *ROOT.glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        assert not re.search(private, path.read_text(encoding="utf-8")), path


def test_files_and_functions_stay_readable():
    lengths = [length for length, _ in measures.bodies()]
    assert lengths[len(lengths) // 2] <= 8
    assert lengths[int(0.9 * len(lengths))] <= 20
    assert not [name for length, name in measures.bodies() if length > 45]
    assert statistics.median(measures.lengths()) >= 110


def test_the_table_of_measures_is_that_of_the_source():
    """The figures of CONTRIBUTING.md, but for those that every change of a line moves."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for measure, value in measures.table():
        assert f"| {measure} |" in text, measure
        if measure.startswith(("loose", "floors")):
            assert f"| {measure} | {value} |" in text
