"""The house stands: imports go one way, light doors stay light, nothing unsafe is called, files stay readable."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "taut"
FILES = sorted(SOURCE.rglob("*.py"))

LAYERS = [
    ["secrecy"],
    ["errors", "nearest", "ranges", "secret", "words", "ranks", "__version__"],
    [
        "types",
        "noise",
        "precision",
        "statistics",
        "consistency",
        "networks",
        "gaussian",
        "memory",
        "holes",
        "crew",
        "devices",
    ],
    ["partial", "mask", "moments"],
    ["data", "prior", "likelihood"],
    ["bounds", "few", "sampling"],
    ["joint"],
    ["oracle"],
    ["q"],
    ["objective", "evidence"],
    ["evaluation"],
    ["metrics", "local", "judgement", "criteria"],
    ["model", "gap", "completion"],
    [
        "figures",
        "report",
        "schedule",
        "checkpoint",
        "progress",
        "processes",
        "baselines",
        "whole",
        "strategies",
        "recorded",
        "reach",
    ],
    ["callbacks", "loggers", "measure"],
    ["targets", "leftovers", "flags"],
    ["config"],
    ["resume", "explain"],
    ["make", "compose"],
    ["build", "result", "assessment"],
    ["run", "depiction", "estimators", "incomplete", "lesson"],
    ["dossier", "imputer"],
    ["completed"],
    ["train", "evaluate", "complete"],
    ["sweep", "dashboard"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def _part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def _imports(path: Path) -> list[str]:
    """The parts of the package a file imports."""
    found = []
    for node in _met(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "taut":
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("taut."):
            found.append(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found += [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("taut.")]
    return found


def _met(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that a program meets: not what is for type checkers alone."""
    yield node
    if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(node):
            yield from _met(child)


@pytest.mark.parametrize("path", [f for f in FILES if _part(f) != "__init__"], ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_one_way(path):
    own = _part(path)
    assert own in RANK, f"{own} has no place in the house"
    upward = [name for name in _imports(path) if name != own and RANK[name] >= RANK[own]]
    assert not upward, f"{own} imports {upward}"


@pytest.mark.parametrize("part", ["figures", "report"])
def test_pictures_and_reports_know_no_model(part):
    for path in (SOURCE / part).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) (torch|lightning)", text, re.MULTILINE), path


def test_the_command_line_loads_no_heavy_library(programs):
    heavy = ("torch", "lightning", "wandb", "matplotlib", "sklearn", "scipy")
    code = f"import sys, taut.cli, taut.config; print([n for n in {heavy!r} if n in sys.modules])"
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


def test_files_and_functions_stay_readable():
    bodies = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                start = node.body[1].lineno if ast.get_docstring(node) and len(node.body) > 1 else node.body[0].lineno
                bodies.append(((node.end_lineno or start) - start + 1, f"{path.name}:{node.name}"))
    lengths = sorted(length for length, _ in bodies)
    assert lengths[len(lengths) // 2] <= 8
    assert lengths[int(0.9 * len(lengths))] <= 25
    assert not [name for length, name in bodies if length > 45]
