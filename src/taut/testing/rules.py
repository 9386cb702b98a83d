"""What the contracts are made of: rules that are kept or broken, and random means that are judged by their error."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from scipy.stats import norm
from torch import Tensor, nn

from taut.functional import seeding

BUDGET = 1e-6
"""Probability that any of CHECKS right means is refused."""
CHECKS = 2000
THRESHOLD = float(norm.isf(BUDGET / CHECKS / 2))
"""Standard errors by which a right mean may be off."""
POWER = float(norm.isf(1e-3))
"""Standard errors beyond the threshold at which a bias is seen with probability 0.999."""


class ContractError(AssertionError):
    """A piece that breaks a rule of its contract: the rule, what it asks for, and what the piece gave."""


def broken(rule: str, expected: object, got: object) -> ContractError:
    """The error of a rule that is broken."""
    return ContractError(f"{rule}: expected {expected}, got {got}.")


def require(kept: object, rule: str, expected: object, got: object) -> None:
    """Raise ``ContractError`` unless a rule is kept."""
    if not kept:
        raise broken(rule, expected, got)


def require_same(got: object, expected: object, rule: str) -> None:
    """Raise ``ContractError`` unless two shapes, types or names are equal."""
    shown = [list(value) if isinstance(value, torch.Size | tuple) else value for value in (expected, got)]
    require(got == expected, rule, *shown)


def require_close(got: Tensor, expected: Tensor, rule: str, *, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Raise ``ContractError`` unless all numbers are equal up to their tolerance, NaN to NaN, and shapes are equal."""
    require_same(got.shape, expected.shape, f"{rule} (shape)")
    expected = expected.to(got)
    bad = ~torch.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    if bad.any():
        at = tuple(bad.nonzero()[0].tolist())
        raise broken(rule, f"{expected[at].item():.9g} at {list(at)}", f"{got[at].item():.9g}")


def require_mean(samples: Tensor, truth: Tensor | float, rule: str, *, detects: float) -> None:
    """Raise ``ContractError`` unless the mean over the first axis is ``truth`` within its error.

    Args:
        samples: Independent samples.
        truth: What their mean should be.
        rule: The rule.
        detects: A bias of this size in any entry would be seen; where the error is too large for that, the samples
            say nothing, which is an error, too.
    """
    mean, error = samples.mean(0), samples.std(0) / len(samples) ** 0.5
    blind = (THRESHOLD + POWER) * float(error.max())
    require(blind <= detects, f"{rule} (too noisy to be judged)", f"a bias of {detects:.3g} to be seen", f"{blind:.3g}")
    off = (mean - truth).abs() > THRESHOLD * error + 1e-12
    if off.any():
        at = tuple(off.nonzero()[0].tolist())
        expected = torch.as_tensor(truth).expand_as(mean)[at]
        raise broken(rule, f"{float(expected):.5g} on average", f"{float(mean[at]):.5g} +- {float(error[at]):.2g}")


def require_frequencies(hits: Tensor, mass: Tensor, rule: str) -> None:
    """Raise ``ContractError`` unless events occur as often as their probabilities say.

    Args:
        hits: Zeros and ones, or truth values, ``[n, *events]``: whether an event occurred.
        mass: Its probability, ``[*events]``.
        rule: The rule.
    """
    frequency = hits.to(mass).mean(0)
    # counts of rare events are not normal: so many are no surprise where none is expected
    allowed = THRESHOLD * (mass * (1 - mass)).clamp_min(0).div(len(hits)).sqrt() + 8 / len(hits)
    off = (frequency - mass).abs() > allowed
    if off.any():
        at = tuple(off.nonzero()[0].tolist())
        raise broken(rule, f"a frequency of {float(mass[at]):.4g} +- {float(allowed[at]):.2g}", f"{frequency[at]:.4g}")


def require_every_gradient(module: nn.Module, value: Tensor) -> None:
    """Raise ``ContractError`` unless the gradient of the sum of ``value`` reaches every parameter."""
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not parameters:
        return
    require(value.requires_grad, "its density depends on its parameters", "a gradient", "none")
    gradients = torch.autograd.grad(value.sum(), list(parameters.values()), allow_unused=True)
    for name, gradient in zip(parameters, gradients, strict=True):
        rule = f"the gradient reaches every parameter ({name})"
        require(gradient is not None, rule, "a gradient", "none")
        assert gradient is not None
        require(gradient.isfinite().all(), rule, "finite numbers", "NaN or infinity")
        require(gradient.abs().sum() > 0, rule, "a gradient other than 0", "zeros")


def require_registered(module: nn.Module) -> None:
    """Raise ``ContractError`` where a tensor is neither a parameter nor a buffer: it would stay on its device."""
    for path, part in module.named_modules():
        loose = [name for name, value in vars(part).items() if isinstance(value, Tensor)]
        name = ".".join(filter(None, [path, *loose[:1]]))
        require(not loose, "tensors are parameters or buffers", f"register_buffer for {name}", "a plain attribute")


def perturbed(module: nn.Module) -> Any:
    """A copy with other parameters."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter))
    return other


def roughly(module: nn.Module) -> float:
    """Relative tolerance for numbers that differ by roundings of a module's precision."""
    types = [p.dtype for p in module.parameters() if p.is_floating_point()]
    return 1e-4 if any(one != torch.float64 for one in types) else 1e-9


@contextmanager
def reproducible(*modules: nn.Module) -> Iterator[None]:
    """Draw from one seed inside, with modules in evaluation mode; generators and modes outside stay as they were."""
    modes = {part: part.training for module in modules for part in module.modules()}
    try:
        for module in modules:
            module.eval()
        with seeding.forked():
            torch.manual_seed(0)
            yield
    finally:
        for part, training in modes.items():
            part.training = training
