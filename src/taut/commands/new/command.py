"""``taut new <group> <name>``: a working piece, its yaml and its contract test, as files to change."""

import keyword
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import taut
from taut.config.program import ended
from taut.errors import UserError, nearest
from taut.files import reason, write_atomically

TRAIN = "taut train trust={package} --config-dir {package}/conf"


@dataclass(frozen=True)
class Kind:
    """One group.

    Args:
        group: The config group; the template is the module of this name.
        folder: Where taut has its own pieces of the group.
        yaml: The content of the yaml, with ``{target}`` in place of the class.
        test: The content of the test, of ``Mine`` in ``PACKAGE.mine``.
        command: What to type next.
    """

    group: str
    folder: str
    yaml: str
    test: str
    command: str


PRIOR = Kind(
    "prior",
    "model/prior",
    """# A prior of mine (--help shows this line)
_target_: {target}
dim: ${{latent_dim}}
scale: 1.0
""",
    '''"""The prior of PACKAGE.mine keeps the contract of priors."""

import pytest
from PACKAGE.mine import Mine
from taut.testing import check_prior


@pytest.mark.parametrize("dim", [1, 3])
def test_a_prior_keeps_its_contract(dim):
    check_prior(Mine(dim))
''',
    f"{TRAIN} prior={{name}}",
)
Q = Kind(
    "q",
    "model/q",
    """# A q of mine (--help shows this line)
_target_: {target}
x_shape: ${{x_shape}}
encoder: ${{network.encoder}}
""",
    '''"""The family of PACKAGE.mine keeps the contract of variational families."""

from functools import partial

import pytest
from PACKAGE.mine import Mine
from taut.model.joint import Joint
from taut.model.likelihood.linear import Linear
from taut.model.networks import MLPEncoder
from taut.model.prior.normal import Normal
from taut.testing import check_q


@pytest.mark.parametrize("dim", [1, 2])
def test_a_q_keeps_its_contract(dim):
    joint = Joint(Normal(dim), Linear((5,), dim))
    check_q(Mine(joint, (5,), partial(MLPEncoder, hidden=[8], activation="tanh")))
''',
    f"{TRAIN} q={{name}}",
)
LIKELIHOOD = Kind(
    "likelihood",
    "model/likelihood",
    """# @package _global_
# A likelihood of mine (--help shows this line)
likelihood:
  _target_: {target}
  x_shape: ${{x_shape}}
  decoder: ${{network.decoder}}
data:
  binarisation: none
""",
    '''"""The likelihood of PACKAGE.mine keeps the contract of likelihoods."""

from functools import partial

import pytest
import torch
from PACKAGE.mine import Mine
from taut.model.networks import MLPDecoder
from taut.testing import check_likelihood


@pytest.mark.parametrize("x_shape", [(1,), (3,), (1, 4, 4)])
def test_a_likelihood_keeps_its_contract(x_shape):
    likelihood = Mine(x_shape, 2, partial(MLPDecoder, hidden=[8], activation="tanh"))
    check_likelihood(likelihood, z=torch.randn(4, 5, 2))
''',
    f"{TRAIN} likelihood={{name}} data=faithful",
)
OBJECTIVE = Kind(
    "objective",
    "objective",
    """# An objective of mine (--help shows this line)
_target_: {target}
beta: 0.5
""",
    '''"""The objective of PACKAGE.mine keeps the contract of objectives."""

import pytest
from PACKAGE.mine import Mine
from taut.testing import check_objective


@pytest.mark.parametrize("k", [1, 2])
def test_an_objective_keeps_its_contract(k):
    check_objective(Mine(), k)
''',
    f"{TRAIN} objective={{name}} k=5",
)
DATA = Kind(
    "data",
    "data",
    """# A data set of mine (--help shows this line)
_target_: {target}
n: 1000
noise: 0.1
batch_size: 100
binarisation: none
seed: ${{seed}}
split_seed: 0
""",
    '''"""The data set of PACKAGE.mine keeps the contract of data sets."""

from PACKAGE.mine import Mine
from taut.testing import check_data


def test_a_data_set_keeps_its_contract():
    check_data(Mine)
''',
    f"{TRAIN} data={{name}} likelihood=gaussian",
)
EVIDENCE = Kind(
    "evidence",
    "evidence",
    """# An estimator of mine (--help shows this line)
{name}:
  _target_: {target}
  k: ${{k}}
  size: 10
""",
    '''"""The estimator of PACKAGE.mine keeps the contract of estimators."""

from PACKAGE.mine import Mine
from taut.testing import check_evidence


def test_an_estimator_keeps_its_contract():
    check_evidence(Mine(k=50))
''',
    "taut evaluate trust={package} --config-dir {package}/conf run=outputs/runs/<run> evidence={name}",
)
KINDS = {kind.group: kind for kind in (PRIOR, Q, LIKELIHOOD, OBJECTIVE, DATA, EVIDENCE)}
"""Every kind by its group."""

USAGE = f"""usage: taut new <group> <name> [to=<folder>]

Writes a piece that works, its yaml and a test of its contract, into a package of yours:

  taut new prior mine              mylab/mine.py, mylab/conf/prior/mine.yaml, mylab/tests/test_mine.py
  taut new q wide to=work/ideas    the same in work/ideas, a package called ideas

groups: {", ".join(KINDS)}
to: folder of the package, made where it is missing; its last part is the package's name (default: mylab)

Files that are there are never overwritten."""
SPELLED = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
TAKEN = ("conf", "tests")
"""Folders of the package, which a module of the same name would hide."""


def main(argv: Sequence[str]) -> int:
    """The exit code of one command: 0, or 2 for a mistake in it.

    Args:
        argv: The words behind ``taut new``.
    """
    if any(word in ("-h", "--help") for word in argv):
        return ended(lambda: print(USAGE))
    return ended(lambda: print(new(argv)))


def new(words: Sequence[str]) -> str:
    """Write the files of a piece, and say which they are and what to do next.

    Raises:
        UserError: If a word is wrong, or a file is there already; nothing is written then.
    """
    kind, name, folder = _read(words)
    package = folder.resolve().name
    _check_name(kind, name)
    _check_package(package, folder)
    contents = {
        folder / f"{name}.py": _source(kind, name),
        folder / "conf" / kind.group / f"{name}.yaml": kind.yaml.format(
            name=name, target=f"{package}.{name}.{class_of(name)}"
        ),
        folder / "tests" / f"test_{name}.py": _named(kind.test.replace("PACKAGE", package), name),
    }
    for path in contents:
        if os.path.lexists(path):
            raise UserError(f"{path} is there already; choose another name, or move it away.")
    if not (folder / "__init__.py").exists():
        contents = {folder / "__init__.py": '"""Pieces of my own for taut."""\n', **contents}
    _write(contents, folder)
    return _report(kind, name, folder, package, list(contents))


def class_of(name: str) -> str:
    """The class of a module: ``my_prior`` holds ``MyPrior``."""
    return "".join(part.capitalize() for part in name.split("_"))


def _read(words: Sequence[str]) -> tuple[Kind, str, Path]:
    places = [word.removeprefix("to=") for word in words if word.startswith("to=")]
    others = [word for word in words if not word.startswith("to=")]
    if len(others) != 2 or len(places) > 1 or not all(places):
        raise UserError(
            "taut new takes a group, a name and, if you like, a folder, as in 'taut new prior mine to=mylab', but "
            f"got {' '.join(words) or 'nothing'!r}; see taut new --help."
        )
    group, name = others
    if group not in KINDS:
        raise UserError(f"taut new makes no {group!r}; {nearest(group, KINDS)}")
    return KINDS[group], name, Path(places[0] if places else "mylab").expanduser()


def _check_spelling(what: str, name: str) -> None:
    if not SPELLED.fullmatch(name) or keyword.iskeyword(name):
        raise UserError(
            f"{what} {name!r} must be a name in Python, of small letters, digits and underscores, that starts with a "
            "letter and is no keyword; choose another, such as mine."
        )


def _check_name(kind: Kind, name: str) -> None:
    _check_spelling("The name", name)
    own = {path.stem for path in (Path(taut.__file__).parent / kind.folder).glob("*.py")}
    if name in own:
        raise UserError(f"{kind.group}={name} is taut's own; choose another name.")
    if name in TAKEN:
        raise UserError(f"The name {name!r} is that of a folder of the package; choose another.")


def _check_package(package: str, folder: Path) -> None:
    _check_spelling("The package", package)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is no folder; choose another with to=<folder>.")
    known = package in sys.stdlib_module_names
    spec = None if known else find_spec(package)
    places = [] if spec is None else [Path(place).resolve() for place in spec.submodule_search_locations or []]
    # where the folder is found itself, nothing is hidden
    if known or (spec is not None and folder.resolve() not in places):
        raise UserError(f"{package!r} is a package of Python or an installed one already; choose another to=<folder>.")


def _source(kind: Kind, name: str) -> str:
    template = files("taut.commands.new.templates").joinpath(f"{kind.group}.py")
    return _named(template.read_text(encoding="utf-8"), name)


def _named(text: str, name: str) -> str:
    return re.sub(r"\bmine\b", name, re.sub(r"\bMine\b", class_of(name), text))


def _write(contents: dict[Path, str], folder: Path) -> None:
    made: list[Path] = []
    try:
        for path, text in contents.items():
            missing = [place for place in reversed(path.parents) if not place.exists()]
            for place in missing:
                place.mkdir()
                made.append(place)
            write_atomically(path, text)
            made.append(path)
    except OSError as error:
        # nothing half-written: only what this command made goes, and a folder only if it is empty
        for place in reversed(made):
            place.rmdir() if place.is_dir() else place.unlink()
        raise UserError(f"{error.filename or folder} cannot be written: it {reason(error)}.") from error


def _report(kind: Kind, name: str, folder: Path, package: str, paths: Sequence[Path]) -> str:
    above = folder.resolve().parent
    here = above == Path.cwd().resolve()
    lines = ["Wrote", *(f"  {path}" for path in paths), "", "Next:"]
    lines += [] if here else [f"  cd {folder.parent}"]
    command = kind.command.format(package=package, name=name)
    return "\n".join([*lines, f"  python -m pytest {package}", f"  {command}"])
