"""A yaml is a file is a word: the config folders mirror the code, and every key is an argument."""

import importlib
import inspect
from itertools import zip_longest
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pieces import CONF, EXPERIMENTS, names

from taut.config.instantiate import check_hydra, check_targets

SOURCE = Path(__file__).resolve().parents[2] / "src" / "taut"
BASES = {
    "prior": "taut.model.prior.base.Prior",
    "q": "taut.model.q.base.Posterior",
    "likelihood": "taut.model.likelihood.base.Likelihood",
    "objective": "taut.objective.base.Objective",
    "model": "taut.training.module.LatentVariableModel",
    "data": "taut.data.base.Data",
    "mask": "taut.data.mask.base.Mask",
    "evidence": "taut.evidence.base.Evidence",
}
"""What every choice of a group is; the choices are beside it."""
ABBREVIATED = {"mog": "mixtureofgaussians"}
OTHERS = {"evidence": "evaluate", **{f"experiment={name}": command for name, command in EXPERIMENTS.items()}}
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


def _pieces(group: str) -> set[str]:
    """The concrete classes of a group, by the folder of their base class."""
    base = _locate(BASES[group])
    package = BASES[group].rpartition(".")[0].rpartition(".")[0]
    found = set()
    for path in (SOURCE.parent / package.replace(".", "/")).glob("*.py"):
        module = importlib.import_module(f"{package}.{path.stem}" if path.stem != "__init__" else package)
        own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
        found |= {f"{c.__module__}.{c.__qualname__}" for c in own if issubclass(c, base) and not inspect.isabstract(c)}
    return found - {BASES[group]}


def _target(group: str, name: str) -> str:
    """The piece that a yaml chooses: its own node, or the one of the group or of the choice within it."""
    content = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"), resolve=False)
    nodes = [content, content.get(group), content.get(name)]
    (target,) = [node["_target_"] for node in nodes if isinstance(node, dict) and "_target_" in node]
    return target


@pytest.mark.parametrize("group", BASES)
def test_every_yaml_has_its_class_and_every_piece_its_yaml(group):
    targets = {name: _target(group, name) for name in names(group) if name != "default"}
    assert sorted(targets.values()) == sorted(_pieces(group))
    for name, target in targets.items():
        word = target.rpartition(".")[2].lower()
        assert word == ABBREVIATED.get(name, name.replace("_", ""))


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: str(p.relative_to(CONF)))
def test_every_target_imports_and_every_key_is_an_argument(path):
    container = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    of_hydra = {path.parent.name: container} if "hydra" in path.relative_to(CONF).parts else container.pop("hydra", {})
    check_hydra(of_hydra)
    for node in _nodes(container):
        if container not in of_hydra.values():
            check_targets({"node": node})
        target = _locate(node["_target_"])
        arguments = _arguments(target)
        if arguments is not None:
            assert {key for key in node if not key.startswith("_")} <= arguments, node["_target_"]


GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir() and p.name != "hydra")
CHOICES = [(group, name) for group in GROUPS for name in names(group)]
ALONE = ("experiment", "sweep", *OTHERS)
"""Groups whose choices say something of other groups, or are of another command."""
TOGETHER = zip_longest(*([f"{group}={name}" for name in names(group)] for group in GROUPS if group not in ALONE))
WORDS = [
    *([f"+{group}={name}" if group == "sweep" else f"{group}={name}"] for group, name in CHOICES if group in ALONE),
    *([word for word in row if word] for row in TOGETHER),  # a fifth of the time of one after another
]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_choice_composes(words):
    group = words[0].partition("=")[0]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose(OTHERS.get(words[0]) or OTHERS.get(group) or "train", words)


def test_command_line_beats_experiment_beats_model_beats_default():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose("train", ["experiment=burda_iwae"]).k == 50
        assert compose("train", ["experiment=burda_iwae", "k=7"]).k == 7
        assert compose("train", ["model=mog", "objective=exact"]).objective._target_.endswith("Exact")
        assert compose("train", ["likelihood=gaussian"]).data.binarisation == "none"
        assert compose("train", ["likelihood=gaussian", "data.binarisation=fixed"]).data.binarisation == "fixed"
