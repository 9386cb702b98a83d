"""The model and the evaluator of this project, on given weights, and a loop of its steps without Lightning.

The training that users run is in ``command``.
"""

from functools import partial
from itertools import count

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Independent

from benchmarks import work
from benchmarks.candidates.floor import flops, training_products
from benchmarks.candidates.plain import load
from benchmarks.worker import Clock
from taut.data.batches import Batches
from taut.data.binarise import Scale, bernoulli
from taut.evidence import Importance, Target
from taut.functional import seeding
from taut.model.draws import draw
from taut.model.joint import Joint
from taut.model.likelihood.bernoulli import Bernoulli
from taut.model.networks import MLPDecoder, MLPEncoder
from taut.model.prior.normal import Normal
from taut.model.q.diagonal import Diagonal
from taut.objective.iwae import Iwae
from taut.runtime.launch import keep_freed_pages
from taut.runtime.threads import of_step
from taut.training.flat_adam import FlatAdam
from taut.training.fused_step import fused_step
from taut.training.metrics import TrainingMonitor

IMAGE = (1, 28, 28)
TOGETHER = 5
"""Images put before the estimator at once."""


def model(weights: work.Arrays, x_shape: tuple[int, ...] = (work.PIXELS,)) -> tuple[Joint, Diagonal]:
    """Joint and q with the given weights; the last bias is the likelihood's offset."""
    shape = {"hidden": work.HIDDEN, "activation": "tanh"}
    joint = Joint(Normal(work.LATENT), Bernoulli(x_shape, work.LATENT, partial(MLPDecoder, **shape)))
    q = Diagonal(joint, x_shape, partial(MLPEncoder, **shape))
    for parameter, array in zip(parameters(joint, q), weights, strict=True):
        parameter.data = torch.tensor(array).view_as(parameter)
    return joint, q


def parameters(joint: Joint, q: Diagonal) -> list[torch.nn.Parameter]:
    """The parameters in the order of ``work``."""
    assert isinstance(joint.likelihood, Bernoulli)
    return [*q.parameters(), *joint.likelihood.decoder.parameters(), joint.likelihood.offset]


def log_w(joint: Joint, q: Diagonal, x: Tensor, standard: Tensor) -> Tensor:
    """Log-weights, [k, b], of images [b, 784] and standard noise [k, b, 50], as the estimators compute them."""
    posterior = q(x)
    assert isinstance(posterior, Independent)
    normal = posterior.base_dist
    z = normal.loc + normal.scale * standard
    return Target.of(joint, q).log_joint(x, z) - posterior.log_prob(z).double()


def train(clock: Clock, k: int, weights: str, fused: bool, threads: int | None = None) -> None:
    """What ``LatentVariableModel`` does in a step, on the same batches, with the command's allocator and threads."""
    keep_freed_pages()
    torch.set_num_threads(threads or of_step(flops(training_products(k)), torch.get_num_threads()))
    # images: the columns of a table are standardised, which pixels are not
    joint, q = model(load(weights), IMAGE)
    pixels, objective, device = (255 * torch.from_numpy(work.grey())).round().byte(), Iwae(), torch.device("cpu")
    pixels = pixels.unflatten(1, q.x_shape)
    loader = Batches(
        lambda epoch: bernoulli(pixels, Scale(levels=255), 0, "train", epoch),
        len(pixels),
        batch_size=work.BATCH,
        shuffle=True,
        binary=True,
    )
    optimizer = FlatAdam(parameters(joint, q), 1e-3, fused=True)
    trained = TrainingMonitor(0, device)
    step = fused_step(joint, q, objective) if fused else None
    if step is not None:
        step.gradients |= optimizer.lay()
        step.binary = loader.binary
    steps = count()
    clock.tick(0)
    for epoch in count():
        loader.set_epoch(epoch)
        for batch in loader:
            seeding.seed(seeding.key(0, "train", next(steps)), device)
            if step is None:
                optimizer.zero_grad()
                draws = draw(joint, q, batch.x, k)
                bound, surrogate = objective.bound(draws.log_w_detached), objective.surrogate(draws)
                surrogate.backward()
            else:
                made = step(batch.x, k, 1.0)
                assert made is not None
                bound, surrogate = made.bound, made.surrogate
                for parameter, gradient in made.gradients.items():
                    parameter.grad = gradient
            trained.note(bound, surrogate.detach(), batch.index)
            optimizer.step()
            trained.check()
            clock.tick()


@torch.no_grad()
def evaluate(clock: Clock, k: int, weights: str, images: str) -> None:
    """A few images after another, diagnostics and all, with the allocator setting of the command line."""
    keep_freed_pages()
    target, data = Target.of(*model(load(weights))), torch.tensor(np.load(images))
    clock.tick(0)
    while True:
        for x in data.split(TOGETHER):
            _ = Importance(k)(target, x).value
            clock.tick(len(x))
