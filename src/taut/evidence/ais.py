"""Annealed importance sampling with HMC."""

from typing import ClassVar

from taut.evidence.annealing import Annealing
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.evidence.weights import Weights


class AIS(Annealing):
    r"""Annealed importance sampling (Neal, 2001): $\hat Z = \prod_t f_{\beta_t}(z_{t-1}) / f_{\beta_{t-1}}(z_{t-1})$.

    A path $f_\beta = \pi_0^{1-\beta} p(x, z)^\beta$ is walked in T steps with HMC moves between them. $\hat Z$ is
    unbiased for $p(x)$, so the log of its mean over chains is a lower bound on average: the reference for images.
    ``acceptance`` is that of the moves, ``ess`` and ``max_weight`` are those of the chains.
    """

    name: ClassVar[str] = "ais"
    kind: ClassVar[Kind] = "lower"

    def part(self, rows: Rows) -> LogEvidence:
        annealed = self.annealed(rows)
        log_w, acceptance = annealed.forward(annealed.tune())
        weights = Weights(log_w)
        diagnostics = {"ess": weights.ess, "max_weight": weights.max_weight, "acceptance": acceptance}
        return LogEvidence(self.name, self.kind, weights.iwae, weights.iwae_variance, self.chains, True, diagnostics)
