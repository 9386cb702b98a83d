"""Construction of data and model from a composed config."""

import os

import lightning as L
import torch
from omegaconf import DictConfig, open_dict

from taut.config.instantiate import instance, instantiate
from taut.data.base import Batches, Data, Splits
from taut.data.disk_rows import parts
from taut.data.mask.base import Mask
from taut.errors import UserError
from taut.functional import seeding
from taut.model.joint import Joint
from taut.model.likelihood.base import Likelihood
from taut.model.prior.base import Prior
from taut.model.q.base import Posterior
from taut.objective.base import Objective
from taut.runtime import threads
from taut.runtime.memory import available, in_words
from taut.training.module import LatentVariableModel
from taut.training.strategies import Sharded

SPREAD = (
    "data.dequantise=uniform makes real numbers of grey levels, and this likelihood is a probability mass of whole "
    "ones; leave data.dequantise out, or choose a density such as likelihood=gaussian."
)
"""Why grey levels that were spread out do not go with a mass."""


def set_up_torch(cfg: DictConfig, trainer: DictConfig | None = None) -> None:
    """Threads, default dtype, products and seeds of a run.

    Args:
        cfg: The config of the run.
        trainer: What says how many processes there are, the run's own by default; one of several has one thread
            unless ``threads`` is set.
    """
    alone = isinstance((trainer or cfg.trainer).strategy, str)
    count = cfg.threads or (_most() if alone else 1)
    if count != torch.get_num_threads():
        torch.set_num_threads(count)
    if not alone:
        os.environ["OMP_NUM_THREADS"] = str(count)  # else Lightning takes all cores
    # here, since the pieces are built before the trainer, whose precision plugin would set it
    torch.set_default_dtype(torch.float64 if str(cfg.trainer.precision).startswith("64") else torch.float32)
    torch.set_float32_matmul_precision(cfg.get("matmul", "highest"))
    # filling new buffers under deterministic algorithms costs a pass over each, and guards nothing here
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
    L.seed_everything(cfg.seed, verbose=False)


def _most() -> int:
    """Threads where nobody has set their number: torch counts the cores, but not the quota of a container."""
    own = torch.get_num_threads()
    return own if threads.set_by_user() else min(own, threads.cores())


def build_data(cfg: DictConfig) -> Data:
    """The data module, loaded and split; its shape and levels are written to the config for the pieces."""
    data = instance(cfg.data, Data, mask=instance(cfg.mask, Mask) if cfg.mask else None)
    data.prepare_data()
    data.setup("fit")
    fill_in(cfg, data)
    return data


def fill_in(cfg: DictConfig, data: Data) -> None:
    """Write what only the data tell into a config: the shape of a datum, and its grey levels."""
    with open_dict(cfg):
        cfg.x_shape, cfg.x_levels = list(data.x_shape), data.levels
        if "families" in cfg.likelihood and len(data.x_shape) == 1:
            from taut.model.likelihood.mixed import families_of  # and nine others

            rows = (part for split in Splits._fields for part in parts(data.rows_of(split)))
            cfg.likelihood.families = families_of(rows, cfg.likelihood.families, data.columns)


def build_model(cfg: DictConfig, data: Data) -> LatentVariableModel:
    """The model, with every piece started from the training rows.

    Raises:
        UserError: If the pieces do not go together, or not with the data.
    """
    refuse_too_large(cfg)
    # seeded anew, so that the first weights do not depend on what loading the data has drawn
    seeding.seed(seeding.key(cfg.seed, "initial", 0), torch.device("cpu"))
    # before it is built, since what lacks the number of levels would be told to set it
    if cfg.data.get("dequantise") and "levels" in cfg.likelihood:
        raise UserError(SPREAD)
    joint = _joint(cfg)
    prior, likelihood = joint.prior, joint.likelihood
    if cfg.data.get("dequantise") and likelihood.is_mass:
        raise UserError(SPREAD)
    q = instance(cfg.q, Posterior, joint=joint)
    prior.attach(q)
    model = instance(
        cfg.model,
        LatentVariableModel,
        joint=joint,
        q=q,
        objective=instance(cfg.objective, Objective),
        optimizer=instantiate(cfg.optimizer),
        scheduler=instantiate(cfg.scheduler),
    )
    refuse_impossible_steps(model)
    model.initialise(data.starting_rows(), len(data.stored.train))
    for split in ("train", "val", "test"):
        for part in parts(data.rows_of(split)):
            likelihood.check(part)
    return model


def _joint(cfg: DictConfig) -> Joint:
    prior = instance(cfg.prior, Prior)
    return Joint(prior, instance(cfg.likelihood, Likelihood, latent=prior.layers[0]))


def refuse_too_large(cfg: DictConfig) -> None:
    """Refuse a model whose weights, gradients and optimiser state need more memory than there is.

    Raises:
        UserError: With the estimate.
    """
    # on this device tensors have shapes and no memory
    try:
        with torch.device("meta"):
            joint = _joint(cfg)
            # a q without a network has no parameters, and may want to see the values of the model's
            pieces = (joint, instance(cfg.q, Posterior, joint=joint)) if "encoder" in cfg.q else (joint,)
    # a piece may need numbers to be built; built for real, a moment later, it says what is wrong if anything is
    except Exception:
        return
    parameters = {id(p): p for piece in pieces for p in piece.parameters()}.values()
    count, weights = sum(p.numel() for p in parameters), sum(p.numel() * p.element_size() for p in parameters)
    kept = [bool(cfg.optimizer.get(name)) for name in ("alpha", "momentum", "centered")]
    moments = 2 if "betas" in cfg.optimizer else sum(kept)
    need, memory = weights * (2 + moments), available()
    if need > memory:
        raise UserError(
            f"The model has {count:,} parameters, which with gradients and the state of the optimizer take "
            f"{in_words(need)}, and this machine has {in_words(memory)}; choose smaller numbers, such as latent_dim, "
            "network.hidden or the components."
        )


def refuse_impossible_steps(model: LatentVariableModel) -> None:
    """Have optimiser and scheduler judge their arguments, which they would else do once training has begun.

    Raises:
        UserError: With what they say.
    """
    part = "optimizer"
    try:
        optimizer = model.make_optimizer([torch.nn.Parameter(torch.zeros(1))])
        part = "scheduler"
        if model.make_scheduler is not None:
            model.make_scheduler(optimizer)
    except Exception as error:  # whatever torch raises, it is about these arguments
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(f"{part} cannot be built: {reason.rstrip('.')}.") from error


def refuse_closed_form_in_parallel(model: LatentVariableModel, trainer: L.Trainer) -> None:
    """EM sums are those of one process, which holds all parameters.

    Raises:
        UserError: If there are more.
    """
    if model.objective.closed_form and (trainer.world_size > 1 or isinstance(trainer.strategy, Sharded)):
        raise UserError(
            "objective=em runs in one process; choose strategy=cpu or gpu with trainer.devices=1, or "
            "objective=exact under ddp."
        )


def refuse_small_batches(data: Data, world_size: int) -> None:
    """Every process needs a row of every training batch.

    Raises:
        UserError: If a batch has fewer rows than there are processes.
    """
    Batches(
        # built for its refusal alone: no row is read
        lambda epoch: data.stored.train,
        len(data.stored.train),
        batch_size=data.batch_size,
        shuffle=True,
        world=world_size,
    )
