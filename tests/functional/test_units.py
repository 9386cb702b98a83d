"""A density knows no units: an offset changes nothing, and a scale moves log p(x) by its logarithm alone."""

import pytest
import torch
from pieces import SMALL_PRIOR, build

from taut.evidence.score import score

ROWS, COLUMNS = 200, 3
MODELS = {
    "gaussian": ["likelihood=gaussian"],
    "gaussian, one variance": ["likelihood=gaussian", "likelihood.shared=true"],
    "gaussian, vamp": ["likelihood=gaussian", "prior=vamp", *SMALL_PRIOR["vamp"]],
    "gaussian, full": ["likelihood=gaussian", "q=full"],
    "gaussian, masked": ["likelihood=gaussian", "q=masked"],
}
OFFSETS = [0.0, 1e3, 1e6, 1e9]
SCALES = [1e-5, 1.0, 1e5]


def _rows() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(COLUMNS, COLUMNS, generator=generator, dtype=torch.float64)
    return torch.randn(ROWS, COLUMNS, generator=generator, dtype=torch.float64) @ mixed


def _log_px(words: list[str], x: torch.Tensor) -> torch.Tensor:
    """Of a float32 model that met these rows at its start."""
    torch.manual_seed(1)
    joint, q, objective = build("latent_dim=2", *words, x_shape=(COLUMNS,))
    torch.manual_seed(2)
    for piece in (joint.prior, joint.likelihood, q):
        piece.initialise(x)
    joint.float(), q.float()  # as sharded training does; what is relative stays
    with torch.no_grad():
        for parameter in joint.likelihood.parameters():
            parameter.add_(0.3)  # somewhere else than at the start
        index = torch.arange(20)
        return score(joint, q, x[:20], index, bound=objective.bound, k=1, samples=20, seed=0, split="x").values[
            "log_px"
        ]


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", MODELS)
def test_log_px_moves_by_the_log_of_the_scale_alone(name, scale, offset):
    """What float64 itself loses of the table decides the tolerance: half a unit in the last place of the offset."""
    x = _rows()
    lost = torch.finfo(torch.float64).eps * (offset / scale)
    if lost > 1e-5:
        pytest.skip("float64 holds too few digits of such a table")
    moved = scale * x + offset * torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    expected = _log_px(MODELS[name], x) - COLUMNS * torch.tensor(scale).double().log()
    torch.testing.assert_close(_log_px(MODELS[name], moved), expected, rtol=1e-5, atol=1e-3 + 1e3 * lost)


def test_a_cap_and_a_floor_of_the_variance_say_where_they_bind():
    joint, _, _ = build("likelihood=gaussian", "latent_dim=2", "network.hidden=[]", x_shape=(COLUMNS,))
    likelihood, z = joint.likelihood, torch.zeros(1, 5, 2, dtype=torch.float64)
    assert likelihood.limits(z) == []
    with torch.no_grad():
        likelihood.offset[1] = torch.tensor([15.0, 0.0, -10.0])
    capped, floored = likelihood.limits(z)
    assert capped.startswith("the log-variance of 1 of 3 columns is at its cap of 15 ")
    assert floored.startswith("the variance of 1 of 3 columns is mostly the floor likelihood.min_variance=0.0001 ")
