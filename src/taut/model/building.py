r"""Encoders and decoders from any ``torch.nn.Module``, checked before anything is trained.

=========  ====================  =====================  ===================
part       is built by           from                   to
=========  ====================  =====================  ===================
encoder    ``(x_shape, out)``    x: ``[n, *x_shape]``   ``[n, out]``
decoder    ``(latent, shape)``   z: ``[n, latent]``     ``[n, *shape]``
=========  ====================  =====================  ===================

``shape`` has as many axes as x. Where a likelihood needs several numbers for every cell, as the mean and the variance
of a Gaussian, they lie along its first axis, as further channels or columns: ``(2 * c, h, w)`` for an image ``(c, h,
w)``. A q that sees the mask asks for an encoder of twice the channels in the same way. One batch axis is enough; inputs
come in the precision of the module's parameters. The likelihood owns the bias of the output, which starts at the data.

The value for x must not depend on its batch mates, so a module whose output for one datum changes with the others of
its batch is refused, in training mode too: batch normalisation does that, and ``nn.GroupNorm`` or ``nn.LayerNorm`` do
not. Dropout is welcome where it follows ``self.training``: scores are taken in evaluation mode, where it is off.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from taut.errors import UserError
from taut.functional import seeding
from taut.model.networks import Network, folded

Shape = tuple[int, ...]

ROWS = 3
"""Rows a network is tried on: one that is judged, and its batch mates."""
TOLERANCE = 1e-3
"""Share of the largest output by which outputs that should be equal may differ: rounding, on any device."""


def encoder_of(build: Callable[..., nn.Module], x_shape: Sequence[int], out: int) -> nn.Module:
    """An encoder, from x ``[*batch, *x_shape]`` with any number of batch axes to ``[*batch, out]``.

    Args:
        build: Builds it from ``(x_shape, out)``; or the module itself.
        x_shape: Shape of its input.
        out: Number of its outputs.

    Raises:
        UserError: If it cannot be built or called, or its output has another shape, changes with its batch mates, or
            is random in evaluation mode.
    """
    return _network(build, "network.encoder", (tuple(x_shape), out), tuple(x_shape), (out,))


def decoder_of(build: Callable[..., nn.Module], latent: int, shape: Sequence[int]) -> nn.Module:
    """A decoder, from z ``[*batch, latent]`` with any number of batch axes to ``[*batch, *shape]``.

    Args:
        build: Builds it from ``(latent, shape)``; or the module itself.
        latent: Number of latent coordinates.
        shape: Shape of its output.

    Raises:
        UserError: As for :func:`encoder_of`.
    """
    return _network(build, "network.decoder", (latent, tuple(shape)), (latent,), tuple(shape))


class Folded(Network):
    """A module that takes one batch axis, as a network that takes any number, and inputs of any precision.

    Args:
        module: The module.
        axes: Axes of one input.
    """

    def __init__(self, module: nn.Module, axes: int) -> None:
        super().__init__()
        self.module, self.axes = module, axes
        self._first = _first_parameter(module)

    def forward(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return folded(self.module, value if self._first is None else value.to(self._dtype), self.axes)

    @property
    def _dtype(self) -> torch.dtype:
        assert self._first is not None
        return getattr(*self._first).dtype


def _first_parameter(module: nn.Module) -> tuple[nn.Module, str] | None:
    """Where the first parameter of a module is: under FSDP it is a view for a step, which parameters() leaves out."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.is_floating_point():
                return part, name
    return None


def _network(build: Callable[..., Any], key: str, arguments: tuple[Any, ...], given: Shape, wanted: Shape) -> nn.Module:
    module = build if isinstance(build, nn.Module) else _called(build, key, "built from", *arguments)
    if not isinstance(module, nn.Module):
        raise UserError(f"{key} must build a torch.nn.Module, but it built {type(module).__name__}.")
    network = module if isinstance(module, Network) else Folded(module, len(given))
    # on the meta device there are no numbers to try it with; the same network is built again for real
    if type(module).__module__ != Network.__module__ and torch.get_default_device().type != "meta":
        _check(network, module, key, given, wanted)
    return network


def _called(function: Callable[..., Any], key: str, doing: str, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except UserError:
        raise
    except Exception as error:  # whatever it raises, it is a module of the user's own
        what = ", ".join(str(list(a.shape) if isinstance(a, Tensor) else a) for a in arguments)
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(f"{key} cannot be {doing} {what}: {reason.rstrip('.')}.") from error


def _check(network: nn.Module, module: nn.Module, key: str, given: Shape, wanted: Shape) -> None:
    """Try a network on some rows, in both modes.

    Raises:
        UserError: If the output has another shape, depends on the other rows, or on chance in evaluation mode.
    """
    first = next(module.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    rows = torch.rand(2, ROWS, *given, generator=torch.Generator().manual_seed(0), device="cpu").to(device)
    one, other = rows
    other[0] = one[0]
    for training in (False, True):
        output = _output(network, one, key, training)
        if output.shape != (ROWS, *wanted):
            raise UserError(
                f"{key}: from {list(one.shape)} the output must have shape {[ROWS, *wanted]}, but "
                f"{type(module).__name__} gave {list(output.shape)}."
            )
        if not _alike(output[0], _output(network, other, key, training)[0]):
            raise UserError(
                f"{key}: the output of {type(module).__name__} for one datum changes with the other data of its batch"
                f"{_by_batch_norm(module)}, and a value for x may not depend on them; use nn.GroupNorm or nn.LayerNorm."
            )
    if not _alike(_output(network, one, key, False), _output(network, one, key, False, seed=1)):
        raise UserError(
            f"{key}: {type(module).__name__} gives the same input two outputs in evaluation mode; dropout must follow "
            "self.training, as nn.Dropout does."
        )


def _output(network: nn.Module, rows: Tensor, key: str, training: bool, seed: int = 0) -> Tensor:
    """What a network makes of some rows, which leaves it and the generators as they were."""
    before = {part: part.training for part in network.modules()}
    # copies, because normalisation layers change their buffers as they look at data
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    call = lambda value: torch.func.functional_call(network, buffers, (value,))  # noqa: E731
    try:
        network.train(training)
        with torch.no_grad(), seeding.forked(rows.device):
            torch.manual_seed(seed)  # the same dropout for the same seed
            output = _called(call, key, "called with", rows)
    finally:
        for part, mode in before.items():
            part.training = mode
    if not isinstance(output, Tensor):
        raise UserError(f"{key}: the output must be one tensor, but it is {type(output).__name__}.")
    return output


def _alike(one: Tensor, other: Tensor) -> bool:
    largest = float(one.abs().max()) if one.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=TOLERANCE * max(largest, 1e-30), equal_nan=True)


def _by_batch_norm(module: nn.Module) -> str:
    names = [type(part).__name__ for part in module.modules() if isinstance(part, _BatchNorm)]
    return f" ({names[0]} does that)" if names else ""
