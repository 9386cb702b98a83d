"""Information criteria of models whose log p(x) is known: how well they fit, against how many parameters they have."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import OneHotCategorical

from taut.model import exact_inference
from taut.model.joint import Joint

ROWS = 4096
"""Rows of which tables are held at once."""


@torch.no_grad()
def criteria(joint: Joint, x: Float[Tensor, "n *x"]) -> dict[str, Any] | None:
    r"""BIC, AIC and ICL of a model at the maximum of its likelihood on these rows; lower is better, as in scikit-learn.

    With $\ell = \sum_n \log p(x_n)$, of the observed cells where some are missing, and p free parameters:

    - $\mathrm{BIC} = -2 \ell + p \log n$ (Schwarz, 1978) and $\mathrm{AIC} = -2 \ell + 2 p$ (Akaike, 1974);
    - $\mathrm{ICL} = \mathrm{BIC} + 2 \sum_n H(p(z \mid x_n))$ (Biernacki, Celeux & Govaert, 2000), where z is a
      category: it counts clusters, and components that overlap are no two.

    Args:
        joint: A model whose $\log p(x)$ has a closed form.
        x: The rows it was trained on.

    Returns:
        ``log_likelihood`` (nats, of all rows), ``n``, ``parameters``, ``bic``, ``aic`` and ``icl``, which is ``None``
        where z is no category; ``None`` for a model whose number of free parameters means nothing, as of networks.
    """
    free = [piece.degrees_of_freedom for piece in (joint.prior, joint.likelihood)]
    if None in free:
        return None
    total, entropy = 0.0, 0.0
    for rows in x.split(ROWS):
        log_px, posterior = exact_inference.log_marginal_and_posterior(joint, rows)
        total += log_px.double().sum().item()
        if isinstance(posterior, OneHotCategorical):
            entropy += OneHotCategorical(logits=posterior.logits.double()).entropy().sum().item()
    n, parameters = len(x), sum(count for count in free if count is not None)
    bic = -2 * total + parameters * math.log(n)
    return {
        "log_likelihood": total,
        "n": n,
        "parameters": parameters,
        "bic": bic,
        "aic": -2 * total + 2 * parameters,
        "icl": bic + 2 * entropy if joint.prior.discrete else None,
    }
