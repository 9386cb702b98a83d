"""Models written with torch alone, in every form they are handed over in, against scipy."""

import re
from itertools import product

import numpy as np
import pytest
import torch
from adapters.linear import NOISE, Encoder, assert_agrees, data, decoder, truth
from scipy import integrate, stats
from torch import nn
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal

import taut
from taut.adapters.plain import Plain
from taut.adapters.proposal import family_of, proposal_from

PRIOR = Independent(Normal(torch.zeros(2), 1.0), 1)


def log_joint(x, z):
    given = Normal(decoder()(z.float()), NOISE)
    return PRIOR.log_prob(z) + given.log_prob(x).sum(-1)


class Functions:
    """sample and log_prob, and nothing else."""

    encoder = Encoder()

    def sample(self, x, k):
        mean, log_variance = self.encoder(x)
        return mean + (log_variance / 2).exp() * torch.randn(k, *mean.shape)

    def log_prob(self, x, z):
        mean, log_variance = self.encoder(x)
        return Normal(mean, (log_variance / 2).exp()).log_prob(z).sum(-1)


def not_independent(x):
    mean, log_variance = Encoder()(x)
    return Normal(mean, (log_variance / 2).exp())


def full(x):
    mean, log_variance = Encoder()(x)
    return MultivariateNormal(mean, torch.diag_embed(log_variance.exp()))


class Mine:
    """The protocol, in the place of a stranger's model."""

    def __init__(self):
        self.encoder = Encoder()

    def log_joint(self, x, z):
        return log_joint(x, z)

    def q(self, x):
        return self.encoder(x)


PARTS = {
    "modules": {"q": Encoder(), "decoder": decoder(), "likelihood": "gaussian", "scale": NOISE},
    "mean and log-variance": {
        "q": Encoder(),
        "decoder": lambda z: (decoder()(z), torch.full((len(z), 4), 2 * np.log(NOISE))),
        "likelihood": "gaussian",
    },
    "a distribution": {"q": not_independent, "likelihood": lambda z: Normal(decoder()(z), NOISE), "prior": PRIOR},
    "a prior of axes": {
        "q": full,
        "likelihood": lambda z: Independent(Normal(decoder()(z), NOISE), 1),
        "prior": lambda: Normal(torch.zeros(2), 1.0),
    },
    "log_joint": {"q": Encoder(), "log_joint": log_joint},
    "sample and log_prob": {"q": Functions(), "log_joint": log_joint},
    "an object": {"model": Mine()},
}


@pytest.mark.parametrize("form", PARTS)
def test_every_form_of_a_linear_model_agrees_with_scipy(form):
    """A constant forgotten, an axis of x or z not summed, a scale taken for a variance."""
    x = data()
    report = taut.audit(**PARTS[form], data=x, k=2000, evidence=["importance", "struski"])
    assert_agrees(report, x)


@pytest.mark.parametrize("form", ["modules", "a distribution"])
def test_data_simulated_from_the_parts_bound_log_p_from_above(form):
    """z and x of a pair mixed up, or x drawn from another z."""
    report = taut.audit(**PARTS[form], data=data(), k=200, simulated=200)
    of_model = report.result["simulated"]["evidence"]
    error = of_model["u_k"]["standard_error"] + of_model["importance"]["standard_error"]
    # the entropy of x, of which both are estimates over fresh data
    entropy = stats.multivariate_normal(cov=decoder_covariance()).entropy()
    assert abs(of_model["u_k"]["value"] + entropy) < 4 * error
    assert abs(of_model["u_k"]["value"] - of_model["importance"]["value"]) < 0.05


def test_chains_through_a_decoder_bracket_simulated_data():
    """A decoder behind no_grad, or x of another z than the chains start from."""
    chains = {"steps": 10, "chains": 8, "leapfrog": 2}
    evidence = [taut.evidence.AIS(**chains), taut.evidence.BDMC(**chains)]
    report = taut.audit(**PARTS["modules"], data=data(4), k=200, simulated=20, evidence=evidence)
    assert (
        abs(report.evidence["ais"]["value"] - truth(data(4)).mean()) < 4 * report.evidence["ais"]["monte_carlo_error"]
    )
    of_model = report.result["simulated"]["evidence"]
    assert -0.1 < of_model["bdmc"]["value"] - of_model["ais"]["value"] < 0.2


def decoder_covariance():
    weight = decoder().weight.detach().double().numpy()
    return weight @ weight.T + NOISE**2 * np.eye(4)


@pytest.mark.parametrize("output", ["logits", "means"])
def test_pixels_of_a_decoder_agree_with_quadrature(output):
    """Logits read as probabilities, or the mass of a pixel taken for a density."""
    weights, bias = torch.tensor([[1.5], [-1.0], [0.5]]), torch.tensor([0.2, 0.0, -0.5])
    x = torch.tensor([pixels for pixels in product([0.0, 1.0], repeat=3)])
    logits = lambda z: z @ weights.T + bias  # noqa: E731
    q = lambda x: (torch.zeros(len(x), 1), torch.zeros(len(x), 1))  # noqa: E731

    def density(z, row):
        given = Bernoulli(logits=logits(torch.tensor([[z]], dtype=torch.float32)))
        return stats.norm.pdf(z) * given.log_prob(row).sum().exp().item()

    found = [integrate.quad(density, -9, 9, args=(row,), epsabs=1e-6)[0] for row in x]
    assert sum(found) == pytest.approx(1, abs=1e-5)
    made = logits if output == "logits" else lambda z: logits(z).sigmoid()
    report = taut.audit(q=q, decoder=made, likelihood="bernoulli", output=output, data=x, k=4000)
    error = report.evidence["importance"]["monte_carlo_error"]
    assert abs(report.evidence["importance"]["value"] - np.log(found).mean()) < 4 * error + 1e-3
    with pytest.raises(taut.UserError, match=r"reported=3 is above 0, and p\(x\) is a probability mass"):
        taut.audit(q=q, decoder=made, likelihood="bernoulli", output=output, data=x, k=40, reported=3)


def test_modules_are_put_into_evaluation_mode_and_back():
    """Dropout that is left on makes two values of one z; modules left in evaluation mode would no longer train."""
    encoder = nn.Sequential(nn.Dropout(0.5), Encoder()).train()
    encoder[1].mean.eval()
    report = taut.audit(q=encoder, likelihood="gaussian", decoder=decoder(), scale=NOISE, data=data(), k=500)
    assert_agrees(report, data())
    assert [part.training for part in encoder.modules()] == [True, True, True, False]
    assert all(parameter.requires_grad and parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.parametrize("q", [Encoder(), full])
def test_the_parameters_of_a_gaussian_q_make_it_again(q):
    """A variance taken for a scale, or a triangle filled in another order than it was read in."""
    x, proposal = data(5), proposal_from(q, data())
    family = family_of(proposal, x)
    assert family is not None
    z = proposal(x).sample((3,))
    again = family.distribution(family.parameters(x))
    torch.testing.assert_close(again.log_prob(z), proposal(x).log_prob(z))
    with torch.no_grad():
        moved = family.distribution(family.parameters(x) + 0.1 * torch.randn(family.parameters(x).shape).double())
    parameters = family_of(lambda _: moved, x).parameters(x)  # type: ignore[union-attr]
    torch.testing.assert_close(family.distribution(parameters).log_prob(z), moved.log_prob(z))


def test_the_gap_is_taken_apart_by_the_parameters_of_q(monkeypatch):
    """The best independent q of a linear model is narrower by WIDER: amortisation is what that is worth."""
    monkeypatch.setattr("taut.api.evaluate.STEPS", 200)
    report = taut.audit(**PARTS["modules"], data=data(4), k=500, evidence=["importance"], gap_apart=True)
    apart = report.result["apart"]["data"]
    # KL of N(m, (w s)^2) less that of N(m, s^2): log of the widths, and their squares, of two coordinates
    expected = 2 * ((1.2**2 - 1) / 2 - np.log(1.2))
    error = 4 * apart["amortisation"]["monte_carlo_error"] + 2e-3
    assert abs(apart["amortisation"]["value"] - expected) < error < 0.05


X = data(6)
GAUSSIAN = {"likelihood": "gaussian", "decoder": decoder(), "scale": NOISE}
REFUSED = {
    "Give a model, or likelihood= and q=": {"q": Encoder()},
    "model= is a whole model, and q= a part of one": {"model": Mine(), "q": Encoder()},
    "simulate= goes with log_joint=": {"q": Encoder(), **GAUSSIAN, "simulate": print},
    "A decoder goes with the name of its likelihood": {"q": Encoder(), "likelihood": "gaussian"},
    "likelihood='gauss' is not known; did you mean gaussian?": {"q": Encoder(), **GAUSSIAN, "likelihood": "gauss"},
    "needs the standard deviation of x: scale=1.0": {"q": Encoder(), **GAUSSIAN, "scale": None},
    "x holds .*, of which this likelihood has no density; for a Bernoulli make grey pixels": {
        "q": Encoder(),
        "likelihood": "bernoulli",
        "decoder": decoder(),
    },
    "must be a tensor of shape .1, 4., as a row of the data is, got a tensor of shape .1, 3.": {
        "q": Encoder(),
        **GAUSSIAN,
        "decoder": nn.Linear(2, 3),
    },
    "prior is over z of shape .3. and q.x. over z of shape .2.": {
        "q": Encoder(),
        **GAUSSIAN,
        "prior": Normal(torch.zeros(3), 1.0),
    },
    "q.x. must be a distribution of torch, or a pair of tensors": {"q": lambda x: x, **GAUSSIAN},
    "is handed z in float64, and a network in it is not": {
        "q": Encoder(),
        "log_joint": lambda x, z: decoder()(z).sum(-1),
    },
    "it must be a tensor of shape .2, 1., .k, b.": {"q": Encoder(), "log_joint": lambda x, z: PRIOR.log_prob(z).sum(0)},
    "A builtins.dict cannot be audited; give an object with log_joint": {"model": {}},
    "A module of torch, here Encoder, says no density; give its parts and a likelihood": {"model": Encoder()},
    "gap.apart=true looks for the best q of each datum by its parameters": {
        "q": Functions(),
        "log_joint": log_joint,
        "gap_apart": True,
    },
    "reported=nan must be a finite number": {"q": Encoder(), **GAUSSIAN, "reported": float("nan"), "k": 10},
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_does_not_go_together_is_refused_in_one_sentence(sentence):
    with pytest.raises(taut.UserError, match=sentence) as caught:
        taut.audit(**({"data": X} | REFUSED[sentence]))
    assert "\n" not in str(caught.value)


def test_probabilities_in_the_place_of_logits_are_refused():
    """log p(x) of a decoder's sigmoid taken twice is a number of no model."""
    decode = nn.Sequential(decoder(), nn.Sigmoid())
    with pytest.raises(taut.UserError, match=re.escape("set output='means'")):
        taut.audit(q=Encoder(), likelihood="bernoulli", decoder=decode, data=(X > 0).float())
    with pytest.raises(taut.UserError, match=re.escape("set output='logits'")):
        taut.audit(q=Encoder(), likelihood="bernoulli", decoder=decoder(), output="means", data=(X > 0).float())
    assert Plain(q=Encoder(), likelihood="bernoulli", decoder=decoder()).subject((X > 0).float()).target.mass
