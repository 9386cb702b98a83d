"""The thermodynamic curve: the gap as an area."""

from collections.abc import Sequence

import torch
from jaxtyping import Float

from taut.functional import bounds
from taut.functional.types import LogWeights


def thermodynamic_curve(log_w: LogWeights, betas: Sequence[float]) -> Float[torch.Tensor, "n b"]:
    r"""$E_{\pi_\beta} \log w$ with $\pi_\beta \propto q^{1-\beta} p(x, z)^\beta$, for each beta (Masrani et al., 2019).

    It never falls with beta, begins at the ELBO, and the area under it is $\log p(x)$: the area above the ELBO is the
    gap. The expectations are self-normalised sums over samples of q with weights $w^\beta$, so they are estimates, too
    low near beta = 1 where few samples count; a right sum made of them is not an upper bound. Samples of weight zero
    count for nothing at beta > 0, and make the ELBO $-\infty$.

    Args:
        log_w: Log-weights of samples of q.
        betas: Points in [0, 1].
    """
    finite = torch.where(log_w.isfinite(), log_w, 0.0)
    inside = [(bounds.normalised_weights(beta * log_w) * finite).sum(0) for beta in betas if beta > 0]
    return torch.stack([log_w.mean(0) for beta in betas if beta == 0] + inside)
