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

ORDER = [
    ["__init__", "errors", "files"],
    ["functional"],
    ["distributions", "data", "runtime"],
    ["config"],
    ["report", "model"],
    ["objective", "evidence"],
    ["training"],
    ["completion"],
    ["commands"],
    ["cli"],
]
"""Folders from the ground up; those of one floor do not know one another."""
FLOOR = {name: floor for floor, names in enumerate(ORDER) for name in names}


def _folder(module: str) -> str:
    """The folder a module is in, or the module of the root."""
    return module.partition(".")[0]


def _module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_module(path) for path in FILES}


def _imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, and the folders of names that are none."""
    found = set()
    for node in _met(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "taut":
            base = str(node.module).removeprefix("taut").removeprefix(".")
            inner = [f"{base}.{alias.name}".removeprefix(".") for alias in node.names]
            found |= {name if name in MODULES else base or "__init__" for name in inner}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("taut.") for alias in node.names if alias.name.startswith("taut.")}
    return found


def _met(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that a program meets: not what is for type checkers alone."""
    yield node
    if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(node):
            yield from _met(child)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path):
    own = _folder(_module(path))
    assert own in FLOOR, f"{own} has no place in the house"
    others = {name: _folder(name) for name in _imports(path)}
    upward = [name for name, folder in others.items() if folder != own and FLOOR[folder] >= FLOOR[own]]
    assert not upward, f"{own} imports {upward}"


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


def test_files_and_functions_stay_readable():
    bodies = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                start = node.body[1].lineno if ast.get_docstring(node) and len(node.body) > 1 else node.body[0].lineno
                bodies.append(((node.end_lineno or start) - start + 1, f"{path.name}:{node.name}"))
    lengths = sorted(length for length, _ in bodies)
    assert lengths[len(lengths) // 2] <= 8
    assert lengths[int(0.9 * len(lengths))] <= 25
    assert not [name for length, name in bodies if length > 45]
