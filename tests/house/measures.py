"""Figures of the house, as a table: ``python tests/house/measures.py``.

A room is a folder, a sub-folder or a file of the root; an arrow leads from a room to another one that it imports.
"""

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "taut"
CONF = ROOT / "conf"
FLOORS = [
    ["__init__", "errors", "files"],
    ["functional"],
    ["distributions", "runtime"],
    ["data", "config"],
    ["report", "model"],
    ["objective", "evidence"],
    ["training", "adapters"],
    ["completion"],
    ["api", "testing"],
    ["commands"],
    ["cli"],
    ["__main__"],
]
"""Folders from the ground up; those of one floor do not import one another."""
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FOR_TOOLS = ("noqa", "type:", "pyright:")


def module_of(path: Path) -> str:
    """Dotted name of a file inside the package."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def folder_of(module: str) -> str:
    """Folder of a module, or the module itself in the root."""
    return module.partition(".")[0]


@cache
def files() -> dict[str, Path]:
    """Every file by its module."""
    return {module_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


@cache
def tree_of(module: str) -> ast.Module:
    """Syntax tree of a module."""
    return ast.parse(files()[module].read_text(encoding="utf-8"))


@cache
def imports_of(module: str) -> frozenset[str]:
    """Modules of the package that a module imports when it runs, not those for type checkers alone."""
    found = set()
    for node in _executed(tree_of(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "taut":
            base = str(node.module).removeprefix("taut").removeprefix(".")
            names = [f"{base}.{alias.name}".removeprefix(".") for alias in node.names]
            found |= {name if name in files() else base or "__init__" for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("taut.") for alias in node.names if alias.name.startswith("taut.")}
    return frozenset(found - {module})


def room_of(module: str) -> str:
    """Folder or sub-folder of a module, or the module itself in the root."""
    path = files()[module]
    return module if path.parent == SOURCE else ".".join(path.parent.relative_to(SOURCE).parts)


def arrows() -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports the second."""
    pairs = {(room_of(module), room_of(name)) for module in files() for name in imports_of(module) if name in files()}
    return {(one, other) for one, other in pairs if one != other}


def upward() -> list[tuple[str, str]]:
    """Imports that do not lead to a lower floor, or stay in their folder."""
    pairs = [(module, name) for module in files() for name in sorted(imports_of(module))]
    return [
        (module, name)
        for module, name in pairs
        if folder_of(module) != folder_of(name) and FLOOR[folder_of(name)] >= FLOOR[folder_of(module)]
    ]


def with_one_importer() -> list[str]:
    """Modules that exactly one other module imports, but for those that a package imports to offer their names."""
    importers = {module: [other for other in files() if module in imports_of(other)] for module in files()}
    return [
        module for module, others in importers.items() if len(others) == 1 and others[0] != module.rpartition(".")[0]
    ]


def chosen_by_a_yaml() -> set[str]:
    """Modules whose classes or functions the configs name: nobody else need import them."""
    text = "".join(path.read_text(encoding="utf-8") for path in CONF.rglob("*.yaml"))
    return {module for module in files() if re.search(rf"_target_: taut\.{re.escape(module)}\.\w+\s", text)}


def lengths() -> list[int]:
    """Lines of every module that holds more than a docstring, but for pieces: each has a file, however short."""
    others = modules() - chosen_by_a_yaml()
    return sorted(len(files()[name].read_text(encoding="utf-8").splitlines()) for name in others)


def modules() -> set[str]:
    """Modules that hold more than a docstring."""
    return {name for name in files() if _has_code(name)}


@cache
def bodies() -> list[tuple[int, str]]:
    """Lines of every function without its docstring, and where it is."""
    found = []
    for module in files():
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.FunctionDef):
                start = node.body[1].lineno if ast.get_docstring(node) and len(node.body) > 1 else node.body[0].lineno
                found.append(((node.end_lineno or start) - start + 1, f"{module}:{node.name}"))
    return sorted(found)


def code_and_comments() -> tuple[int, int]:
    """Lines of code, without docstrings and blank lines, and comments that are for readers."""
    code, comments = 0, 0
    for module, path in files().items():
        text = path.read_text(encoding="utf-8")
        documented = {line for node in ast.walk(tree_of(module)) for line in _string_lines(node)}
        lines = enumerate(text.splitlines(), 1)
        code += sum(bool(line.strip()) and number not in documented for number, line in lines)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                code -= token.line.strip().startswith("#")
                words = token.string.lstrip("# ")
                comments += not words.startswith(FOR_TOOLS) or "(" in words
    return code, comments


def table() -> list[tuple[str, str]]:
    """Every measure and its value."""
    inner = [path for path in SOURCE.iterdir() if path.is_dir() and (path / "__init__.py").exists()]
    loose = [path for path in SOURCE.glob("*.py") if path.stem != "__init__"]
    lonely = set(with_one_importer()) - chosen_by_a_yaml()
    between_folders = {(folder_of(one), folder_of(other)) for one, other in arrows()}
    between_folders -= {(name, name) for name in FLOOR}
    code, comments = code_and_comments()
    body = [length for length, _ in bodies()]
    total = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files().values())
    return [
        ("loose modules / folders in `src/taut`", f"{len(loose)} / {len(inner)}"),
        ("arrows between folders; between rooms", f"{len(between_folders)}; {len(arrows())}"),
        ("floors; imports that lead upwards", f"{len(FLOORS)}; {len(upward())}"),
        ("modules", f"{len(modules())}"),
        ("modules with one importer, apart from what a yaml names or a package offers", f"{len(lonely)}"),
        ("module length, median, apart from pieces that a yaml names", f"{statistics.median(lengths()):.0f}"),
        ("source lines", f"{total:,}"),
        ("function body, median / 90th percentile", f"{statistics.median(body):.0f} / {body[int(0.9 * len(body))]}"),
        ("comments for readers per 100 lines of code", f"{100 * comments / code:.1f}"),
    ]


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(node):
            yield from _executed(child)


def _has_code(module: str) -> bool:
    body = tree_of(module).body
    return len(body) > 1 or not (body and isinstance(body[0], ast.Expr))


def _string_lines(node: ast.AST) -> range:
    """Lines of a string that stands alone: a docstring, or the words behind an attribute."""
    alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return range(node.lineno, (node.end_lineno or node.lineno) + 1) if alone else range(0)


if __name__ == "__main__":
    print("| measure | now |\n|---|---|")
    for measure, value in table():
        print(f"| {measure} | {value} |")
