"""The multi-sample upper bound, on data simulated from the model."""

from typing import ClassVar

import torch

from taut.evidence.base import Simulated, count
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.functional.bounds import log_mean_exp
from taut.model.draws import log_prob_in_double


class UK(Simulated):
    r"""$U_K = E \log \frac1K (w_0 + \dots + w_{K-1})$, $z_0$ from the posterior and the others from q.

    An upper bound of $\log p(x)$ that falls with K; $U_1 = \log p(x) + KL(p(z|x) \| q)$ (Sobolev & Vetrov, 2019). For
    data simulated from the model the z they came from is an exact draw of the posterior; by symmetry of the K weights
    the inverse of their mean is unbiased for $1 / p(x)$, so the bound can be certified. Real data may be harder.

    Args:
        k: Number of samples K, the one from the posterior included.

    Raises:
        UserError: If k is not an integer >= 1; from ``check``, if the target cannot simulate.
    """

    name: ClassVar[str] = "u_k"
    kind: ClassVar[Kind] = "upper"

    def __init__(self, k: int = 1000) -> None:
        self.k = count("evidence.u_k.k", k)

    @property
    def cost(self) -> float:
        return float(self.k)

    def estimate(self, rows: Rows) -> LogEvidence:
        assert rows.z is not None
        z = rows.z.unsqueeze(0)
        # one datum at a time, like the others: in a batch a network's output differs by roundings
        each = [log_prob_in_double(rows.q(slice(i, i + 1)), z[:, i : i + 1]) for i in range(len(rows))]
        posterior = rows.target.log_joint(rows.x, z).double() - torch.cat(each, 1)
        others = rows.weights(self.k - 1, self.name).log_w if self.k > 1 else posterior[:0]
        log_w = torch.cat([posterior, others])
        value = log_mean_exp(log_w)
        unknown = torch.full_like(value, torch.nan)  # one draw of the posterior does not tell how draws differ
        return LogEvidence(self.name, self.kind, value, unknown, self.k, unbiased=True)
