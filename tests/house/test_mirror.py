"""A yaml is a file is a word: the config folders mirror the code, and every key is an argument."""

import importlib
import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pieces import CONF, names

from taut.targets import check_hydra, check_targets

SOURCE = Path(__file__).resolve().parents[2] / "src" / "taut"
MIRRORED = ("prior", "q", "likelihood", "objective", "model", "data", "mask", "evidence")
OTHERS = {"evidence": "evaluate", "experiment=gap": "evaluate", "experiment=lecture": "complete"}
"""The command that a group, or a single choice of one, belongs to where it is not train."""
YAMLS = sorted(CONF.rglob("*.yaml"))


def _nodes(value):
    """Every node with a ``_target_``, however deep."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield value
        for part in value.values():
            yield from _nodes(part)
    elif isinstance(value, list):
        for part in value:
            yield from _nodes(part)


def _locate(target: str):
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _arguments(target: type) -> set[str] | None:
    """Names a constructor takes, following ``**settings`` to the base class; None if it hands them to others."""
    found: set[str] = set()
    for one in getattr(target, "__mro__", (target,)):
        call = one.__dict__.get("__init__") if inspect.isclass(one) else one
        if call is None or one is object:
            continue
        parameters = inspect.signature(call).parameters.values()
        found |= {p.name for p in parameters}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return found
        if not inspect.isclass(target) or not call.__module__.startswith("taut."):
            return None
    return found


@pytest.mark.parametrize("group", MIRRORED)
def test_every_yaml_has_its_module_and_every_piece_its_yaml(group):
    base = next(c for c in vars(importlib.import_module(f"taut.{group}.base")).values() if _is_base(c, group))
    defined = set()
    for path in (SOURCE / group).glob("*.py"):
        module = importlib.import_module(f"taut.{group}.{path.stem}")
        classes = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
        if any(issubclass(c, base) and not inspect.isabstract(c) for c in classes):
            defined.add(path.stem)
    assert set(names(group)) - {"default"} == defined


def _is_base(value, group: str) -> bool:
    return inspect.isclass(value) and value.__module__ == f"taut.{group}.base" and inspect.isabstract(value)


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: str(p.relative_to(CONF)))
def test_every_target_imports_and_every_key_is_an_argument(path):
    container = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    check_hydra(container.pop("hydra", {}))
    for node in _nodes(container):
        check_targets({"node": node})
        target = _locate(node["_target_"])
        arguments = _arguments(target)
        if arguments is not None:
            assert {key for key in node if not key.startswith("_")} <= arguments, node["_target_"]


GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir() and p.name != "hydra")
CHOICES = [(group, name) for group in GROUPS for name in names(group)]


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=lambda v: v)
def test_every_choice_composes(group, name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        word = f"+{group}={name}" if group == "sweep" else f"{group}={name}"
        assert compose(OTHERS.get(f"{group}={name}") or OTHERS.get(group) or "train", [word])


def test_command_line_beats_experiment_beats_model_beats_default():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose("train", ["experiment=burda_iwae"]).k == 50
        assert compose("train", ["experiment=burda_iwae", "k=7"]).k == 7
        assert compose("train", ["model=mog", "objective=exact"]).objective._target_.endswith("Exact")
        assert compose("train", ["likelihood=gaussian"]).data.binarisation == "none"
        assert compose("train", ["likelihood=gaussian", "data.binarisation=fixed"]).data.binarisation == "fixed"
