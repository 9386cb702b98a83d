"""Encoders and decoders of the user's own: any module with the right shapes works, any other is one sentence."""

from pathlib import Path

import pytest
import torch
from pieces import build, config
from torch import nn
from torch.nn.functional import dropout

from taut.config.instantiate import instantiate
from taut.errors import UserError
from taut.evidence.score import score
from taut.model.building import Folded, decoder_of, encoder_of
from taut.model.draws import draw
from taut.model.joint import Joint
from taut.model.likelihood.bernoulli import Bernoulli
from taut.model.likelihood.gaussian import Gaussian
from taut.model.networks import MLPDecoder
from taut.model.prior.normal import Normal
from taut.model.q.diagonal import Diagonal
from taut.model.q.masked import Masked
from taut.testing import check_network
from taut.training.build import refuse_too_large

IMAGE = (1, 6, 6)


class Picture(nn.Module):
    """A decoder that knows one batch axis alone, for images."""

    def __init__(self, latent, shape):
        super().__init__()
        self.first = nn.Linear(latent, 8 * shape[1] * shape[2])
        self.last = nn.Conv2d(8, shape[0], 3, padding=1)
        self.size = shape[1:]

    def forward(self, z):
        (n, _) = z.shape
        return self.last(self.first(z).relu().reshape(n, 8, *self.size))


class Glance(nn.Module):
    """An encoder that knows one batch axis alone, with dropout."""

    def __init__(self, x_shape, out):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(x_shape[0], 4, 3), nn.Dropout(0.5), nn.ReLU(), nn.Flatten())
        self.last = nn.Linear(4 * (x_shape[1] - 2) * (x_shape[2] - 2), out)

    def forward(self, x):
        (_, _, _, _) = x.shape
        return self.last(self.net(x))


def _model(likelihood=Bernoulli, q=Diagonal):
    joint = Joint(Normal(2), likelihood(IMAGE, 2, Picture))
    return joint, q(joint, IMAGE, Glance)


@pytest.mark.parametrize("q", [Diagonal, Masked])
@pytest.mark.parametrize("likelihood", [Bernoulli, Gaussian])
def test_modules_with_one_batch_axis_make_a_model(likelihood, q):
    """Modules called with [k, b, d], or in float64, as z is; a Gaussian that asks an image for a fourth axis."""
    joint, posterior = _model(likelihood, q)
    x = torch.rand(5, *IMAGE).round()
    draws = draw(joint, posterior, x, 3)
    assert draws.log_w.shape == (3, 5)
    (-draws.log_w.mean()).backward()
    for module in (joint.likelihood.decoder, posterior.encoder):
        assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in module.parameters())
    posterior.eval(), joint.eval()
    z, table = draws.z.detach(), joint.likelihood(draws.z).log_prob(x)
    torch.testing.assert_close(joint.likelihood(z[1:2, 3:4]).log_prob(x[3:4])[0, 0], table[1, 3])
    holes = x.masked_fill(torch.rand(x.shape) < 0.5, torch.nan)
    assert joint.log_prob(holes, z).isfinite().all()
    posterior.double(), joint.double()
    assert posterior.parameters_of(x.double()).dtype == torch.float64


def test_a_gaussian_reads_mean_and_variance_along_the_first_axis():
    """Heads that are interleaved, or of which one is the other: channels are means first, then log-variances."""

    class Heads(nn.Module):
        def forward(self, z):
            return torch.cat([torch.full((len(z), 3, 2, 2), 5.0), torch.full((len(z), 3, 2, 2), -1.0)], 1)

    p = Gaussian((3, 2, 2), 1, lambda latent, shape: Heads(), min_variance=0.0)(torch.zeros(1, 4, 1))
    assert p.mean.shape == (1, 4, 3, 2, 2)
    assert (p.mean == 5).all()
    torch.testing.assert_close(p.variance, torch.full_like(p.variance, -1.0).exp())


def test_a_module_that_is_built_already_is_taken_as_it_is():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    assert encoder_of(net, IMAGE, 4).module is net
    assert encoder_of(net, IMAGE, 4)(torch.rand(2, 3, *IMAGE)).shape == (2, 3, 4)
    assert encoder_of(net, IMAGE, 4)(torch.rand(IMAGE)).shape == (4,)
    assert encoder_of(net, IMAGE, 4)(torch.rand(0, *IMAGE)).shape == (0, 4)


def test_a_subclass_of_our_decoder_is_asked_for_its_own_forward():
    """The fast path of Bernoulli pixels goes past forward, which a subclass may have changed."""

    class Doubled(MLPDecoder):
        def forward(self, z):
            return 2 * super().forward(z)

    def logits(kind):
        torch.manual_seed(0)
        pixels = Bernoulli((4,), 2, lambda *at: kind(*at, hidden=[3], activation="tanh"))
        return pixels(torch.ones(1, 1, 2)).bare

    torch.testing.assert_close(logits(Doubled), 2 * logits(MLPDecoder))


def test_trying_a_network_leaves_it_and_the_generators_as_they_were():
    """Statistics of made-up rows in a buffer, a lost mode, or weights that depend on whether a network was tried."""
    net = nn.Sequential(nn.Linear(2, 3), Counting(), nn.Dropout()).eval()
    net[2].train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    decoder_of(net, 2, (3,))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in net] == [False, False, True]


class Counting(nn.Module):
    """A layer with a buffer that training changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += self.training
        return x


class Always(nn.Module):
    def forward(self, x):
        return dropout(x)


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


def _encoder(*layers):
    return lambda x_shape, out: nn.Sequential(nn.Flatten(), nn.Linear(36, out), *layers)


REFUSED = {
    "shape": (
        lambda x_shape, out: nn.Linear(6, out),
        "network.encoder: from [3, 1, 6, 6] the output must have shape [3, 4], but Linear gave [3, 1, 6, 4].",
    ),
    "batch normalisation": (
        _encoder(nn.BatchNorm1d(4)),
        "network.encoder: the output of Sequential for one datum changes with the other data of its batch (BatchNorm1d "
        "does that), and a value for x may not depend on them; use nn.GroupNorm or nn.LayerNorm.",
    ),
    "batch mates": (
        _encoder(Centred()),
        "network.encoder: the output of Sequential for one datum changes with the other data of its batch, and a value "
        "for x may not depend on them; use nn.GroupNorm or nn.LayerNorm.",
    ),
    "dropout that stays": (
        _encoder(Always()),
        "network.encoder: Sequential gives the same input two outputs in evaluation mode; dropout must follow "
        "self.training, as nn.Dropout does.",
    ),
    "not a module": (
        lambda x_shape, out: torch.relu,
        "network.encoder must build a torch.nn.Module, but it built builtin_function_or_method.",
    ),
    "other arguments": (
        lambda: nn.Identity(),
        "network.encoder cannot be built from (1, 6, 6), 4: <lambda>() takes 0 positional arguments but 2 were given.",
    ),
    "does not run": (
        lambda x_shape, out: nn.Linear(5, out),
        "network.encoder cannot be called with [3, 1, 6, 6]: mat1 and mat2 shapes cannot be multiplied (18x6 and 5x4).",
    ),
    "two outputs": (
        lambda x_shape, out: nn.LSTM(6, out),
        "network.encoder cannot be called with",
    ),
}


@pytest.mark.parametrize(("make", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_encoder_is_refused_in_one_sentence(make, sentence):
    with pytest.raises(UserError) as caught:
        encoder_of(make, IMAGE, 4)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layer", [nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.Dropout()], ids=lambda one: str(one))
def test_layers_that_look_at_one_datum_are_welcome(layer):
    assert isinstance(encoder_of(_encoder(layer), IMAGE, 4), Folded)


@pytest.mark.parametrize("objective", ["stl", "dreg"])
def test_gradients_that_ask_q_twice_refuse_dropout_in_it(objective):
    """z drawn under one dropout mask and scored under another: a biased gradient, without a word."""
    joint, posterior = _model()
    _, _, recipe = build(f"objective={objective}")
    x = torch.rand(4, *IMAGE).round()
    with pytest.raises(UserError, match=rf"objective={objective} asks q twice .* dropout"):
        recipe.check(joint, posterior, 2, x)
    recipe.check(joint, posterior.eval(), 2, x)


def test_a_model_with_dropout_is_scored_without_it():
    joint, posterior = _model()
    joint.eval(), posterior.eval()
    x, index = torch.rand(4, *IMAGE).round(), torch.arange(4)
    bound = build("objective=iwae")[2].bound
    whole = score(joint, posterior, x, index, bound=bound, k=3, samples=6, seed=0, split="val").values
    alone = score(joint, posterior, x[2:3], index[2:3], bound=bound, k=3, samples=6, seed=0, split="val").values
    torch.testing.assert_close(alone["bound"][0], whole["bound"][2])


class Numbers(nn.Module):
    """What cannot be built without memory: it reads a number of a tensor."""

    def __init__(self, x_shape, out):
        super().__init__()
        self.net = nn.Linear(6, int(torch.tensor(out).item()))


def test_an_estimate_of_memory_asks_no_network_to_be_built_without_it(monkeypatch):
    cfg = config(x_shape=(6,))

    def with_numbers(node, **known):
        return instantiate(node, **known | ({"encoder": Numbers} if "encoder" in node else {}))

    monkeypatch.setattr("taut.training.build.instantiate", with_numbers)
    refuse_too_large(cfg)


@pytest.mark.parametrize("network", ["conv", "resnet"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("x_shape", [(1, 28, 28), (1, 28, 20), (3, 32, 32), (3, 7, 5)], ids=str)
def test_networks_for_images_take_every_size_and_likelihood(network, likelihood, x_shape):
    """A decoder that is asked for a fourth axis; sizes that halving loses a pixel of."""
    joint, q, _ = build(f"network={network}", f"likelihood={likelihood}", x_shape=x_shape)
    x = torch.rand(2, *x_shape).round()
    draws = draw(joint, q, x, 3)
    draws.log_w.sum().backward()
    assert joint.likelihood(draws.z).mean.shape == (3, 2, *x_shape)
    for module in (q.encoder, joint.likelihood.decoder):
        assert all(p.grad.abs().sum() > 0 for p in module.parameters())


@pytest.mark.parametrize("network", ["conv", "resnet"])
def test_networks_for_images_refuse_tables(network):
    """A Gaussian asks its decoder for twice the columns of x, which the sentence must not take for x."""
    with pytest.raises(
        UserError, match=rf"network={network} needs images \[c, h, w\], but the axes of x are 1; choose"
    ):
        build(f"network={network}", "likelihood=gaussian", x_shape=(5,))


@pytest.mark.parametrize("x_shape", [(1, 8, 8), (3, 5, 6)], ids=str)
def test_the_example_of_the_documentation_keeps_the_contract(x_shape):
    text = (Path(__file__).resolve().parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
    example: dict = {}
    exec(text.split("```python\n")[1].split("```")[0], example)
    check_network(example["Encoder"], x_shape, 20)
    check_network(example["Decoder"], 10, (2 * x_shape[0], *x_shape[1:]))
