"""The training shell that every model variant shares."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from taut import __version__
from taut.config.run_folder import is_run
from taut.data.base import Batch, Batches
from taut.data.disk_rows import DiskRows
from taut.errors import UserError
from taut.functional import seeding
from taut.model.joint import Joint
from taut.model.prior.base import Prior
from taut.model.prior.vamp import Vamp
from taut.model.q.base import Posterior
from taut.objective.base import Objective
from taut.runtime.untouched import untouched
from taut.training import further_steps
from taut.training.checkpoint import of_all_ranks
from taut.training.flat_adam import FlatAdam
from taut.training.fused_step import FusedStep, Step, fused_step
from taut.training.metrics import EpochMean, TrainingMonitor, criteria
from taut.training.restoring import check_optimizer_state
from taut.training.scored_model import ScoredModel

HOW = ("fused", "foreach", "capturable")
"""Settings of an optimiser that say how it computes on a device, and not what."""
REPORT = 50
"""Training batches between two reports of their bounds."""
DIVERGED = 10
"""How many times its size a training bound must fall below its start to be called diverged: KL warm-up may lower it."""


M = TypeVar("M", bound="LatentVariableModel")


class LatentVariableModel(ScoredModel, ABC):
    """A joint, a q and an objective, trained and scored. A variant says in ``check_joint`` which joints it is.

    Args:
        joint: p(x, z).
        q: q(z | x).
        objective: The bound to maximise.
        optimizer: Builds the optimiser from parameters.
        scheduler: Builds the learning-rate scheduler from the optimiser, stepped every epoch; or None.
        k: Importance samples K of the objective.
        k_eval: Importance samples at validation, rounded up to a multiple of k and to at least two blocks of k, so
            that the noise of the bound at k is known.
        k_test: Importance samples at test, rounded likewise.
        seed: Seed of all noise.
    """

    title: ClassVar[str] = ""
    """Name of the model in the titles of figures; empty: that of its class."""

    def __init__(
        self,
        joint: Joint,
        q: Posterior,
        objective: Objective,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer], Any] | None,
        *,
        k: int,
        k_eval: int,
        k_test: int,
        seed: int,
    ) -> None:
        super().__init__(joint, q, objective, k=k, k_eval=k_eval, k_test=k_test, seed=seed)
        self.check_joint(joint)
        refuse_unlearned_vamp(joint.prior, q)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.kl_weight = 1.0
        self.means = torch.nn.ModuleDict({"bound": EpochMean(), "surrogate": EpochMean()})
        self._epoch_so_far: dict[str, Any] | None = None
        self._settings: dict[str, Any] | None = None
        self.first_bound: Tensor | None = None
        self.last_bound: Tensor | None = None
        self._restored: list[Any] = []
        self._fused: FusedStep | None = None
        self._further = False
        self.further_rows = 0
        self._gradients: dict[Tensor, Tensor] | None = None

    @abstractmethod
    def check_joint(self, joint: Joint) -> None:
        """Refuse a joint that is not of this kind.

        Raises:
            UserError: Naming the way out.
        """

    def initialise(self, x: Float[Tensor, "n *x"], rows: int | None = None) -> None:
        """Start every piece from the training rows, and refuse what cannot be trained on them.

        Args:
            x: The training rows, or a random choice of them.
            rows: Number of all training rows; those of x by default.

        Raises:
            UserError: If the data are outside the likelihood's support, or the pieces do not go together.
        """
        del rows
        self.joint.prior.check_shapes()
        self.joint.likelihood.check(x)
        # q first, and without a random number: a prior may start from what q makes of the rows
        for piece in (self.q, self.joint.prior, self.joint.likelihood):
            piece.initialise(x)
        # two rows are enough to see whether prior, likelihood and q suit the objective
        self.objective.check(self.joint, self.q, self.k, x[:2])
        self.objective.initialise(self.joint, x)

    def on_train_start(self) -> None:
        self.trained = TrainingMonitor(self.trainer.global_step, self.device)
        if self._epoch_so_far is not None:
            self.trained.load_state_dict(self._epoch_so_far)
            self._epoch_so_far = None
        self._further = further_steps.possible(self.trainer, self, LatentVariableModel)
        # elsewhere autograd is what joins processes, steps and precisions
        alone = self.trainer.world_size == 1 == self.trainer.accumulate_grad_batches
        plain = alone and self.trainer.precision == "32-true"
        self._fused = fused = fused_step(self.joint, self.q, self.objective) if plain else None
        if fused is not None:
            laid = [optimizer.lay() for optimizer in self.trainer.optimizers if isinstance(optimizer, FlatAdam)]
            fused.gradients |= laid[0] if laid else {}
            fused.binary = getattr(self.trainer.train_dataloader, "binary", False)
        if self._settings is not None:
            for group in self.trainer.optimizers[0].param_groups:
                group.update(self._settings)
            self._settings = None

    def on_train_epoch_end(self) -> None:
        self.trained.start_epoch()

    def on_train_epoch_start(self) -> None:
        self._rows.start("train")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Key the step's noise, so that a resumed run and every rank draw what is theirs."""
        del batch
        if not self.objective.closed_form:
            self._key_noise(batch_idx)

    def _key_noise(self, batch_idx: int) -> None:
        # batches whose gradients make one step share its number, and need noise of their own
        together = self.trainer.accumulate_grad_batches
        batches = self.trainer.global_step * together + batch_idx % together
        counter = batches * self.trainer.world_size + self.trainer.global_rank
        seeding.seed(seeding.key(self.seed, "train", counter), self.device)

    def training_step(self, batch: Any, batch_idx: int) -> Float[Tensor, ""]:
        """The surrogate of a batch; reads nothing back from the device."""
        del batch_idx
        surrogate, self._gradients = self._surrogate(self._rows.of(batch, "train", self.trainer))
        return surrogate

    def _surrogate(self, batch: Batch) -> tuple[Float[Tensor, ""], dict[Tensor, Tensor] | None]:
        """What is minimised, and its gradients by parameter where the step has made them already."""
        gradients = None
        if self.objective.closed_form:
            bound = self.objective.expect(self.joint, batch.x)
            surrogate = -bound.mean()
        elif (step := self._fused_step(batch)) is not None:
            bound, surrogate, gradients = step
        else:
            draws = self.objective.draw(self.joint, self.q, batch.x, self.k, self.kl_weight)
            surrogate = self.objective.surrogate(draws)
            bound = self.objective.bound(draws.log_w_detached)
        self.trained.note(bound, surrogate.detach(), batch.index)
        # data parallelism averages over processes, whatever number of rows each of them had
        return surrogate * (len(batch.x) * self.trainer.world_size / batch.total), gradients

    def _fused_step(self, batch: Batch) -> Step | None:
        """A step without autograd, where this model has one and nobody looks into the graph."""
        if self._fused is None or len(batch.x) != batch.total or torch.is_anomaly_enabled():
            return None
        return self._fused(batch.x, self.k, self.kl_weight)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look for numbers that are none, and now and then report what was gathered."""
        del outputs, batch
        ends = self._ends_training()
        report = batch_idx % REPORT == 0 or self.trainer.is_last_batch or ends
        # reading waits for a GPU, but costs nothing on a CPU
        if report or self.device.type == "cpu":
            self.trained.check()
        if report:
            bound, *_, rows = self.trained.recent
            if self.is_mass and self.objective.kind == "lower" and not self.objective.closed_form:
                # from the position in training alone, so that a resumed run judges alike
                checks = 1 + self.trainer.global_step // REPORT + self.current_epoch
                self.trained.refuse_above_mass(int(rows), self.current_epoch + 1, checks)
            self.last_bound = bound / rows
            if self.first_bound is None:
                self.first_bound = self.last_bound
            bound, surrogate, _, rows = self.trained.take()
            for name, total in (("bound", bound), ("surrogate", surrogate)):
                mean = self.means[name]
                assert isinstance(mean, EpochMean)
                mean.update(total, rows)
                self.log(f"train/{name}", mean, on_step=False, on_epoch=True)
        if ends:
            # within an epoch too, where Lightning would neither validate nor keep what was trained
            self.trainer.should_stop = True
            self.trainer.check_val_every_n_epoch = 1
        elif self._further and not self.objective.closed_form:
            self._make_further_steps(batch_idx)

    def show_every_step(self) -> None:
        """Make no further steps behind Lightning's, so that callbacks are called at the next one."""
        self._further = False

    def _make_further_steps(self, batch_idx: int) -> None:
        """Steps up to the next one that somebody has to see (see :mod:`taut.training.further_steps`)."""
        loader, rows = self.trainer.train_dataloader, 0
        assert isinstance(loader, Batches)
        optimizer: Any = self.trainer.optimizers[0]
        for number in range(further_steps.room(self.trainer, batch_idx, REPORT)):
            if not self._further:  # a signal has come
                break
            batch = loader.next()
            self._key_noise(batch_idx + 1 + number)
            optimizer.step(partial(self._closure, optimizer, batch))
            further_steps.count(self.trainer)
            rows += batch.total
        self.further_rows = rows
        self.trained.check()

    def _closure(self, optimizer: Optimizer, batch: Batch) -> Tensor:
        """The surrogate of a batch, and its gradients where an optimiser looks for them."""
        surrogate, gradients = self._surrogate(batch)
        if gradients is None:
            optimizer.zero_grad()
            surrogate.backward()
        else:
            _hand_over(gradients)
        if self.trainer.gradient_clip_val is not None:
            clipping = self.trainer.gradient_clip_val, self.trainer.gradient_clip_algorithm
            self.clip_gradients(optimizer, *clipping)
        return surrogate

    def _ends_training(self) -> bool:
        """Tell whether trainer.max_steps or trainer.max_time ends the training with this batch."""
        return self.trainer.should_stop or 0 < self.trainer.max_steps <= self.trainer.global_step

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Nothing to do for a closed-form step, nor where the step has made the gradient already."""
        if self._gradients is not None:
            # here, because Lightning has taken away those of the last step by now
            _hand_over(self._gradients)
            self._gradients = None
        elif not self.objective.closed_form:
            super().backward(loss, *args, **kwargs)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.trainer.is_last_batch:
            # here, since Lightning validates before it calls on_train_epoch_end
            self.objective.end_of_epoch()
            self._stop_or_go_on()

    def _stop_or_go_on(self) -> None:
        """End training where the objective has converged, and validate what the last epoch ends with."""
        converged = bool(self.objective.converged)
        # or, because a callback may have asked already
        self.trainer.should_stop |= converged
        if self.objective.runs_to_the_end and self.trainer.current_epoch + 1 == self.trainer.max_epochs:
            self.trainer.check_val_every_n_epoch = 1

    def configure_optimizers(self) -> Any:
        optimizer = self.objective.optimizer(self.joint, self.parameters(), self.make_optimizer)
        # the maximiser of a closed form runs no kernels on its state
        if self.trainer.world_size == 1:
            optimizer = FlatAdam.of(optimizer)
        for saved in [] if self.objective.closed_form else self._restored[:1]:
            check_optimizer_state(optimizer, saved)
        self._restored = []
        setattr(optimizer, "_step_supports_amp_scaling", False)  # noqa: B010 (or Lightning refuses to clip gradients)
        for group in optimizer.param_groups if self.trainer.world_size > 1 else []:
            group["fused"] = None  # it rounds by where a tensor ends, and shards end elsewhere than parameters
        if self.make_scheduler is None or self.objective.closed_form:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.make_scheduler(optimizer), "interval": "epoch"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the version and the epoch so far; weights that a NaN may have reached are not kept."""
        if self.trainer.training:
            self.trained.check()
            checkpoint["epoch_so_far"] = of_all_ranks(self.trained.state_dict())
        checkpoint["taut_version"] = __version__
        checkpoint["first_bound"] = None if self.first_bound is None else self.first_bound.item()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on within the epoch, and by the optimiser's settings and the schedule that this model was built with.

        The state of the optimiser is kept, to be checked once there is one to take it.
        """
        self._restored = checkpoint.get("optimizer_states", [])
        first = checkpoint.get("first_bound")  # those of older versions have none
        self.first_bound = None if first is None else torch.tensor(first, dtype=torch.float64, device=self.device)
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        ranks = checkpoint.get("epoch_so_far")
        self._epoch_so_far = ranks and TrainingMonitor.share_of(
            ranks, self.trainer.global_rank, self.trainer.world_size
        )
        if not self.objective.closed_form:
            # Lightning would restore the schedule and all settings as they were, whatever this run asks for
            checkpoint["lr_schedulers"], self._settings = self._replayed(checkpoint)

    def _replayed(self, checkpoint: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The schedule, and the settings it gives the optimiser, as if they had been these from the start.

        Where they were, the same sums are made again: the result is the same to the last bit.
        """
        optimizer = self.make_optimizer([torch.nn.Parameter(torch.zeros(1))])
        schedules = [] if self.make_scheduler is None else [self.make_scheduler(optimizer)]
        before = checkpoint["lr_schedulers"]
        # step by step, since many schedules are a recursion
        for _ in range(before[0]["last_epoch"] if before else checkpoint["epoch"]):
            optimizer.step()  # without it torch warns that the schedule is ahead of the optimiser
            for schedule in schedules:
                schedule.step()
        settings = {name: value for name, value in optimizer.param_groups[0].items() if name not in ("params", *HOW)}
        return [schedule.state_dict() for schedule in schedules], settings

    @classmethod
    def load_from_checkpoint(  # pyright: ignore[reportIncompatibleMethodOverride] (Lightning's is no plain method)
        cls: type[M],
        checkpoint_path: str | Path,
        map_location: torch.device | str | None = None,
        *,
        trust: str | Sequence[str] = (),
    ) -> M:
        """The trained model of a checkpoint in a run folder, whose config says how it is built; in evaluation mode.

        Args:
            checkpoint_path: The checkpoint, e.g. ``<run>/checkpoints/best.ckpt``.
            map_location: Where to put the model; main memory by default.
            trust: Packages whose classes the run may build, beside those of taut: name those that you know.

        Raises:
            UserError: If the file is not in a run folder, or damaged, or of another kind of model.
        """
        from taut.training.stored_run import Run  # above this module, which it builds

        path = Path(checkpoint_path).expanduser().absolute()
        folder = path.parent.parent
        if not is_run(folder):
            raise UserError(
                f"{path} is not in the checkpoints/ of a run folder, whose config says what model it is of; put it "
                "back there, or build the model yourself and hand it the state_dict."
            )
        run = Run.open(folder, trust=trust)
        with untouched(run.precision):
            model, _, _ = run.load(path)
        if not isinstance(model, cls):
            raise UserError(
                f"{path} is of a {type(model).__name__}, not of a {cls.__name__}; call "
                f"{type(model).__name__}.load_from_checkpoint."
            )
        return model.to(map_location or "cpu")

    def divergence(self) -> list[str]:
        """A sentence where the training bound ended far below that of the first batch, which untrained weights had."""
        if self.first_bound is None or self.last_bound is None:
            return []
        first, last = self.first_bound.item(), self.last_bound.item()
        if last > first - DIVERGED * (1 + abs(first)):
            return []
        return [
            f"Training diverged: its bound was {first:.4g} at the first batch, before any step, and is {last:.4g} at "
            "the end; lower optimizer.lr, or set trainer.gradient_clip_val."
        ]

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "b *x"]) -> Float[Tensor, "b *x"]:
        """Mean of p(x | z) at one z drawn from q(z | x)."""
        return self.joint.likelihood(self.q(x).sample()).mean

    @torch.no_grad()
    def limits(self, x: Float[Tensor, "n *x"]) -> list[str]:
        """Sentences about floors and caps of the likelihood that bind on these rows."""
        # its draw must not move the generators of training
        with seeding.forked(x.device):
            z = self.q(x).sample((1,))
        likelihood = self.joint.likelihood
        return likelihood.limits(likelihood.layer(z))

    def criteria(self, x: Float[Tensor, "n *x"] | DiskRows) -> dict[str, Any] | None:
        """Information criteria on these rows; ``None`` where they mean nothing (see :mod:`taut.training.metrics`)."""
        return criteria(self.joint, x) if self.log_px_kind == "exact" else None


def _hand_over(gradients: dict[Tensor, Tensor]) -> None:
    for parameter, gradient in gradients.items():
        parameter.grad = gradient


def require(
    condition: bool, model: str, needs: str, joint: Joint, instead: str = "leave those choices to the model"
) -> None:
    """Refuse a joint in one sentence, which ends with what to choose ``instead``.

    Raises:
        UserError: If ``condition`` does not hold.
    """
    if not condition:
        raise UserError(
            f"model={model} needs {needs}, but prior={type(joint.prior).__name__.lower()} and "
            f"likelihood={type(joint.likelihood).__name__.lower()} were given; {instead}."
        )


def refuse_unlearned_vamp(prior: Prior, q: Posterior) -> None:
    """A prior made of q is nothing where q has no parameters.

    Raises:
        UserError: If prior and q are such a pair.
    """
    if isinstance(prior, Vamp) and not q.learned:
        raise UserError(
            f"prior=vamp is a mixture of q(z|u), but q={type(q).__name__.lower()} does not look at u; "
            "choose q=diagonal or q=full."
        )
