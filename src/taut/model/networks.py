"""The only place that builds layers.

An encoder maps x of shape ``[*batch, *x_shape]`` to features ``[*batch, out]``; a decoder maps z of shape ``[*batch,
d]`` to ``[*batch, *x_shape]``. Any number of batch axes is allowed.
"""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.errors import UserError


class Tanh(nn.Tanh):
    r"""$\tanh x$; on a CPU, in single precision and without a graph, as $2 \sigma(2 x) - 1$.

    That is off by two roundings of 1 at most, and takes a fifth of the time: a tenth less for L_5000 of an MLP.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.dtype != torch.float32 or x.device.type != "cpu":
            return super().forward(x)
        return (x * 2).sigmoid_().mul_(2).sub_(1)


ACTIVATIONS = {
    "tanh": Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


def activation_layer(name: str) -> nn.Module:
    """The activation called ``name``.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in ACTIVATIONS:
        raise UserError(f"activation={name!r} is not known; choose one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]()


def _layer(module: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    nn.init.xavier_uniform_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


def mlp(inputs: int, hidden: Sequence[int], outputs: int, activation: str, *, bias: bool = True) -> nn.Sequential:
    """Fully connected layers with Glorot-uniform weights and zero biases; no hidden sizes gives one linear map."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [_layer(nn.Linear(inputs, width)), activation_layer(activation)]
        inputs = width
    return nn.Sequential(*layers, _layer(nn.Linear(inputs, outputs, bias=bias)))


class MLPEncoder(nn.Module):
    """x, flattened, through an MLP."""

    def __init__(self, x_shape: Sequence[int], out: int, *, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        self.axes = len(x_shape)
        self.net = mlp(prod(x_shape), hidden, out, activation)

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "... out"]:
        return self.net(_rounded(x.flatten(-self.axes), self.net))


class MLPDecoder(nn.Module):
    """z through an MLP without an output bias: the likelihood owns that offset, because it starts at the data."""

    def __init__(self, latent: int, x_shape: Sequence[int], *, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self.net = mlp(latent, hidden, prod(x_shape), activation, bias=False)

    def forward(self, z: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
        return self.net(_rounded(z, self.net)).unflatten(-1, self.x_shape)

    def features(self, z: Float[Tensor, "... d"]) -> Float[Tensor, "... h"]:
        """Inputs of the last linear map."""
        return self.net[:-1](_rounded(z, self.net))

    @property
    def last(self) -> Float[Tensor, "out h"]:
        """The last linear map."""
        layer = self.net[-1]
        assert isinstance(layer, nn.Linear)
        return layer.weight  # under FSDP it is a view for the time of a step, which get_parameter() would not find


def _rounded(value: Float[Tensor, "*n"], layers: nn.Sequential) -> Float[Tensor, "*n"]:
    """Inputs of a network in its own precision: z and the columns of a table come in float64."""
    first = layers[0]
    assert isinstance(first, nn.Linear | nn.Conv2d)
    return value.to(first.weight.dtype)


def _image_shape(x_shape: Sequence[int]) -> tuple[int, int, int]:
    if len(x_shape) != 3 or x_shape[-1] % 4 or x_shape[-2] % 4:
        raise UserError(
            f"network=conv needs images [c, h, w] with h and w divisible by 4, but x has shape {tuple(x_shape)}; "
            "choose network=mlp."
        )
    channels, height, width = x_shape
    return channels, height, width


class ConvEncoder(nn.Module):
    """Two strided 3x3 convolutions, then one linear map of the quarter-size features."""

    def __init__(self, x_shape: Sequence[int], out: int, *, channels: int, activation: str) -> None:
        super().__init__()
        inputs, height, width = _image_shape(x_shape)
        self.net = nn.Sequential(
            _layer(nn.Conv2d(inputs, channels, 3, stride=2, padding=1)),
            activation_layer(activation),
            _layer(nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)),
            activation_layer(activation),
            nn.Flatten(),
            _layer(nn.Linear(2 * channels * (height // 4) * (width // 4), out)),
        )

    def forward(self, x: Float[Tensor, "... c h w"]) -> Float[Tensor, "... out"]:
        batch = x.shape[:-3]
        # convolutions take one batch axis
        return self.net(_rounded(x, self.net).reshape(-1, *x.shape[-3:])).unflatten(0, batch)


class ConvDecoder(nn.Module):
    """The mirror of :class:`ConvEncoder`, without an output bias."""

    def __init__(self, latent: int, x_shape: Sequence[int], *, channels: int, activation: str) -> None:
        super().__init__()
        outputs, height, width = _image_shape(x_shape)
        self.net = nn.Sequential(
            _layer(nn.Linear(latent, 2 * channels * (height // 4) * (width // 4))),
            activation_layer(activation),
            nn.Unflatten(-1, (2 * channels, height // 4, width // 4)),
            _layer(nn.ConvTranspose2d(2 * channels, channels, 4, stride=2, padding=1)),
            activation_layer(activation),
            _layer(nn.ConvTranspose2d(channels, outputs, 4, stride=2, padding=1, bias=False)),
        )

    def forward(self, z: Float[Tensor, "... d"]) -> Float[Tensor, "... c h w"]:
        # convolutions take one batch axis
        return self.net(_rounded(z, self.net).reshape(-1, z.shape[-1])).unflatten(0, z.shape[:-1])
