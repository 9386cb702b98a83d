"""The loss of a batch is that of its shares, row by row: what two processes compute together is what one computes.

How processes are joined is proved with real ones in ``tests/runtime/test_proofs.py``; here it is each piece's part: no
row of a batch says anything to another, and every share has a gradient for every parameter.
"""

import pytest
import torch
from pieces import COLUMNS, LAYERS, PER_CELL, build, names, with_likelihood, with_prior, with_q

from taut.distributions import from_noise, gaussian

pytestmark = pytest.mark.usefixtures("float64")
K, ROWS, FIRST = 4, 5, 3
"""Draws of each of the rows, of which the first so many are one process's."""
DISCRETE = {"categorical", "bernoulli", "categoricals", "exact", "prior", "uniform"}
"""Whose draws are no function of normal numbers."""
MODELS = {
    **{f"q={q}": with_q(q) for q in names("q") if q not in DISCRETE},
    **{f"prior={prior}": with_prior(prior) for prior in names("prior") if prior not in {*DISCRETE, "layers"}},
    **{f"likelihood={name}": with_likelihood(name) for name in (*PER_CELL, "gaussian")},
    "ladder, student_t": [*LAYERS, "q=ladder", "likelihood=student_t", "objective=iwae"],
}


class Noise:
    """Normal numbers of each row, whichever share of the batch it stands in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = slice(None)
        for module in ("multivariate_normal", "lowrank_multivariate_normal"):
            monkeypatch.setattr(f"torch.distributions.{module}._standard_normal", self)
        for module in (gaussian, from_noise):
            monkeypatch.setattr(module, "standard_normal", self)
        # of a mixture q: the component that is drawn from first
        monkeypatch.setattr(
            torch, "randint", lambda high, size, **_: torch.arange(ROWS).expand(size[0], -1)[:, self.rows] % high
        )

    def __call__(self, shape, dtype, device):
        made = torch.randn(K, ROWS, *shape[2:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return made[:, self.rows].to(dtype)


def _gradients(model, x: torch.Tensor, weight: float) -> dict[str, torch.Tensor]:
    joint, q, objective = model
    # as the training step weighs it, since processes are averaged and not added
    loss = weight * objective.surrogate(objective.draw(joint, q, x, K, 1.0))
    named = {id(p): (name, p) for piece in (joint, q) for name, p in piece.named_parameters()}
    parameters = dict(named.values())
    found = torch.autograd.grad(loss, list(parameters.values()))
    return {"loss": loss.detach(), **dict(zip(parameters, found, strict=True))}


@pytest.mark.parametrize("words", MODELS.values(), ids=list(MODELS))
def test_the_gradient_of_a_batch_is_that_of_its_shares(words, monkeypatch):
    torch.manual_seed(1)
    table = any(word in ("likelihood=mixed", "likelihood=self_masking") for word in words)
    shape = (len(COLUMNS),) if table else (1, 4, 4)
    model = build("objective=iwae", *words, x_shape=shape)
    joint = model[0]
    x = joint.likelihood(joint.prior().sample((1, ROWS))).sample()[0]
    noise = Noise(monkeypatch)
    whole = _gradients(model, x, 1.0)
    shares = []
    for noise.rows in (slice(FIRST), slice(FIRST, ROWS)):
        part = x[noise.rows]
        shares.append(_gradients(model, part, len(part) / ROWS))
    for name, expected in whole.items():
        torch.testing.assert_close(sum(share[name] for share in shares), expected, rtol=1e-10, atol=1e-12, msg=name)
