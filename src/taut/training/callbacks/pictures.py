"""Pictures of a model and some rows of its data.

A drawing asks the objects what they offer, an image shape, a table of means, a plane of latents, and answers
``None`` where there is nothing to draw.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from matplotlib.figure import Figure
from torch import Tensor, nn

from taut.errors import UserError
from taut.functional.seeding import forked, key
from taut.model.draws import draw
from taut.model.exact_inference import posterior
from taut.report import figures
from taut.training import loggers
from taut.training.callbacks.history import metrics_file, read
from taut.training.strategies import whole_weights

GRID, EXTENT, ELBO_DRAWS = 9, 2.5, 16


@dataclass(frozen=True)
class Subject:
    """Model, rows and words that a picture is drawn from.

    Args:
        model: A latent-variable model.
        x: Rows of the split, shape ``[n, *x_shape]``.
        columns: Names of the columns of tabular data.
        stage: ``val`` or ``test``.
        count: Number of images in a row.
        caption: Model, k, data and split, in words.
    """

    model: Any
    x: Float[Tensor, "n *x"]
    columns: tuple[str, ...] | None
    stage: str
    count: int
    caption: str


def bound_versus_k(subject: Subject) -> Figure | None:
    """The bound against K, if the stage has been evaluated."""
    curve = subject.model.curve(subject.stage)
    if curve is None:
        return None
    ks, mean, standard_error, log_px, kind = curve
    return figures.bound_versus_k(
        _array(ks),
        _array(mean),
        _array(standard_error),
        log_px=log_px,
        log_px_kind=kind,
        title=subject.caption,
    )


def images(subject: Subject) -> Figure | None:
    """Inputs, reconstructions, decoder means at draws from the prior and, of a mixture, its means."""
    if not _is_image(subject.x.shape[1:]):
        return None
    model, x = subject.model, subject.x[: subject.count]
    z, _ = model.joint.sample(subject.count)
    rows = {
        "inputs": x,
        "reconstructions": model.reconstruct(x),
        "prior samples": model.joint.likelihood(z).mean,
    }
    if hasattr(model.joint.likelihood, "means"):
        rows["components"] = model.joint.likelihood.means[: subject.count].unflatten(-1, x.shape[1:])
    return figures.image_rows({label: _array(row) for label, row in rows.items()}, title=subject.caption)


def mixture(subject: Subject) -> Figure | None:
    """Data and components of a mixture of Gaussians, coloured by the exact responsibilities."""
    joint = subject.model.joint
    if not (hasattr(joint.likelihood, "covariances") and hasattr(joint.prior(), "probs")):
        return None
    x, responsibilities = subject.x, posterior(joint, subject.x).probs  # type: ignore[attr-defined]
    if x.isnan().any():
        x = joint.likelihood(responsibilities.unsqueeze(0)).given(x).mean[0]
    return figures.mixture_scatter(
        _array(x.flatten(1)),
        _array(responsibilities),
        _array(joint.prior().probs),
        _array(joint.likelihood.means),
        _array(joint.likelihood.covariances()),
        columns=subject.columns,
        title=f"{subject.caption}, {len(joint.likelihood.means)} components",
    )


def latent_plane(subject: Subject) -> Figure | None:
    """Means of q in a two-dimensional continuous latent space and what the decoder makes of the plane."""
    joint, x = subject.model.joint, subject.x
    if tuple(joint.prior.z_shape) != (2,) or joint.prior().support.is_discrete:
        return None
    draws = draw(joint, subject.model.q, x, ELBO_DRAWS)
    try:
        mean, std = draws.q.mean, draws.q.stddev
    except NotImplementedError:
        # of a flow, a chain of layers, and a q carried onto a box torch knows none: those of the draws stand in
        mean, std = draws.z.mean(0), draws.z.std(0)
    return figures.latent_plane(
        _array(mean),
        _array(std),
        colour=_array(draws.log_w.mean(0)),
        grid=_decoded_plane(joint, x) if _is_image(x.shape[1:]) else None,
        extent=EXTENT,
        title=subject.caption,
    )


DRAWINGS: tuple[Callable[[Subject], Figure | None], ...] = (bound_versus_k, images, mixture, latent_plane)


def _decoded_plane(joint: Any, x: Tensor) -> Float[np.ndarray, "g g c h w"]:
    ticks = torch.linspace(-EXTENT, EXTENT, GRID, device=x.device, dtype=x.dtype)
    # torch warns where indexing is not given
    second, first = torch.meshgrid(ticks, ticks, indexing="ij")
    return _array(joint.likelihood(torch.stack([first, second], -1)).mean)


def _is_image(shape: torch.Size) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3)


def _array(values: Any) -> np.ndarray:
    # double: numpy has no bfloat16
    return values.detach().double().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


MOST_ROWS = 1000


class Pictures(Callback):
    """Draws what the model offers into ``<run folder>/figures`` and, with the same call, into the loggers.

    Validation pictures are drawn after 1, 2, 4, 8 ... times ``every_n_epochs`` epochs and after the last one, test
    pictures at the end of the test; each overwrites its predecessor on disk, and the loggers keep them all. Only the
    first rank draws. Neither random generators nor training mode are touched.

    Args:
        every_n_epochs: Epochs before the first set of validation pictures.
        count: Images in a row.

    Raises:
        UserError: If one of the two is not a positive integer.
    """

    def __init__(self, every_n_epochs: int = 10, count: int = 12) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("count", count)):
            if value < 1:
                raise UserError(f"callbacks.pictures.{name} must be an integer >= 1, got {value}.")
        self.every_n_epochs, self.count = every_n_epochs, count
        self._drawn_epoch: int | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sets, epochs = divmod(trainer.current_epoch + 1, self.every_n_epochs)
        # a validation within an epoch would draw the same set again and again
        ended = trainer.is_last_batch or trainer.should_stop
        due = trainer.state.fn != "fit" or (ended and not epochs and sets.bit_count() == 1)
        if due and not trainer.sanity_checking:
            self._draw(trainer, pl_module, "val")
            self._drawn_epoch = trainer.current_epoch

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # by now Lightning has counted the last epoch
        if self._drawn_epoch != trainer.current_epoch - 1:
            self._draw(trainer, pl_module, "val")
        self._draw_history(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: Trainer, model: Any, stage: str) -> None:
        # all processes enter, because gathering the weights takes all of them
        with whole_weights(trainer):
            if trainer.is_global_zero:
                self._draw_all(trainer, model, stage)

    def _draw_all(self, trainer: Trainer, model: Any, stage: str) -> None:
        with _undisturbed(model), forked(model.device):
            # keyed by the epoch, so that a resumed run draws the same pictures
            torch.manual_seed(key(model.seed, f"pictures/{stage}", trainer.current_epoch))
            subject = self._subject(trainer, model, stage)
            for drawing in DRAWINGS:
                figure = drawing(subject)
                if figure is not None:
                    _publish(trainer, f"{drawing.__name__}_{stage}", figure)

    def _subject(self, trainer: Trainer, model: Any, stage: str) -> Subject:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        return Subject(
            model=model,
            x=_rows(data, stage).to(model.device),
            columns=None if data.columns is None else tuple(data.columns),
            stage=stage,
            count=self.count,
            caption=_caption(model, data, stage),
        )

    def _draw_history(self, trainer: Trainer, model: Any) -> None:
        path = metrics_file(trainer)
        if trainer.is_global_zero and path.exists():
            curve = model.curve("val")
            kind = "lower" if curve is None else curve[-1]
            title = _caption(model, trainer.datamodule, "val")  # type: ignore[attr-defined]
            _publish(trainer, "history", figures.history(read(path), log_px_kind=kind, title=title))


def _caption(model: Any, data: Any, stage: str) -> str:
    """Model, k, data and split in words."""
    binarisation = "" if data.binarisation == "none" else f" ({data.binarisation})"
    observed = "" if data.mask is None else ", observed cells"
    # of a sum that is done no draws are taken
    draws = "" if model.log_px_kind == "exact" else f", k = {model.k}"
    split = {"val": "validation"}.get(stage, stage)
    return f"{model.title or type(model).__name__}{draws}, on {data.name}{binarisation}{observed}, {split} split"


def _rows(data: Any, stage: str) -> Tensor:
    """The first rows of a split, as the model meets them (binarised)."""
    batches, seen = [], 0
    for batch in getattr(data, f"{stage}_dataloader")():
        batches.append(batch.x)
        seen += len(batch.x)
        if seen >= MOST_ROWS:
            break
    return torch.cat(batches)[:MOST_ROWS]


def _publish(trainer: Trainer, name: str, figure: Figure) -> None:
    path = Path(trainer.default_root_dir) / "figures" / f"{name}.png"
    try:
        figures.save(figure, path)
    # a full disk must not end a training
    except OSError as error:
        rank_zero_warn(f"The picture {path} could not be written ({error}); the run goes on without it.")
        return
    loggers.log_picture(trainer.loggers, f"pictures/{name}", path, trainer.global_step)


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside, every module in its own mode again outside."""
    # of each module: model.train() would also change those that were in evaluation mode before
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
