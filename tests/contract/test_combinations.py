"""Every prior x q x likelihood x objective x k: it works and keeps its order, or it is refused in a sentence."""

import contextlib
import itertools
from functools import cache

import pytest
import torch
from budget import assert_mean
from pieces import PER_CELL, SMALL_PRIOR, SMALL_Q, config, names, part, with_likelihood

from taut.config.instantiate import instantiate
from taut.data.digits import Digits
from taut.errors import UserError
from taut.evidence.score import score
from taut.model.draws import draw
from taut.model.joint import Joint
from taut.training.build import build_model
from taut.training.module import refuse_unlearned_vamp

pytestmark = pytest.mark.usefixtures("float64")
X = (1, 4, 4)
BITS = torch.tensor([[0.0, 1.0, 1.0, 0.0] * 4, [1.0, 0.0] * 8, [0.0] * 16], dtype=torch.float64).view(3, *X)
PAIRS = [pair for pair in itertools.product(names("prior"), names("likelihood")) if pair[1] != "mixed"]
"""The columns of a mixed table are of the other families."""
SCORED = ("iwae", "exact", "em")


@cache
def _recipe(objective: str):
    return instantiate(part("objective", f"objective={objective}"))


def _model(prior: str, q: str, likelihood: str):
    discrete = ("model=mog", "model.components=3") if prior == "categorical" else ()
    made = instantiate(part("prior", *discrete, f"prior={prior}", *SMALL_PRIOR.get(prior, [])))
    joint = Joint(made, instantiate(part("likelihood", *_words(likelihood)), latent=made.layers[0]))
    posterior = instantiate(part("q", f"q={q}", *SMALL_Q.get(q, [])), joint=joint)
    refuse_unlearned_vamp(made, posterior)
    made.attach(posterior)
    return joint, posterior


def _words(likelihood: str) -> list[str]:
    return with_likelihood(likelihood) if likelihood in PER_CELL else [f"likelihood={likelihood}"]


def _tried(prior: str, likelihood: str) -> list[tuple[str, str, int]]:
    """Every q with each prior and likelihood, and each two choices together somewhere."""
    pair = names("prior").index(prior) + 3 * names("likelihood").index(likelihood)
    if likelihood in PER_CELL:
        objectives = names("objective")
        turns = [(q, objectives[(pair + n) % len(objectives)], 3) for n, q in enumerate(names("q"))]
        # one that goes with everything: to the few q of a discrete z it may be the turn of what is not for them
        return [*turns, ("prior", "elbo", 3)]
    return list(itertools.product(names("q"), names("objective"), (1, 3)))[pair % 4 :: 4]


@pytest.mark.parametrize(("prior", "likelihood"), PAIRS)
def test_combination_works_or_is_refused(prior, likelihood):
    accepted = 0
    models = {}
    for q in names("q"):
        with contextlib.suppress(UserError):
            models[q] = _model(prior, q, likelihood)
    for q, objective, k in _tried(prior, likelihood):
        if q not in models:
            continue
        (joint, posterior), recipe = models[q], _recipe(objective)
        x = joint.likelihood(joint.prior().sample((1, 3))).sample()[0] if likelihood in PER_CELL else BITS
        try:
            recipe.check(joint, posterior, k, x)
        except UserError:
            continue
        accepted += 1
        draws = recipe.draw(joint, posterior, x, k)
        assert recipe.surrogate(draws).isfinite(), (q, objective, k)
        log_w = draws.log_w.detach()
        assert (log_w.mean(0) <= recipe.bound(log_w) + 1e-9).all(), (q, objective, k)
        # of an objective a score takes the bound alone, which has been seen
        if objective not in SCORED:
            continue
        scores = score(
            joint, posterior, x, torch.arange(3), bound=recipe.bound, k=k, samples=2 * k, seed=0, split="val"
        ).values
        assert (scores["elbo"] <= scores["bound"] + 1e-9).all(), (q, objective, k)
        assert all(value.isfinite().all() for value in scores.values()), (q, objective, k)
    assert accepted or (likelihood == "component") > (prior == "categorical")


@pytest.mark.parametrize("q", ["diagonal", "full"])
def test_bound_under_a_box_prior_stays_a_bound_where_the_encoder_is_extreme(q):
    """p(x) = 2^-16 for every x at zero logits; a saturated sigmoid must not score z by a rounding error."""
    cfg = config("prior=uniform", f"q={q}", "latent_dim=2", "network.hidden=[]")
    joint = Joint(instantiate(cfg.prior), instantiate(cfg.likelihood, latent=2)).float()
    posterior = instantiate(cfg.q, joint=joint).float()
    with torch.no_grad():
        for parameter in joint.parameters():
            parameter.zero_()
        for bias in (40.0, -40.0, 400.0):
            posterior.encoder.net[0].bias.fill_(bias)
            x = torch.zeros(200, *X, dtype=torch.float32)
            log_w = draw(joint, posterior, x, 50).log_w.double()
            assert log_w.mean() <= -16 * torch.tensor(2.0).log() + 0.05


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_dreg_under_warm_up_has_the_gradient_of_iwae(beta):
    gradients = {}
    for name in ("dreg", "iwae"):
        torch.manual_seed(1)
        cfg = config("model=ppca", "q=diagonal", f"objective={name}", "latent_dim=1", "network.hidden=[]", x_shape=(2,))
        prior = instantiate(cfg.prior)
        joint = Joint(prior, instantiate(cfg.likelihood, latent=1))
        posterior, recipe = instantiate(cfg.q, joint=joint), instantiate(cfg.objective)
        x = torch.tensor([[0.5, -1.0]]).expand(300, -1)
        rows = []
        for _ in range(150):
            draws = draw(joint, posterior, x, 4, path_only=recipe.path_only)
            surrogate = recipe.surrogate(type(draws)(**{**vars(draws), "kl_weight": beta}))
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(surrogate, list(posterior.parameters()))]))
        gradients[name] = torch.stack(rows)
    difference = gradients["dreg"] - gradients["iwae"]
    assert_mean(difference, 0.0, detects=0.25 * gradients["iwae"].mean(0).norm().item())


WAYS_OUT = {
    "a table of a continuous z": (
        ["model=mog", "prior=normal"],
        "prior=normal makes it continuous; choose model=mog with prior=categorical, or model=vae with "
        "likelihood=gaussian.",
        [["model=mog", "prior=categorical"], ["model=vae", "likelihood=gaussian", "prior=normal"]],
    ),
    "a table of a vae": (
        ["model=vae", "likelihood=component"],
        "choose model=mog with prior=categorical, or model=vae with likelihood=gaussian.",
        [["model=mog", "likelihood=component", "prior=categorical"]],
    ),
    "one category of a vae": (
        ["prior=categorical", "q=categorical", "k=4"],
        "model=vae needs a z that is not one category, but prior=categorical and likelihood=bernoulli were given; "
        "choose prior=categoricals q=categoricals, or model=mog.",
        [["prior=categoricals", "q=categoricals", "k=4"], ["model=mog", "prior=categorical", "q=categorical", "k=4",
                                                          "objective=iwae"]],
    ),
    "one category of an iwae": (
        ["model=iwae", "prior=categorical", "q=categorical", "k=4"],
        "choose prior=categoricals q=categoricals, or model=mog.",
        [["model=iwae", "prior=categoricals", "q=categoricals", "k=4"]],
    ),
    "a Gaussian q of one category": (
        ["prior=categorical", "k=4"],
        "choose q=categorical or q=exact with model=mog, or prior=categoricals q=categoricals.",
        [["prior=categoricals", "q=categoricals", "k=4"], ["model=mog", "prior=categorical", "q=exact"]],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("words", "message", "ways"), WAYS_OUT.values(), ids=WAYS_OUT)
def test_the_way_out_of_a_refusal_is_one(words, message, ways):
    def built(words):
        # as the likelihood of Bernoulli pixels asks for them
        data = Digits(batch_size=50, binarisation="dynamic")
        data.setup()
        return build_model(config(*words, x_shape=data.x_shape), data)

    with pytest.raises(UserError) as refusal:
        built(words)
    assert str(refusal.value).endswith(message)
    for way in ways:
        built(way)
