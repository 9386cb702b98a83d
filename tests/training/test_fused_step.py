import pieces
import pytest
import torch
from torch import nn

from taut.training.fused_step import fused_step

B = 7
OBJECTIVES = {
    "elbo": ["objective=elbo"],
    "sampled elbo": ["objective=elbo", "objective.kl=sampled"],
    "iwae": ["objective=iwae"],
    "dreg": ["objective=dreg"],
    "iwae back through 2": ["objective=iwae", "objective.backward=2"],
    "dreg back through 3": ["objective=dreg", "objective.backward=3"],
}
TABLE = ["likelihood=gaussian"]


def built(*words: str, x_shape: tuple[int, ...] = (1, 4, 4)):
    """A model with weights that are not those it starts from, and a batch."""
    torch.manual_seed(4)
    joint, q, objective = pieces.build("model=vae", *words, x_shape=x_shape)
    x = torch.randn(B, *x_shape, dtype=torch.float64) * 3 + 5
    if "likelihood=gaussian" not in words:
        x = (x > 5).float()
    for piece in (joint.prior, joint.likelihood, q):
        piece.initialise(x)
    with torch.no_grad():
        for parameter in [*joint.parameters(), *q.parameters()]:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return joint, q, objective, x


def by_autograd(joint, q, objective, x, k, beta, seed=9):
    """Bound, surrogate and gradients of the ordinary step."""
    parameters = [*joint.parameters(), *q.parameters()]
    torch.manual_seed(seed)
    draws = objective.draw(joint, q, x, k, beta)
    surrogate = objective.surrogate(draws)
    return objective.bound(draws.log_w_detached), surrogate, torch.autograd.grad(surrogate, parameters)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    ("words", "x_shape"),
    [
        (["likelihood=bernoulli"], (1, 4, 4)),
        (["likelihood=gaussian"], (2, 4, 4)),
        (["likelihood=gaussian", "network.hidden=[6,7]"], (5,)),
        (["likelihood=bernoulli", "network.hidden=[]"], (1, 4, 4)),
    ],
)
def test_a_fused_step_is_that_of_autograd(words, x_shape, objective):
    joint, q, chosen, x = built(*words, *OBJECTIVES[objective], x_shape=x_shape)
    fused = fused_step(joint, q, chosen)
    for k, beta in ((6, 1.0), (1, 1.0), (1, 0.3), (6, 0.3)):
        bound, surrogate, gradients = by_autograd(joint, q, chosen, x, k, beta)
        torch.manual_seed(9)
        step = fused(x, k, beta)
        torch.testing.assert_close(step.bound, bound, rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(step.surrogate, surrogate.detach(), rtol=1e-6, atol=1e-5)
        agree(step.gradients, joint, q, gradients)


def agree(own, joint, q, gradients):
    """Every parameter has the gradient of autograd, up to float32 roundings (6e-8) of some hundred terms."""
    parameters = [*joint.parameters(), *q.parameters()]
    assert {id(p) for p in own} == {id(p) for p in parameters}
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert (own[parameter] - gradient).norm() <= 1e-5 * gradient.norm()


@pytest.mark.parametrize("objective", ["iwae", "elbo", "dreg"])
def test_a_log_variance_beyond_its_limits_gets_no_gradient(objective):
    joint, q, chosen, x = built("likelihood=bernoulli", f"objective={objective}")
    with torch.no_grad():
        q.encoder.net[-1].bias[3:] = torch.tensor([-70.0, 0.0, 40.0])  # of three log-variances
    _, _, gradients = by_autograd(joint, q, chosen, x, 4, 1.0)
    torch.manual_seed(9)
    step = fused_step(joint, q, chosen)(x, 4, 1.0)
    own = step.gradients[q.encoder.net[-1].bias]
    assert own[3] == own[5] == 0
    assert own[4] != 0
    torch.testing.assert_close(own, gradients[-1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "words",
    [
        ["prior=mixture"],
        ["q=full"],
        ["q=masked"],
        ["network=conv"],
        ["network.activation=relu"],
        ["objective=stl"],
        ["objective=iwae", "objective.outer=2", "k=4"],
        ["likelihood=gaussian", "likelihood.shared=true"],
        ["prior=uniform"],
    ],
)
def test_all_else_is_left_to_autograd(words):
    network = [word for word in words if word.startswith("network")]
    more = ["network.hidden=[7]"] if network == ["network.activation=relu"] else []
    joint, q, objective, _ = built(*words, *more)
    assert fused_step(joint, q, objective) is None


def test_what_somebody_listens_to_or_has_frozen_is_left_to_autograd():
    for touch in (
        lambda joint, q: joint.likelihood.decoder.register_forward_hook(lambda *_: None),
        lambda joint, q: next(q.parameters()).register_hook(lambda gradient: gradient),
        lambda joint, q: next(q.parameters()).requires_grad_(False),
        lambda joint, q: joint.double(),
    ):
        joint, q, objective, _ = built()
        assert fused_step(joint, q, objective) is not None
        touch(joint, q)
        assert fused_step(joint, q, objective) is None


def test_a_subclass_is_left_to_autograd():
    joint, q, objective, _ = built()
    q.encoder.net[1] = type("Other", (nn.Tanh,), {})()
    assert fused_step(joint, q, objective) is None


@pytest.mark.parametrize("cell", [float("nan"), 0.5, float("inf")])
def test_a_batch_with_missing_or_grey_cells_is_left_to_autograd(cell):
    joint, q, objective, x = built("likelihood=bernoulli")
    x[3, 0, 1, 1] = cell
    state = torch.get_rng_state()
    assert fused_step(joint, q, objective)(x, 2, 1.0) is None
    assert torch.equal(torch.get_rng_state(), state)  # else the ordinary step would draw other numbers


def test_improbable_images_have_a_gradient():
    """The product of 32 probabilities of 1e-9 is below every number of float32."""
    joint, q, chosen, _ = built("likelihood=bernoulli", x_shape=(1, 8, 8))
    with torch.no_grad():
        joint.likelihood.offset.fill_(-20.0)
    x = torch.ones(B, 1, 8, 8)
    bound, _, gradients = by_autograd(joint, q, chosen, x, 3, 1.0)
    torch.manual_seed(9)
    step = fused_step(joint, q, chosen)(x, 3, 1.0)
    torch.testing.assert_close(step.bound, bound, rtol=1e-6, atol=1e-5)
    agree(step.gradients, joint, q, gradients)


@pytest.fixture
def trained(trainer_in, model_of, blobs):
    """An IWAE after six steps of plain gradients."""

    def train(**settings):
        model = model_of(blobs, "model=iwae", "k=3", "optimizer=sgd")
        trainer_in(epochs=2, **settings).fit(model, datamodule=blobs)
        return model

    return train


def test_training_takes_fused_steps(trained, monkeypatch):
    fused = trained(gradient_clip_val=0.5)
    assert fused._fused is not None
    monkeypatch.setattr("taut.training.module.fused_step", lambda *_: None)
    ordinary = trained(gradient_clip_val=0.5)
    start = trained(max_steps=0)
    for one, other, before in zip(fused.parameters(), ordinary.parameters(), start.parameters(), strict=True):
        assert (one - other).norm() <= 1e-4 * (other - before).norm()


@pytest.mark.parametrize("settings", [{"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}])
def test_steps_that_are_not_the_plain_ones_are_left_to_autograd(settings, trained):
    assert trained(**settings)._fused is None
