"""What adapters ask of packages that are not installed here, from objects with the same interface; the packages
themselves are met in the other files."""

from types import SimpleNamespace

import pytest
import torch
from adapters.linear import Encoder, assert_agrees, data, decoder

import taut
from taut.adapters.sites import Layout, plate_of_data


class VAE(torch.nn.Module):
    """A model by the interface of pythae's."""

    __module__ = "pythae.models.vae"

    def __init__(self, loss="mse"):
        super().__init__()
        self.net, self.decode = Encoder(1.0), decoder()
        self.model_config = SimpleNamespace(reconstruction_loss=loss)

    def encoder(self, x):
        mean, log_variance = self.net(x)
        return SimpleNamespace(embedding=mean, log_covariance=log_variance)

    def decoder(self, z):
        return {"reconstruction": self.decode(z)}


class Vamp(VAE):
    __module__ = "pythae.models.vamp"


def test_a_class_of_pythae_is_known_by_its_module():
    report = taut.audit(VAE(), data=data(), k=1000, evidence=["importance", "struski"])
    assert_agrees(report, data(), noise=1.0)
    with pytest.raises(taut.UserError, match="pythae's Vamp has a q or a prior of its own"):
        taut.audit(Vamp(), data=data())
    with pytest.raises(taut.UserError, match="reconstruction_loss='ssim' of a VAE is no likelihood; choose among bce"):
        taut.audit(VAE("ssim"), data=data())


def frame(name, dim, size):
    return SimpleNamespace(name=name, dim=dim, size=size)


def test_latent_sites_are_cut_from_z_and_densities_summed_over_all_but_the_data():
    """The axis of another plate taken for that of the data, or sites cut in another order than they were joined in."""
    layout = Layout("data", {"a": (2,), "b": (), "c": (1, 3)})
    assert (layout.size, layout.z_shape) == (6, (6,))
    rows = torch.arange(24.0).reshape(4, 6)
    sites = layout.sites(rows)
    assert torch.equal(torch.cat([sites[name].reshape(4, -1) for name in "abc"], 1), rows)
    assert {name: tuple(value.shape) for name, value in sites.items()} == {"a": (4, 2), "b": (4,), "c": (4, 1, 3)}
    log_prob = torch.randn(5, 4)
    site = {"cond_indep_stack": [frame("data", -1, 4), frame("cells", -2, 5)]}
    torch.testing.assert_close(layout.of_each_datum("a", site, log_prob), log_prob.sum(0))
    assert layout.of_each_datum("a", {"cond_indep_stack": [frame("data", -1, 4)]}, log_prob[0]).shape == (4,)
    with pytest.raises(taut.UserError, match="The site w is outside of the plate data over the data"):
        layout.of_each_datum("w", {"cond_indep_stack": []}, log_prob)


def test_the_plate_of_the_data_is_the_one_that_grows_with_them():
    one, two = (
        {"z": {"cond_indep_stack": [frame("cells", -2, 1), frame("data", -1, n)]}, "w": {"cond_indep_stack": []}}
        for n in (1, 2)
    )
    assert plate_of_data(one, two) == "data"
    with pytest.raises(taut.UserError, match="The guide has no plate over the data"):
        plate_of_data(one, one)
