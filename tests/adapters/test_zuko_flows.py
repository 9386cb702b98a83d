"""Flows of zuko's as q of somebody's model."""

import pytest
import torch
from adapters.linear import NOISE, Encoder, assert_agrees, data, decoder, truth

import taut
from taut.adapters.proposal import proposal_from

zuko = pytest.importorskip("zuko")


@pytest.fixture
def flow():
    """A flow that bends a little, and by x."""
    made = zuko.flows.NICE(2, 4, transforms=2, hidden_features=(8,))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(0.3)
    return made


def test_a_flow_is_a_q(flow):
    """A flow that is drawn from in one precision and scored in another, or that does not see x."""
    x = data(8)
    q = proposal_from(flow, x)(x)
    z = q.sample((3,))
    assert z.dtype == torch.float64
    torch.testing.assert_close(q.log_prob(z), flow(x).log_prob(z.float()).double(), atol=1e-4, rtol=0)
    model = {"likelihood": "gaussian", "decoder": decoder(), "scale": NOISE}
    found = taut.audit(q=flow, **model, data=x, k=2000, evidence=["importance"]).evidence["importance"]
    # a few in a hundred of 2,000 draws count: the bias of the logarithm is half their squared error, each
    bias = len(x) * found["monte_carlo_error"] ** 2 / 2
    assert abs(found["value"] - truth(x).mean()) < 4 * found["monte_carlo_error"] + bias < 0.15
    assert next(flow.parameters()).dtype == torch.float32


def test_a_flow_is_a_prior():
    """A flow that is scored in single precision: with all layers the identity it is a standard normal prior."""
    prior = zuko.flows.NICE(2, transforms=1, hidden_features=(8,))
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.zero_()
    x, evidence = data(20), ["importance", "struski", "naive"]
    model = {"q": Encoder(), "likelihood": "gaussian", "decoder": decoder(), "scale": NOISE}
    report = taut.audit(**model, prior=prior, data=x, k=2000, simulated=20, evidence=evidence)
    assert_agrees(report, x)
    assert report.evidence["naive"]["kind"] == "lower"


def test_the_gap_of_a_flow_is_not_taken_apart(flow):
    with pytest.raises(taut.UserError, match="gap_apart=False"):
        taut.audit(q=flow, likelihood="gaussian", decoder=decoder(), scale=NOISE, data=data(8), gap_apart=True)
