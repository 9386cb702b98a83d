"""Flows against zuko's own, their Jacobian, their base and quadrature."""

import sys

import pytest
import torch
from pieces import build

from taut.distributions.gaussian import Gaussian
from taut.errors import UserError
from taut.model.flow import BINS, Couplings

pytestmark = pytest.mark.usefixtures("float64")


def _bent(dim: int, context: int = 3, transforms: int = 2) -> Couplings:
    """Couplings that are far from the identity."""
    couplings = Couplings(dim, context, transforms, [5])
    with torch.no_grad():
        for network in couplings.networks:
            for parameter in network[-1].parameters():
                parameter.mul_(200)
    return couplings


def test_a_flow_is_that_of_zuko():
    from zuko.distributions import DiagNormal
    from zuko.flows import Flow as Zuko
    from zuko.flows.coupling import GeneralCouplingTransform
    from zuko.lazy import UnconditionalDistribution
    from zuko.transforms import MonotonicRQSTransform

    couplings, h, u = _bent(3), torch.randn(4, 3), 2 * torch.randn(6, 4, 3)
    layers = []
    for number, network in enumerate(couplings.networks):
        mask = torch.arange(3) % 2 != number % 2
        settings = {"univariate": MonotonicRQSTransform, "shapes": [(BINS,), (BINS,), (BINS - 1,)]}
        layer = GeneralCouplingTransform(3, 3, mask, hidden_features=(5,), activation=torch.nn.Tanh, **settings)
        layer.hyper.load_state_dict(network.state_dict())
        layers.append(layer)
    base = UnconditionalDistribution(DiagNormal, torch.zeros(3), torch.ones(3), buffer=True)
    n, ladj = couplings(u, h)
    ours = Gaussian.of(torch.zeros(3), torch.ones(3)).log_prob(n) + ladj
    torch.testing.assert_close(ours, Zuko(layers, base)(h).log_prob(u))


def test_both_directions_undo_each_other_and_the_jacobian_is_that_of_autograd():
    couplings, h, u = _bent(3), torch.randn(3), torch.randn(3)
    n, ladj = couplings(u, h)
    torch.testing.assert_close(couplings.inverse(n, h), u)
    jacobian = torch.autograd.functional.jacobian(lambda u: couplings(u, h)[0], u)
    torch.testing.assert_close(ladj, jacobian.slogdet().logabsdet)
    assert (n - u).abs().max() > 0.1


def test_a_bent_flow_in_the_plane_integrates_to_one():
    prior = build("prior=flow", "prior.transforms=2", "latent_dim=2")[0].prior
    prior.couplings = _bent(2, 1)
    side = torch.linspace(-7, 7, 281)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        mass = prior().log_prob(grid).exp().sum() * (side[1] - side[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-3)


def test_an_identity_flow_is_its_base():
    """The Gaussian of ``q=diagonal``: the same draws of the same noise, and the same density."""
    _, flow, _ = build("q=flow", "latent_dim=2")
    for network in flow.couplings.networks:
        torch.nn.init.zeros_(network[-1].weight)
        torch.nn.init.zeros_(network[-1].bias)
    q = flow(torch.rand(3, 1, 4, 4))
    base = Gaussian.of(q.loc, q.scale)
    torch.manual_seed(0)
    z = q.rsample((5,))
    torch.manual_seed(0)
    torch.testing.assert_close(z, base.rsample((5,)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(q.log_prob(z), base.log_prob(z), rtol=1e-12, atol=1e-12)


def test_a_flow_without_zuko_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko.transforms", None)
    with pytest.raises(UserError, match=r"A flow needs the package zuko: pip install .*\[flow\]'"):
        build("prior=flow")
