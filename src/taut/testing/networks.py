"""The contract of a network."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from taut.errors import UserError
from taut.model.building import decoder_of, encoder_of
from taut.testing.rules import (
    ContractError,
    reproducible,
    require_close,
    require_every_gradient,
    require_registered,
    require_same,
    roughly,
)

Shape = int | Sequence[int]


def check_network(build: Callable[..., nn.Module], given: Shape, wanted: Shape) -> None:
    """Hold an encoder or a decoder against the contract in :mod:`taut.model.building`.

    Its output has the shape that was asked for and does not depend on batch mates; dropout is off in evaluation; the
    gradient reaches every parameter; it runs in double precision; tensors are parameters or buffers.

    Args:
        build: Builds an encoder from ``(x_shape, out)`` or a decoder from ``(latent, shape)``.
        given: Shape of an input: ``x_shape``, or the number of latent coordinates of a decoder.
        wanted: Number of outputs, or the shape of the output of a decoder.

    Raises:
        ContractError: Naming the rule that is broken.
    """
    try:
        if isinstance(given, int):
            assert not isinstance(wanted, int), "a decoder has an output with a shape, such as (1, 28, 28)"
            network = decoder_of(build, given, wanted)
        else:
            assert isinstance(wanted, int), "an encoder has a number of outputs"
            network = encoder_of(build, given, wanted)
    except UserError as error:
        raise ContractError(str(error)) from error
    given, wanted = ((shape,) if isinstance(shape, int) else tuple(shape) for shape in (given, wanted))
    with reproducible(network):
        rows = torch.rand(2, 3, *given)
        output = network(rows)
        require_same(tuple(output.shape), (2, 3, *wanted), "the shape of the output for 2 x 3 inputs")
        close = roughly(network)
        require_close(network(rows[1]), output[1], "any number of batch axes gives one result", rtol=close, atol=close)
        require_every_gradient(network, output * torch.rand_like(output))
        require_registered(network)
        double = network.double()(rows.double())
        require_same(double.dtype, torch.float64, "the precision of the output is that of the parameters")
        require_close(double, output.double(), "the output in double precision", rtol=1e-3, atol=1e-3)
