"""The contract of an objective."""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from taut.errors import UserError
from taut.functional.bounds import log_sum_exp
from taut.model import exact_inference
from taut.model.draws import draw
from taut.model.joint import Joint
from taut.model.likelihood.component import Component
from taut.model.likelihood.linear import Linear
from taut.model.networks import MLPEncoder
from taut.model.prior.bernoulli import Bernoulli as OddsOfBits
from taut.model.prior.categorical import Categorical as Categories
from taut.model.prior.normal import Normal
from taut.model.q.base import Posterior
from taut.model.q.bernoulli import Bernoulli
from taut.model.q.categorical import Categorical
from taut.model.q.diagonal import Diagonal
from taut.model.q.exact import Exact
from taut.objective.base import Objective
from taut.testing.rules import broken, reproducible, require, require_close, require_mean, require_same

X = ((0.5, -1.0),)
"""The datum that gradients are taken at."""
STEPS = 120
ROWS = 400
"""Copies of it in a step: a gradient of a step is a mean over so many draws of K."""


def check_objective(objective: Objective, k: int = 2, *, gradient: bool = True) -> None:
    """Hold an objective against its contract: a bound that is reported and a surrogate that is minimised.

    The bound of one sample is its log-weight; sample axis first, each datum alone; a constant in the log-weights is a
    constant in the bound; under the model's own posterior it is log p(x) for every K; on average it is not above log
    p(x). The mean gradient of the surrogate is that of the mean bound, found by quadrature where draws are
    reparameterised and by enumeration where z is a category, on each of the two models that ``check`` lets pass, or
    where z is made of bits if it lets neither.

    Args:
        objective: An objective.
        k: Number of samples its gradient is checked for. An objective that is unbiased for one alone takes 1.
        gradient: Whether the surrogate is said to have the gradient of the bound. One that trains q by a loss of its
            own has not, and its gradient is left unchecked.

    Raises:
        ContractError: Naming the rule that is broken.
    """
    require(isinstance(objective, Objective), "an objective is a taut.objective.base.Objective", "one", type(objective))
    with reproducible():
        _check_bound(objective)
        for joint, x in (_linear(), _mixture()):
            _check_under_posterior(objective, joint, x)
        checks = [partial(check, objective, k, gradient=gradient) for check in (check_paths, check_categories)]
        # bits where neither of the others is taken: two sums over categories would be one too many
        accepted = any([check() for check in checks]) or check_bits(objective, k, gradient=gradient)
        if not accepted and not _check_closed_form(objective):
            raise broken("check lets a model pass", "a Gaussian q, a categorical or binary q, or q=exact, k=1", "none")


def _linear() -> tuple[Joint, Tensor]:
    return Joint(Normal(2), Linear((3,), 2)).double(), torch.randn(5, 3, dtype=torch.float64)


def _mixture() -> tuple[Joint, Tensor]:
    return Joint(Categories(4), Component((3,), 4)).double(), torch.randn(5, 3, dtype=torch.float64)


def _check_bound(objective: Objective) -> None:
    one, log_w = torch.randn(1, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    require_close(objective.bound(one), one[0], "the bound of one sample is its log-weight", rtol=1e-9, atol=1e-9)
    bound = objective.bound(log_w)
    require_same(tuple(bound.shape), (5,), "the shape of bound(log_w) for log_w [3, 5]")
    alone = torch.cat([objective.bound(log_w[:, i : i + 1]) for i in range(5)])
    require_close(alone, bound, "the bound of a datum depends on its own log-weights alone", rtol=1e-9, atol=1e-9)
    shifted = objective.bound(log_w + 7.0)
    require_close(shifted, bound + 7.0, "a constant in the log-weights is a constant in the bound", atol=1e-9)


def _check_under_posterior(objective: Objective, joint: Joint, x: Tensor) -> None:
    q, truth = Exact(joint, joint.likelihood.x_shape), exact_inference.log_marginal(joint, x)
    for k in (1, 3):
        bound = objective.bound(draw(joint, q, x, k).log_w)
        rule = f"under the model's own posterior the bound of {k} samples is log p(x)"
        require_close(bound, truth, rule, rtol=1e-9, atol=1e-9)


def check_paths(objective: Objective, k: int, *, gradient: bool = True) -> bool:
    """Hold bound and gradient against quadrature over the noise of K reparameterised draws; false if not accepted."""
    joint = Joint(Normal(1), Linear((2,), 1)).double()
    q = Diagonal(joint, (2,), partial(MLPEncoder, hidden=(), activation="tanh")).double()
    x = torch.tensor(X, dtype=torch.float64)
    if not _accepts(objective, joint, q, k, x):
        return False
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    grid = torch.tensor(np.stack(np.meshgrid(*[nodes] * k, indexing="ij")).reshape(k, -1))
    mass = torch.tensor(np.prod(np.stack(np.meshgrid(*[weights] * k, indexing="ij")).reshape(k, -1), 0))
    posterior = q(x)
    z = posterior.mean + posterior.stddev * grid.unsqueeze(-1)  # [k, nodes, 1]: one datum, many noises
    log_w = joint.log_prob(x.expand(grid.shape[1], -1), z) - posterior.log_prob(z)
    mean = (mass / mass.sum() * objective.bound(log_w)).sum()
    _check_average(objective, joint, q, k, mean, exact_inference.log_marginal(joint, x)[0], gradient)
    return True


def check_categories(objective: Objective, k: int, *, gradient: bool = True) -> bool:
    """Hold bound and gradient against a sum over all choices of K categories; false if not accepted."""
    joint = Joint(Categories(3), Component((2,), 3)).double()
    q = Categorical(joint, (2,), partial(MLPEncoder, hidden=(), activation="tanh")).double()
    return _check_listed(objective, joint, q, k, gradient)


def check_bits(objective: Objective, k: int, *, gradient: bool = True) -> bool:
    """Hold bound and gradient against a sum over all choices of K pairs of bits; false if not accepted."""
    joint = Joint(OddsOfBits(2), Linear((2,), 2)).double()
    q = Bernoulli(joint, (2,), partial(MLPEncoder, hidden=(), activation="tanh")).double()
    return _check_listed(objective, joint, q, k, gradient)


def _check_listed(objective: Objective, joint: Joint, q: Posterior, k: int, gradient: bool) -> bool:
    x = torch.tensor(X, dtype=torch.float64)
    if not _accepts(objective, joint, q, k, x):
        return False
    every = joint.prior().enumerate_support().unsqueeze(1)
    log_q = q(x).log_prob(every)  # [n, 1]
    log_joint = joint.log_prob(x, every)
    log_w = log_joint - log_q
    choices = [list(chosen) for chosen in itertools.product(range(len(every)), repeat=k)]
    parts = [(log_q[rows].sum(0).exp() * objective.bound(log_w[rows])).sum() for rows in choices]
    _check_average(objective, joint, q, k, torch.stack(parts).sum(), log_sum_exp(log_joint)[0], gradient)
    return True


def _accepts(objective: Objective, joint: Joint, q: Posterior, k: int, x: Tensor) -> bool:
    try:
        objective.check(joint, q, k, x)
    except UserError:
        return False
    return True


def _check_average(
    objective: Objective, joint: Joint, q: Posterior, k: int, mean: Tensor, truth: Tensor, gradient: bool
) -> None:
    name = f"{type(q).__name__.lower()} q, k = {k}"
    require(mean <= truth + 1e-6, f"the mean bound ({name})", f"log p(x) = {truth:.6g} at most", f"{mean:.6g}")
    many = torch.tensor(X, dtype=torch.float64).expand(ROWS, -1)

    def surrogate() -> Tensor:
        return objective.surrogate(objective.draw(joint, q, many, k))

    require_same(tuple(surrogate().shape), (), "the shape of the surrogate")
    if not gradient:
        return
    expected = -_gradient(lambda: mean, joint, q)
    steps = torch.stack([_gradient(surrogate, joint, q) for _ in range(STEPS)])
    rule = f"the mean gradient of the surrogate is that of the negative mean bound ({name})"
    require_mean(steps, expected, rule, detects=0.12 * expected.norm().item())


def _gradient(value: Callable[[], Tensor], *modules: nn.Module) -> Tensor:
    parameters = [p for module in modules for p in module.parameters()]
    found = torch.autograd.grad(value(), parameters, allow_unused=True)
    pairs = zip(parameters, found, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])


def _check_closed_form(objective: Objective) -> bool:
    """Hold an objective for q=exact against log p(x) and its gradient, which is without noise; false if refused."""
    accepted = False
    for joint, x in (_linear(), _mixture()):
        q = Exact(joint, joint.likelihood.x_shape)
        if not _accepts(objective, joint, q, 1, x):
            continue
        accepted = True
        truth = exact_inference.log_marginal(joint, x)
        if objective.closed_form:
            require_close(objective.expect(joint, x), truth, "expect gives log p(x)", rtol=1e-9, atol=1e-9)
            continue
        gradient = _gradient(lambda truth=truth: -truth.mean(), joint)
        for _ in range(3):
            found = _gradient(lambda joint=joint, x=x, q=q: objective.surrogate(objective.draw(joint, q, x, 1)), joint)
            require_close(found, gradient, "the gradient under q=exact is that of log p(x)", rtol=1e-8, atol=1e-9)
    return accepted
