"""A JAX program: ``jit`` around ``lax.scan`` over steps, everything on the device, its fastest generator."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks import work
from benchmarks.candidates.plain import load
from benchmarks.worker import Clock

jax.config.update("jax_platforms", "cpu")
Parameters = list[Array]
STEPS = {1: 50, 5: 20, 50: 5}
"""Steps of one call."""


def log_w(weights: Parameters, x: Array, noise: Array) -> Array:
    """Log-weights, [k, b], of images [b, 784] and noise [k, b, 50]."""
    mean, log_variance = jnp.split(_mlp(weights[:6], x), 2, -1)
    z = mean + jnp.exp(log_variance / 2) * noise
    logits = _mlp(weights[6:], z)
    log_px = (x * logits - jax.nn.softplus(logits)).sum(-1)
    return log_px + (noise**2 - z**2).sum(-1) / 2 + log_variance.sum(-1) / 2


def bound(weights: Parameters, x: Array, noise: Array) -> Array:
    """The importance-weighted bound of each image, nats."""
    return jax.nn.logsumexp(log_w(weights, x, noise), 0) - jnp.log(len(noise))


def loss(weights: Parameters, x: Array, noise: Array) -> Array:
    """What is minimised."""
    return -bound(weights, x, noise).mean()


def train(clock: Clock, k: int, weights: str) -> None:
    """Adam on dynamically binarised images."""
    pixels = jnp.asarray(work.grey())
    state = _start([jnp.asarray(w) for w in load(weights)])
    clock.tick(0)
    steps = STEPS.get(k, 5)
    while True:
        state = jax.block_until_ready(_steps(state, pixels, k, steps))
        clock.tick(steps)


def evaluate(clock: Clock, k: int, weights: str, images: str) -> None:
    """Image after image, all draws at once."""
    found = [jnp.asarray(w) for w in load(weights)]
    data, key = jnp.asarray(np.load(images)), jax.random.key(0, impl="rbg")
    clock.tick(0)
    while True:
        for i in range(len(data)):
            key, own = jax.random.split(key)
            jax.block_until_ready(_estimate(found, data[i : i + 1], own, k))
            clock.tick()


@partial(jax.jit, static_argnums=3)
def _estimate(weights: Parameters, x: Array, key: Array, k: int) -> Array:
    return bound(weights, x, jax.random.normal(key, (k, 1, work.LATENT)))


def _start(weights: Parameters) -> tuple[Any, ...]:
    zeros = [jnp.zeros_like(w) for w in weights]
    return weights, zeros, zeros, jnp.zeros(()), jax.random.key(0, impl="rbg")


@partial(jax.jit, static_argnums=(2, 3))
def _steps(state: tuple[Any, ...], pixels: Array, k: int, steps: int) -> tuple[Any, ...]:
    return lax.scan(lambda s, _: (_step(s, pixels, k), None), state, None, length=steps)[0]


def _step(state: tuple[Any, ...], pixels: Array, k: int) -> tuple[Any, ...]:
    weights, first, second, t, key = state
    key, rows, bits, draws = jax.random.split(key, 4)
    x = pixels[jax.random.randint(rows, (work.BATCH,), 0, len(pixels))]
    x = (jax.random.uniform(bits, x.shape) < x).astype(jnp.float32)
    gradient = jax.grad(loss)(weights, x, jax.random.normal(draws, (k, work.BATCH, work.LATENT)))
    t = t + 1
    first = [0.9 * m + 0.1 * g for m, g in zip(first, gradient, strict=True)]
    second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradient, strict=True)]
    rate, scale = 1e-3 / (1 - 0.9**t), 1 / (1 - 0.999**t)
    moved = zip(weights, first, second, strict=True)
    return [w - rate * m / (jnp.sqrt(scale * v) + 1e-8) for w, m, v in moved], first, second, t, key


def _mlp(weights: Parameters, h: Array) -> Array:
    *body, (last, offset) = zip(weights[::2], weights[1::2], strict=True)
    for weight, bias in body:
        h = jnp.tanh(h @ weight.T + bias)
    return h @ last.T + offset


def bound_and_gradient(weights: work.Arrays, x: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, work.Arrays]:
    """The bound of each image, and the gradient of the mean bound."""
    found = [jnp.asarray(w) for w in weights]
    gradient = jax.grad(loss)(found, jnp.asarray(x), jnp.asarray(noise))
    return np.asarray(bound(found, jnp.asarray(x), jnp.asarray(noise))), [-np.asarray(g) for g in gradient]
