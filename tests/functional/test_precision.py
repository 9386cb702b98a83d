"""z is scored as it is: no rounding lifts a bound, however narrow q is and wherever it lies."""

import itertools
import math

import mpmath
import pytest
import torch
from budget import assert_mean
from pieces import PER_CELL, SMALL_PRIOR, X, build, names, part
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    TransformedDistribution,
    Uniform,
    biject_to,
    constraints,
)

from taut.config.instantiate import instantiate
from taut.distributions.gaussian import Gaussian
from taut.errors import RunError
from taut.evidence import AIS, UK, Importance, Sumo, Target
from taut.evidence.score import score
from taut.functional.precision import in_double, refuse_degenerate
from taut.model.draws import draw
from taut.model.joint import Joint
from taut.model.q.prior import Prior as PriorAsQ

OF_NETWORKS_AND_LINES = [name for name in names("likelihood") if name not in ("component", *PER_CELL)]
CONTINUOUS = [name for name in names("prior") if not name.startswith(("categorical", "bernoulli"))]
COMBINATIONS = [
    (prior, *rest)
    for prior, *rest in itertools.product(
        CONTINUOUS, OF_NETWORKS_AND_LINES, ["diagonal", "full", "masked"], ["elbo", "iwae", "stl", "dreg"]
    )
    # every q and every objective with four priors; one of each with others, which would tell the same
    if prior in ("normal", "mixture", "uniform", "vamp") or rest[1:] == ["diagonal", "iwae"]
]
SCALES = [1e-2, 1e-4, 1e-6, 3e-7]
FAR = 13.0
"""Where the encoder puts its means: neighbouring float32 numbers lie 1e-6 apart there."""


def _normals(*sizes: int):
    return torch.randn(*sizes), torch.rand(*sizes) + 0.1


DISTRIBUTIONS = {
    "gaussian": lambda: Gaussian.of(*_normals(3, 2)),
    "expanded": lambda: Gaussian.of(*_normals(2)).expand((3,)),
    "independent": lambda: Independent(Normal(*_normals(3, 2)), 1),
    "full": lambda: MultivariateNormal(torch.randn(3, 2), scale_tril=torch.randn(3, 2, 2).tril().exp().tril()),
    "mixture": lambda: MixtureSameFamily(
        Categorical(logits=torch.randn(3, 4)), Independent(Normal(*_normals(3, 4, 2)), 1)
    ),
    "category": lambda: OneHotCategorical(logits=torch.randn(3, 2)),
    "box": lambda: Independent(Uniform(-torch.rand(3, 2), torch.rand(3, 2)), 1),
    "onto a box": lambda: TransformedDistribution(
        Gaussian.of(*_normals(3, 2)), [biject_to(constraints.independent(constraints.interval(-3.0, 3.0), 1))]
    ),
    "inverse": lambda: TransformedDistribution(
        Gaussian.of(*_normals(3, 2)), [biject_to(constraints.positive).inv.inv, biject_to(constraints.positive).inv]
    ),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_numbers_of_any_distribution_stay_and_what_follows_is_in_float64(name):
    single = DISTRIBUTIONS[name]()
    double = in_double(single)
    assert type(double) is type(single)
    assert double.batch_shape == single.batch_shape == (3,)
    z = double.sample((5,))
    assert z.dtype == double.log_prob(z).dtype == torch.float64
    again = double.log_prob(z.float().double())
    torch.testing.assert_close(again.float(), single.log_prob(z.float()), rtol=1e-4, atol=1e-4)
    assert single.sample((5,)).dtype == torch.float32  # the original is as it was


def test_gradients_reach_the_parameters_through_both_densities():
    mean, std = torch.randn(3, 2, requires_grad=True), (torch.rand(3, 2) + 0.1).requires_grad_()
    q = in_double(Gaussian.of(mean, std))
    q.log_prob(q.rsample((4,)) + 0.1).sum().backward()
    assert mean.grad.dtype == std.grad.dtype == torch.float32
    assert std.grad.abs().min() > 0


def _far(prior, scale, likelihood="bernoulli", q="diagonal", objective="iwae"):
    """A float32 model whose q has its means at about +-13 and this scale; narrow priors lie on its very means."""
    torch.manual_seed(1)
    made = instantiate(part("prior", f"prior={prior}", *SMALL_PRIOR.get(prior, [])))
    joint = Joint(made, instantiate(part("likelihood", f"likelihood={likelihood}"), latent=made.layers[0]))
    q = instantiate(part("q", f"q={q}"), joint=joint)
    made.attach(q)
    objective = instantiate(part("objective", f"objective={objective}"))
    joint.float(), q.float()
    x = torch.randint(2, (4, *X)).float()
    with torch.no_grad():
        for parameter in q.parameters():
            parameter.mul_(0.3)
        bias = q.encoder.net[-1].bias
        bias[:3] = FAR * torch.tensor([1.0, -1.0, 1.0])
        bias[3:6] = 2 * math.log(scale)
        if hasattr(joint.prior, "log_scales"):
            joint.prior.means.copy_(q.parameters_of(x)[:, :3])
            joint.prior.log_scales.fill_(math.log(scale))
        if hasattr(joint.prior, "pseudo_inputs"):
            joint.prior.pseudo_inputs.copy_(x)
    return joint, q, objective, x


def _log_normal(z, mean, scale) -> mpmath.mpf:
    pairs = zip(z.tolist(), mean.tolist(), scale.tolist(), strict=True)
    return sum(
        -(((mpmath.mpf(v) - mpmath.mpf(m)) / mpmath.mpf(s)) ** 2) / 2
        - mpmath.log(mpmath.mpf(s))
        - mpmath.log(2 * mpmath.pi) / 2
        for v, m, s in pairs
    )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("prior", ["normal", "mixture", "vamp"])
def test_log_densities_of_a_narrow_q_are_those_of_fifty_digits(prior, scale):
    joint, q, _, x = _far(prior, scale)
    draws = draw(joint, q, x, 3)
    normals = q(x).base_dist
    with mpmath.workdps(50):
        for k, b in itertools.product(range(3), range(4)):
            truth = _log_normal(draws.z[k, b], normals.mean[b], normals.stddev[b])
            assert float(draws.log_qz[k, b]) == pytest.approx(float(truth), abs=1e-6)
            if prior != "normal":
                parts = joint.prior().component_distribution.base_dist
                each = [_log_normal(draws.z[k, b], m, s) for m, s in zip(parts.mean, parts.stddev, strict=True)]
                truth = mpmath.log(sum(mpmath.exp(one) for one in each) / len(each))
            else:
                truth = _log_normal(draws.z[k, b], torch.zeros(3), torch.ones(3))
            assert float(draws.log_pz[k, b]) == pytest.approx(float(truth), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(("prior", "likelihood", "q", "objective"), COMBINATIONS)
def test_bounds_of_a_float32_model_are_those_of_float64(prior, likelihood, q, objective):
    """The float64 twin has the same z; its decoder alone rounds differently."""
    for scale in SCALES[::3]:
        joint, posterior, recipe, x = _far(prior, scale, likelihood, q, objective)
        torch.manual_seed(2)
        draws = draw(joint, posterior, x, 20, path_only=recipe.path_only)
        log_pz, log_qz = joint.prior().log_prob(draws.z), posterior(x).log_prob(draws.z)
        log_px = joint.likelihood.double()(draws.z).log_prob(x.double())
        reference = log_px + log_pz - log_qz
        for ours, theirs in (
            (draws.log_w.mean(0), reference.mean(0)),
            (recipe.bound(draws.log_w), recipe.bound(reference)),
        ):
            assert ((ours - theirs).abs() <= (1e-6 * theirs.abs()).clamp_min(1e-3)).all(), (scale, ours - theirs)
        assert recipe.surrogate(draws).isfinite()


@pytest.mark.parametrize("relative", [1e-3, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("prior", ["mixture"])
def test_a_prior_as_q_has_no_kl_at_any_scale(prior, relative):
    """Every weight is p(x | z), and z hardly moves, so the gap is that of a decoder's last digits."""
    torch.manual_seed(3)
    joint, q, recipe = build("latent_dim=2", f"prior={prior}", "prior.components=1", "q=prior")
    joint.float(), q.float()
    with torch.no_grad():
        joint.prior.means.fill_(FAR)
        joint.prior.log_scales.fill_(math.log(relative * FAR))
    x = torch.randint(2, (5, *X)).float()
    scores = score(joint, q, x, torch.arange(5), bound=recipe.bound, k=1, samples=100, seed=0, split="val").values
    assert scores["kl"].abs().max() == 0
    if relative <= 1e-6:
        assert scores["gap"].abs().max() < 1e-3
    assert isinstance(q, PriorAsQ)


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10])
def test_precisions_of_any_condition_keep_their_density(condition):
    """A covariance factor whose precision has this condition number; truth by 50 digits."""
    torch.manual_seed(4)
    joint, q, _ = build("latent_dim=3", "q=full")
    joint.float(), q.float()
    wide = condition**0.25
    with torch.no_grad():
        for parameter in q.parameters():
            parameter.zero_()
        bias = q.encoder.net[-1].bias
        bias[:3], bias[3:6] = FAR, 2 * torch.tensor([math.log(wide), 0.0, -math.log(wide)])
        bias[6:] = torch.tensor([0.5 * wide, -0.7 * wide, 0.3])
    draws = draw(joint, q, torch.zeros(1, *X), 4)
    posterior = q(torch.zeros(1, *X))
    factor, mean = posterior.scale_tril[0].tolist(), posterior.mean[0].tolist()
    with mpmath.workdps(50):
        for k in range(4):
            difference = mpmath.matrix([mpmath.mpf(v) - m for v, m in zip(draws.z[k, 0].tolist(), mean, strict=True)])
            white = mpmath.lu_solve(mpmath.matrix(factor), difference)
            truth = -sum(w**2 for w in white) / 2 - 3 * mpmath.log(2 * mpmath.pi) / 2
            truth -= sum(mpmath.log(factor[i][i]) for i in range(3))
            assert float(draws.log_qz[k, 0]) == pytest.approx(float(truth), abs=1e-3)


def test_a_q_that_is_lost_in_the_rounding_of_z_is_refused_by_name():
    narrow = Gaussian.of(torch.full((1, 2), 1e4), torch.full((1, 2), 1e-4))
    refuse_degenerate(in_double(narrow), "q")
    with pytest.raises(RunError, match=r"row 7 is degenerate: its scale 0\.0001 is lost in the rounding"):
        refuse_degenerate(narrow, "row 7")
    full = MultivariateNormal(torch.full((1, 2), 1e4), scale_tril=1e-4 * torch.eye(2).expand(1, 2, 2))
    with pytest.raises(RunError, match="is degenerate"):
        refuse_degenerate(full, "q")
    target = Target(lambda x, z: -z.square().sum(-1), lambda x: narrow.expand((len(x),)))
    for estimator in (Importance(4), AIS(4, chains=2)):
        with pytest.raises(RunError, match="is degenerate"):
            estimator(target, torch.zeros(2, 1))


def _moody_encoder(x):
    """An encoder whose output differs by a rounding between a datum alone and the same datum in a batch."""
    centre = torch.full((len(x), 1), FAR) * (1 + (len(x) > 1) * torch.finfo(torch.float32).eps)
    return in_double(Gaussian.of(centre, torch.full_like(centre, 3e-6)))


@pytest.mark.parametrize("estimator", [Importance(50), Sumo(50), UK(50)])
def test_z_is_scored_by_the_very_q_it_was_drawn_from(estimator):
    """The model is q of one datum, so every weight is 1; a batch's q is half of its own scale away from that."""
    target, exact = _moody_target()
    z = exact.sample((3,))[:, 0] if estimator.simulated else None
    assert estimator(target, torch.zeros(3, 1), z=z).value.abs().max() < 1e-9


def test_annealing_weighs_its_chains_by_the_q_they_were_drawn_from():
    """Chains start at a q of one datum, on a path from a batch's q."""
    target, _ = _moody_target()
    found = AIS(3, chains=64, leapfrog=2)(target, torch.zeros(400, 1))
    assert_mean(found.value.exp(), 1.0, detects=0.1)


def _moody_target():
    exact = _moody_encoder(torch.zeros(1))
    target = Target(
        lambda x, z: exact.log_prob(z), _moody_encoder, simulate=lambda n: (exact.sample((n,))[:, 0], torch.zeros(n, 1))
    )
    return target, exact
