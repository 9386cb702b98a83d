"""Packages beside taut whose classes a config may build, and who may name them: the user, and nothing that was written.

A class that is built runs code of its package. The packages are those that the words of a command name
(``trust=[mylab]``), those of the environment (``TAUT_TRUST=mylab,other``), those of the user's own file
(``~/.config/taut/config.yaml``), and those that the user has installed and that register themselves (entry points of
the group ``taut.pieces``). No config, run folder or working directory adds to them. The words of a command go into the
environment of its process, by which the processes that it starts have them, and into no file.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions, packages_distributions
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from typing import Any

from taut.config.plain_yaml import read_values
from taut.errors import UserError, nearest

VARIABLE = "TAUT_TRUST"
GROUP = "taut.pieces"
PUBLISHED = frozenset(
    f"taut.testing.published:{name}" for name in ("gaussian_pair", "radiata_pine_density", "radiata_pine_without_resin")
)
"""Functions of taut's own that give a model to audit; no other of its functions may be called from a config."""
OF_AN_AGENT = "WANDB_SWEEP_ID"
"""Set where W&B's agent has started the command: its words are then those of a sweep file."""

# ASCII: \w would else match letters that only look like those of a name
NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
TARGET = re.compile(r"[A-Za-z]\w*(?:\.[A-Za-z]\w*)+", re.ASCII)
WORD = re.compile(r"\s*[+~]*\s*trust\s*(?:[=.@/]|$)")
CONSTANTS = {"null", "none", "true", "false"}
INSTALLERS = {"pip", "setuptools", "pkg_resources", "hydra_plugins", "sitecustomize", "usercustomize"}
"""Modules that install or start others, and are nobody's pieces."""

_in_python: ContextVar[frozenset[str]] = ContextVar("trust", default=frozenset())


class NeedsTrust(UserError):
    """A config names classes of packages that the user has not named.

    Args:
        packages: Their names.
        said: What needs them, as the start of a sentence.
    """

    def __init__(self, packages: Sequence[str], said: str) -> None:
        names = ", ".join(packages)
        super().__init__(
            f"{said} needs classes of {names}; add trust=[{','.join(packages)}] if you know "
            f"{'it' if len(packages) == 1 else 'them'}."
        )
        self.packages = packages

    def of_run(self, name: str) -> "NeedsTrust":
        """The same of a run."""
        return NeedsTrust(self.packages, f"The run {name}")


def is_trust(word: str) -> bool:
    """Tell whether a word of a command names packages to trust, by any spelling."""
    return WORD.match(word) is not None


def taken(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words without those that name packages, and these packages, which this process and its children now trust.

    Raises:
        UserError: If they name something that is not there, or that may not be trusted.
    """
    named: list[str] = []
    for word in filter(is_trust, words):
        if os.environ.get(OF_AN_AGENT):
            raise UserError(
                f"{word} comes from the file of a W&B sweep, which trusts nothing; start the agent with "
                f"{VARIABLE}=<package> in its environment."
            )
        if not re.match(r"\+*trust=", word):
            raise UserError(f"{word} names no package; write trust=[mylab], or leave it out.")
        named += _names(word.partition("=")[2], word)
    if named:
        os.environ[VARIABLE] = ",".join(dict.fromkeys([*_of_environment(), *named]))
    look_here()
    for name in named:
        if find_spec(name) is None:
            raise UserError(
                f"trust=[{name}]: there is no package {name}, neither installed nor in {os.getcwd()}; install it, or "
                "start the command where it is."
            )
    return [word for word in words if not is_trust(word)], named


def trusted() -> frozenset[str]:
    """Names of the packages whose classes a config may build.

    Raises:
        UserError: If the environment, the user's file or an installed package names what may not be trusted.
    """
    installed_names = {each.package for each in installed()}
    return _in_python.get().union(_of_environment(), _of_file(user_file()), installed_names)


@contextmanager
def trusting(names: str | Sequence[str]) -> Iterator[None]:
    """Trust further packages for the length of a block, in Python.

    Args:
        names: Their names.

    Raises:
        UserError: If one of them may not be trusted.
    """
    parts = [names] if isinstance(names, str) else names
    token = _in_python.set(_in_python.get().union(name for part in parts for name in _names(part, f"trust={names!r}")))
    try:
        yield
    finally:
        _in_python.reset(token)


def covers(target: Any) -> bool:
    """Tell whether a ``_target_`` is spelt as one of a trusted package."""
    return _is_target(target) and package_of(target) in trusted()


def could_cover(target: Any) -> bool:
    """Tell whether the user could trust the package of a ``_target_``."""
    return _is_target(target) and _against(package_of(target)) is None


def holds(module: Any) -> bool:
    """Tell whether a module, by the name an object gives as its own, is one of a trusted package."""
    return isinstance(module, str) and package_of(module) in trusted()


def package_of(name: str) -> str:
    """The package that a dotted name begins with."""
    return name.partition(".")[0]


def environment() -> dict[str, str]:
    """The variable by which another process of this command trusts what this one does."""
    return {VARIABLE: os.environ[VARIABLE]} if os.environ.get(VARIABLE) else {}


def user_file() -> Path:
    """The user's own settings, which may not be there."""
    # the base directory specification has relative paths ignored, and one would be read from the working directory
    place = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(place) if os.path.isabs(place) else Path.home() / ".config") / "taut" / "config.yaml"


def _is_target(target: Any) -> bool:
    return isinstance(target, str) and TARGET.fullmatch(target) is not None


def _of_environment() -> list[str]:
    value = os.environ.get(VARIABLE, "")
    return _names(value, f"{VARIABLE}={value}") if value.strip() else []


def _of_file(path: Path) -> list[str]:
    if not path.exists():
        return []
    content = read_values(path) or {}
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold one key, trust: [mylab], got {content!r}.")
    for key in content:
        if key != "trust":
            raise UserError(f"{path}: there is no key {key}; {nearest(str(key), ['trust'])}")
    value = content.get("trust")
    names = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: trust must be a list of packages, such as [mylab], got {value!r}.")
    return [name for part in names for name in _names(part, str(path))]


def _names(text: str, said: str) -> list[str]:
    """The packages in ``[a,b]``, ``a,b`` or ``["a"]``, each of which may be trusted."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    names = [part.strip().strip("'\"").strip() for part in text.split(",")]
    for name in names:
        _check_name(name, said)
    return names


def _check_name(name: str, said: str) -> None:
    top = package_of(name)
    if "." in name and NAME.fullmatch(top):
        raise UserError(f"{said}: trust is of whole packages; write {top} for {ascii(name)[1:-1]}.")
    if not NAME.fullmatch(name) or iskeyword(name) or name.lower() in CONSTANTS:
        # ascii: a letter of another alphabet shows what it is
        raise UserError(f"{said}: {name!a} is not the name of a package; write trust=[mylab], or leave it out.")
    if reason := _against(name):
        raise UserError(f"{said}: {name} {reason}; trust a package of your own.")


def _against(name: str) -> str | None:
    """Why a package cannot be trusted: what it holds was not written to be built from a config."""
    if name in sys.stdlib_module_names:
        return "is part of Python, and a config that builds what it holds can do anything"
    if name in INSTALLERS:
        return "installs or starts other packages, and a config that builds what it holds can do anything"
    if name in _libraries():
        return "is a part of taut or of what it is built on, and which of those a config may build is fixed"
    return None


@cache
def _libraries() -> frozenset[str]:
    """Modules of taut, of what it requires, and of what that requires."""
    known, waiting = set[str](), ["taut"]
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        # extras of libraries name half of all packages, those of taut are its own
        needed = [text for text in requirements if name == "taut" or "extra ==" not in text]
        waiting += [_normal(match[0]) for text in needed if (match := re.match(r"[\w.-]+", text))]
    modules = packages_distributions()
    return frozenset(module for module, of in modules.items() if any(_normal(name) in known for name in of)) | {"taut"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Pieces:
    """An installed package that brings pieces.

    Args:
        package: Its name.
        distribution: Name of the distribution that registers it, as pip knows it.
        conf: Folder of its config groups, if it has one.
    """

    package: str
    distribution: str
    conf: Path | None


def installed() -> tuple[Pieces, ...]:
    """Packages that are installed and register themselves.

    Raises:
        UserError: If an entry point is broken, naming its distribution.
    """
    return _registered(tuple(_sites()))


def conf_folders() -> list[Path]:
    """Folders with config groups of installed packages, in the order of their distributions."""
    return [each.conf for each in installed() if each.conf is not None]


def _sites() -> Iterator[str]:
    """Folders of ``sys.path`` into which something was installed.

    Anyone who hands over a folder can put a ``mylab-1.0.dist-info`` into it: those in the working directory and beside
    the program that was started, where Python looks as well, count for nothing.
    """
    started = getattr(sys.modules.get("__main__"), "__file__", None)
    loose = {os.path.realpath(place) for place in (os.getcwd(), os.path.dirname(started or ""))}
    for place in sys.path:
        if os.path.realpath(place) not in loose:
            yield place


@lru_cache(maxsize=8)
def _registered(sites: tuple[str, ...]) -> tuple[Pieces, ...]:
    found: dict[str, list[Pieces]] = {}
    for each in distributions(path=list(sites)):
        # read as text first: parsing the entry points of every distribution would take ten times as long
        if f"[{GROUP}]" not in (each.read_text("entry_points.txt") or ""):
            continue
        name = str(each.metadata["Name"] or "without a name")
        # as Python does: of a distribution that is there twice, the first
        found.setdefault(_normal(name), list(_pieces(name, each)))
    return tuple(pieces for name in sorted(found) for pieces in found[name])


def _pieces(name: str, of: Distribution) -> Iterator[Pieces]:
    for point in of.entry_points.select(group=GROUP):
        said = f"The distribution {name} registers {point.value} for {GROUP}"
        remedy = f"correct its pyproject.toml, or pip uninstall {name}"
        if not NAME.fullmatch(point.value):
            raise UserError(f"{said}, which must be the name of a package; {remedy}.")
        if reason := _against(point.value):
            raise UserError(f"{said}, which {reason}; {remedy}.")
        spec = find_spec(point.value)
        if spec is None:
            raise UserError(f"{said}, and there is no such package; {remedy}.")
        places = [Path(place) / "conf" for place in spec.submodule_search_locations or ()]
        yield Pieces(point.value, name, next((place for place in places if place.is_dir()), None))


class _Here(PathFinder):
    """Finds the packages that the words of a command or the environment name where the command was started.

    It comes behind everything that is installed, and finds nothing else there: were that folder on ``sys.path``, a file
    ``torch.py`` in it would be imported. What the user's file names is trusted in any folder, and so is not looked for
    in each.
    """

    names = frozenset[str]()
    folder = ""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if path is None and fullname in cls.names:
            return PathFinder.find_spec(fullname, [cls.folder], target)
        return None


def look_here() -> None:
    """Have Python find packages that the words or the environment name in the working directory of this moment."""
    # not that of the import: a job may run in its run folder, which may be a stranger's
    _Here.names, _Here.folder = frozenset(_of_environment()), os.getcwd()
    if _Here.names and _Here not in sys.meta_path:
        sys.meta_path.append(_Here)


def as_word(names: Iterable[str]) -> list[str]:
    """The word that names packages on a command line, which no shell reads otherwise; none for no names."""
    joined = ",".join(names)
    return [f"trust={joined}"] if joined else []
