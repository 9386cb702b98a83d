"""Small models from the project's own yaml files, for contract tests."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict

from taut.config.instantiate import instantiate
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective

CONF = Path(__file__).resolve().parents[1] / "conf"
X = (1, 4, 4)
COLUMNS = ("gaussian", "negative_binomial", "categorical 3", "bernoulli")
SMALL_NETWORK = {"hidden": [7], "channels": 2, "widths": [2, 4]}


AUDITS = ("gaussian_pair", "radiata_pine_density", "radiata_pine_without_resin")
EXPERIMENTS = {"gap": "evaluate", "lecture": "complete", **dict.fromkeys(AUDITS, "audit")}
"""The command of an experiment that is none of train."""


def names(group: str) -> list[str]:
    """The entries of a config group: what a contract is parametrised over."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def config(*overrides: str, x_shape: tuple[int, ...] = X) -> DictConfig:
    """The composed config with a small latent space and small networks."""
    cfg = deepcopy(_composed(*overrides))
    with open_dict(cfg):
        cfg.x_shape = list(x_shape)
        # x of pixels of four grey levels, as images tell it
        cfg.x_levels = {"count": 4, "divisor": 3, "offset": 0}
        if "families" in cfg.likelihood:
            cfg.likelihood.families = dict(zip("abcd"[: x_shape[0]], COLUMNS, strict=False))
        if not any(word.startswith("network.") for word in overrides):
            cfg.network.update({name: size for name, size in SMALL_NETWORK.items() if name in cfg.network})
    return cfg


@cache
def _composed(*overrides: str) -> DictConfig:
    """What Hydra composes of these words, their values put into one composition of their choices, as it does itself."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    values = [word for word in parsed if word.type == OverrideType.CHANGE and not (CONF / word.key_or_group).is_dir()]
    cfg = deepcopy(_chosen(*(str(word.input_line) for word in parsed if word not in values)))
    for word in values:
        OmegaConf.update(cfg, word.key_or_group, word.value(), merge=True)
    return cfg


@cache
def _chosen(*choices: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", ["latent_dim=3", *choices])


def build(*overrides: str, x_shape: tuple[int, ...] = X) -> tuple[Joint, Posterior, Objective]:
    """Joint, q and objective that the overrides describe."""
    cfg = config(*overrides, x_shape=x_shape)
    prior = instantiate(cfg.prior)
    likelihood = instantiate(cfg.likelihood, latent=prior.layers[0])
    joint = Joint(prior, likelihood)
    q = instantiate(cfg.q, joint=joint)
    prior.attach(q)
    return joint, q, instantiate(cfg.objective)


@cache
def part(group: str, *overrides: str) -> DictConfig:
    """One group of a composed config: to compose a whole one for each combination would take most of the time."""
    return config(*overrides)[group]


def perturbed(*overrides: str, x_shape: tuple[int, ...] = (1, 2, 2)) -> tuple[Joint, Posterior, Objective]:
    """The same with parameters that are nowhere near their start, where much is 0 or equal."""
    joint, q, objective = build(*overrides, x_shape=x_shape)
    with torch.no_grad():
        for parameter in (*joint.parameters(), *q.parameters()):
            parameter.add_(0.7 * torch.randn_like(parameter))
    return joint, q, objective


SMALL_PRIOR = {
    "mixture": ["prior.components=4"],
    "vamp": ["prior.components=4"],
    "flow": ["prior.transforms=2", "prior.hidden=[4]"],
    "layers": ["prior.sizes=[2,1]", "prior.hidden=[4]"],
    "categoricals": ["prior.categories=3"],
}
SMALL_Q = {"mixture": ["q.components=2"], "flow": ["q.transforms=2", "q.hidden=[4]"], "layers": ["q.hidden=[4]"]}
LAYERS = ["prior=layers", *SMALL_PRIOR["layers"]]
MIXTURE = ["model=mog", "model.components=4"]


def with_prior(name: str) -> list[str]:
    """Overrides for a model around the prior ``name``."""
    if name == "categorical":
        return [*MIXTURE, "likelihood=bernoulli"]
    if name in ("bernoulli", "categoricals"):
        return [f"prior={name}", f"q={name}", *SMALL_PRIOR.get(name, [])]
    return [f"prior={name}", *SMALL_PRIOR.get(name, [])]


def with_q(name: str) -> list[str]:
    """Overrides for a model that q ``name`` fits."""
    return {
        "categorical": [*MIXTURE, "q=categorical"],
        "exact": ["model=ppca"],
        "layers": [*LAYERS, "q=layers", "q.hidden=[4]"],
        "ladder": [*LAYERS, "q=ladder"],
        "bernoulli": with_prior("bernoulli"),
        "categoricals": with_prior("categoricals"),
    }.get(name, [f"q={name}", *SMALL_Q.get(name, [])])


PER_CELL = sorted(set(names("likelihood")) - {"bernoulli", "gaussian", "component", "linear", "factor"})
"""Likelihoods of a network and independent cells, beside the two of which every combination is tried."""


def with_likelihood(name: str) -> list[str]:
    """Overrides for a model around the likelihood ``name``."""
    return {"component": MIXTURE, "linear": ["model=ppca"], "factor": ["model=fa"]}.get(name, [f"likelihood={name}"])
