"""From a model and some rows to the pictures they can make.

A drawing asks the objects what they offer, an image shape, a table of means, a plane of latents, and answers
``None`` where there is nothing to draw.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from taut import figures
from taut.model.draws import draw
from taut.model.exact_inference import posterior

GRID, EXTENT, ELBO_DRAWS = 15, 2.5, 16


@dataclass(frozen=True)
class Subject:
    """What a picture is drawn of.

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
    q = subject.model.q(x)
    return figures.latent_plane(
        _array(q.mean),
        _array(q.stddev),
        colour=_array(draw(joint, subject.model.q, x, ELBO_DRAWS).log_w.mean(0)),
        grid=_decoded_plane(joint, x) if _is_image(x.shape[1:]) else None,
        extent=EXTENT,
        title=subject.caption,
    )


DRAWINGS: tuple[Callable[[Subject], Figure | None], ...] = (bound_versus_k, images, mixture, latent_plane)


def _decoded_plane(joint: Any, x: Tensor) -> Float[np.ndarray, "g g c h w"]:
    ticks = torch.linspace(-EXTENT, EXTENT, GRID, device=x.device, dtype=x.dtype)
    second, first = torch.meshgrid(ticks, ticks, indexing="ij")
    return _array(joint.likelihood(torch.stack([first, second], -1)).mean)


def _is_image(shape: torch.Size) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3)


def _array(values: Any) -> np.ndarray:
    return values.detach().double().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
