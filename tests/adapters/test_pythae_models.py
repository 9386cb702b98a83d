"""Models of pythae, the package itself: it is not among what the tests need, and .ci/adapters installs it."""

import pytest
import torch
from adapters.linear import Encoder, assert_agrees, data, decoder

import taut

pythae = pytest.importorskip("pythae")

from pythae.models import IWAE, VAE, VAMP, IWAEConfig, VAEConfig, VAMPConfig  # noqa: E402
from pythae.models.base.base_utils import ModelOutput  # noqa: E402
from pythae.models.nn import BaseDecoder, BaseEncoder  # noqa: E402


class Code(BaseEncoder):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        mean, log_variance = self.net(x)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Picture(BaseDecoder):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, z):
        return ModelOutput(reconstruction=self.net(z))


def test_a_linear_vae_agrees_with_scipy_and_with_its_own_likelihood():
    """pythae's mse is that of a Gaussian of variance 1."""
    x = data()
    config = VAEConfig(input_dim=(4,), latent_dim=2, reconstruction_loss="mse")
    model = VAE(config, Code(Encoder(1.0)), Picture(decoder())).train()
    own = model.get_nll(x, n_samples=2000, batch_size=2000)
    report = taut.audit(model, data=x, k=2000, evidence=["importance", "struski"], reported=own)
    assert_agrees(report, x, noise=1.0)
    assert "lies inside the bracket" in report.result["reported"]["words"]
    assert model.training
    # its loss is an ELBO without the constant of the Gaussian, 2 log(2 pi)
    with torch.no_grad():
        loss = torch.stack([model({"data": x}).loss for _ in range(200)]).mean().item()
    report = taut.audit(model, data=x, k=2000, reported=-loss)
    assert report.result["reported"]["words"].endswith("it is no log-likelihood, unless q misses a mode")


def test_the_loss_of_an_iwae_is_a_surrogate_above_its_bound():
    """The mean of log w under the normalised weights lies above the log of their mean by a divergence."""
    torch.manual_seed(0)
    x = (data(60) > 0).float()
    config = IWAEConfig(input_dim=(4,), latent_dim=2, number_samples=50, reconstruction_loss="bce")
    wide = Encoder()
    wide.log_variance.data += 1.5
    model = IWAE(config, Code(wide), Picture(torch.nn.Sequential(decoder(), torch.nn.Sigmoid())))
    with torch.no_grad():
        reported = torch.stack([-model({"data": x}).loss for _ in range(200)])
    error = reported.std().item() / 200**0.5
    report = taut.audit(model, data=x, k=2000, reported=reported.mean().item())
    upper = report.evidence["struski"]
    # the figures of docs/audit.md
    assert reported.mean().item() == pytest.approx(-2.057, abs=0.01)
    assert upper["value"] == pytest.approx(-2.340, abs=0.01)
    assert reported.mean().item() - upper["value"] > 4 * (error + upper["monte_carlo_error"])
    assert report.result["reported"]["words"].endswith("it is no log-likelihood, unless q misses a mode")
    bound = torch.stack([torch.tensor(model.get_nll(x, n_samples=50, batch_size=50)) for _ in range(3)])
    assert bound.mean() < report.evidence["importance"]["value"] + 0.05


def test_another_prior_or_loss_is_refused():
    config = VAMPConfig(input_dim=(4,), latent_dim=2, reconstruction_loss="bce", number_components=3)
    with pytest.raises(taut.UserError, match="pythae's VAMP has a q or a prior of its own"):
        taut.audit(VAMP(config, Code(Encoder()), Picture(decoder())), data=data())
    config = VAEConfig(input_dim=(4,), latent_dim=2, reconstruction_loss="bce")
    model = VAE(config, Code(Encoder()), Picture(torch.nn.Sequential(decoder(), torch.nn.Sigmoid())))
    with pytest.raises(taut.UserError, match=r"x holds .*, of which this likelihood has no density"):
        taut.audit(model, data=data())
