"""VAE and IWAE without configs and files: the same numbers as a run, arrays of every kind, and refusals."""

import os
from functools import partial

import lightning as L
import numpy as np
import pandas
import pytest
import torch
from omegaconf import OmegaConf
from pieces import CONF, config, names
from sklearn.base import clone

import taut
from taut import IWAE, VAE, UserError
from taut.api.fitting import Rows
from taut.api.model import Model
from taut.api.variational import LIKELIHOODS, POSTERIORS, PRIORS
from taut.config.instantiate import instantiate
from taut.data.base import Data, Splits
from taut.model.joint import Joint
from taut.model.likelihood.categorical import Categorical
from taut.model.likelihood.gaussian import Gaussian
from taut.model.networks import MLPDecoder, MLPEncoder
from taut.model.prior.base import Prior
from taut.model.prior.mixture import Mixture
from taut.model.q.uniform import Uniform
from taut.training.build import build_model

RNG = np.random.default_rng(0)
PIXELS = (RNG.random((60, 6)) < 0.3).astype(np.uint8)
TABLE = RNG.normal(size=(60, 3)) @ RNG.normal(size=(3, 3)) * [1, 10, 0.1] + [0, 5, 1]
SMALL = {"latent_dim": 3, "hidden": (7,), "max_epochs": 2, "batch_size": 25, "device": "cpu"}


@pytest.fixture(scope="module")
def vae() -> VAE:
    return VAE(**SMALL).fit(PIXELS)


class Same(Data):
    """The rows of ``PIXELS`` as the data of a run."""

    name = "same"

    def load(self):
        x = torch.from_numpy(PIXELS).float()
        return Splits(x, x, x)


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (VAE(**SMALL), []),
        (IWAE(k=4, seed=3, prior="vamp", q="full", **SMALL), ["model=iwae", "k=4", "prior=vamp", "q=full", "seed=3"]),
        (VAE(prior="mixture", **SMALL), ["prior=mixture"]),
        (IWAE(k=4, prior="bernoulli", q="bernoulli", **SMALL), ["model=iwae", "k=4", "prior=bernoulli", "q=bernoulli"]),
        (IWAE(k=2, likelihood="poisson", **SMALL), ["model=iwae", "k=2", "likelihood=poisson"]),
        (
            VAE(layers=[3, 2], **{**SMALL, "latent_dim": 10}),
            ["layers=[3,2]", "prior=layers", "prior.sizes=[3,2]", "q=layers"],
        ),
    ],
    ids=["vae", "iwae", "mixture prior", "bits", "counts", "layers"],
)
def test_the_weights_are_those_of_a_run_with_the_same_settings(estimator, words):
    """To the bit: pieces and their defaults, first weights, order of the rows, noise and optimiser are the same."""
    cfg = config("data.binarisation=none", *words, x_shape=(6,))
    data = Same(batch_size=25, seed=cfg.seed)
    model = build_model(cfg, data)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    L.Trainer(max_epochs=2, limit_val_batches=0, enable_model_summary=False, **quiet).fit(model, datamodule=data)
    ours = estimator.fit(PIXELS).model_.module.state_dict()
    for name, value in model.state_dict().items():
        if not name.startswith(("meters", "means")):
            assert torch.equal(value, ours[name]), name


def test_the_names_are_those_of_the_command_line():
    for own, group in ((PRIORS, "prior"), (LIKELIHOODS, "likelihood"), (POSTERIORS, "q")):
        assert set(own) == set(names(group))


def _described(piece):
    """The class of a piece, its settings, and its parameters by their shapes."""
    plain = {name: value for name, value in vars(piece).items() if isinstance(value, bool | int | float | str | tuple)}
    del plain["training"]
    shapes = {name: value.shape for name, value in piece.state_dict().items()}
    return type(piece), {n: v for n, v in plain.items() if not n.startswith("_")}, shapes


@pytest.mark.parametrize("group", ["prior", "likelihood", "q"])
def test_every_word_builds_what_the_command_line_builds(group):
    """With the defaults of the files of conf/."""
    networks = {"hidden": (7,), "activation": "tanh"}
    encoder, decoder = partial(MLPEncoder, **networks), partial(MLPDecoder, **networks)
    cfg = config(x_shape=(6,))
    for name in {"prior": PRIORS, "likelihood": LIKELIHOODS, "q": POSTERIORS}[group]:
        if (group, name) in (("prior", "layers"), ("likelihood", "mixed")):  # whose sizes and families are others
            continue
        # not composed anew for each word, which takes half a second
        node = OmegaConf.load(CONF / group / f"{name}.yaml")
        cfg[group] = node.get(group, node)
        if group == "prior":
            found, expected = PRIORS[name](3, (6,)), instantiate(cfg.prior)
        elif group == "likelihood":
            levels = {"levels": OmegaConf.to_container(cfg.x_levels)} if "levels" in cfg.likelihood else {}
            found, expected = LIKELIHOODS[name]((6,), 3, decoder, **levels), instantiate(cfg.likelihood, latent=3)
        else:
            prior = PRIORS[GOES_WITH.get(name, "normal")](3, (6,))
            likelihood = LIKELIHOODS["linear" if name == "exact" else "bernoulli"]
            joint = Joint(prior, likelihood((6,), prior.layers[0], decoder))
            found, expected = POSTERIORS[name](joint, (6,), encoder=encoder), instantiate(cfg.q, joint=joint)
        assert _described(found) == _described(expected), name


GOES_WITH = {"layers": "layers", "ladder": "layers"} | {f: f for f in ("bernoulli", "categoricals", "categorical")}
"""Priors of the q that do not fit a normal one."""


def test_the_score_is_the_bound_of_a_thousand_samples(vae):
    found = vae.log_evidence(PIXELS[:9], k=1000)
    assert (found.kind, found.k, found.name) == ("lower", 1000, "importance")
    assert vae.score(PIXELS[:9]) == found.mean
    np.testing.assert_array_equal(vae.score_samples(PIXELS[:9]), found.value.numpy())
    assert found.monte_carlo_error > 0
    assert {"ess", "khat"} <= found.diagnostics.keys()
    assert repr(found).startswith("LogEvidence(importance, lower, K = 1000: -")
    assert vae.score(PIXELS) > -6 * np.log(2)  # the bound of a coin for each pixel


def test_latent_means_and_reconstructions_are_those_of_q_and_the_decoder(vae):
    x = torch.from_numpy(PIXELS[:5]).float()
    joint, q = vae.model_.module.joint, vae.model_.module.q
    with torch.no_grad():
        z = q(x).mean
        means = joint.likelihood(z.unsqueeze(0)).mean[0]
    np.testing.assert_allclose(vae.transform(PIXELS[:5]), z.numpy(), rtol=1e-12)
    np.testing.assert_allclose(vae.inverse_transform(z.numpy()), means.numpy(), atol=1e-6)
    np.testing.assert_allclose(vae.reconstruct(PIXELS[:5]), means.numpy(), atol=1e-6)


def test_a_z_in_a_box_has_a_mean_too():
    z = VAE(prior="uniform", **SMALL).fit(PIXELS).transform(PIXELS)
    assert z.shape == (60, 3)
    assert (np.abs(z) < 3).all()


def test_draws_follow_their_seed_alone(vae):
    first, again, other = vae.sample(5), vae.sample(5, seed=0), vae.sample(5, seed=1)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == (5, 6)


def test_the_kind_that_comes_in_goes_out(vae):
    frame = pandas.DataFrame(TABLE, columns=["a", "b", "c"], index=range(10, 70))
    fitted = VAE(likelihood="gaussian", **SMALL).fit(frame)
    for values, columns in (
        (fitted.transform(frame), ["z0", "z1", "z2"]),
        (fitted.reconstruct(frame), ["a", "b", "c"]),
    ):
        assert list(values.columns) == columns
        assert values.index.equals(frame.index)
    assert list(fitted.sample(60).index) == list(range(60))  # none of the rows that came in
    assert fitted.score_samples(frame).index.equals(frame.index)
    for dtype in (torch.float32, torch.float64):
        x = torch.from_numpy(PIXELS).to(dtype).requires_grad_()
        for values in (vae.transform(x), vae.reconstruct(x), vae.score_samples(x)):
            assert values.dtype == dtype
            assert not values.requires_grad
    assert vae.transform(PIXELS.astype(np.float32)).dtype == np.float32
    assert vae.transform(PIXELS.tolist()).dtype == np.float64


def test_images_keep_their_shape():
    images = RNG.random((20, 1, 4, 4)) < 0.5
    fitted = VAE(**SMALL).fit(images)
    assert fitted.sample(3).shape == (3, 1, 4, 4)
    assert fitted.reconstruct(images[:2]).shape == (2, 1, 4, 4)


def test_missing_cells_are_left_out_of_the_bound():
    seen = TABLE.copy()
    seen[::2, 1] = np.nan
    fitted = VAE(likelihood="gaussian", q="masked", **SMALL).fit(seen)
    assert np.isfinite(fitted.score(seen))
    unit = np.array([1.0, 1e6, 1.0])  # of a column that these rows lack: its unit cannot matter
    rows = seen[::2]
    assert fitted.score(rows) == fitted.score(rows * unit)


def test_parts_may_be_objects_and_are_not_changed():
    prior = Mixture(3, 4)
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    likelihood = Gaussian((3,), 3, partial(MLPDecoder, hidden=(5,), activation="relu"), shared=True)
    fitted = VAE(prior=prior, likelihood=likelihood, **SMALL).fit(TABLE)
    assert fitted.model_.module.joint.prior.means.shape == (4, 3)
    assert all(torch.equal(before[name], value) for name, value in prior.state_dict().items())
    assert clone(fitted).get_params()["batch_size"] == 25


def test_a_likelihood_may_be_what_makes_one():
    fitted = VAE(likelihood=partial(Categorical, levels=2), **SMALL).fit(PIXELS)
    assert fitted.sample(4).max() <= 1
    assert fitted.score(PIXELS) > -6 * np.log(2)


def test_the_families_of_a_mixed_table_are_those_of_its_columns():
    frame = pandas.DataFrame({"yes": PIXELS[:, 0], "real": TABLE[:, 0]})
    fitted = VAE(likelihood="mixed", **SMALL).fit(frame)
    assert fitted.model_.module.joint.likelihood.families == {"yes": "bernoulli", "real": "gaussian"}


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    VAE(**SMALL).fit(PIXELS)
    assert os.listdir(tmp_path) == []


def test_an_interrupted_fit_ends_as_python_ends_it(monkeypatch):
    """Lightning would exit, and leave a process that ignores Ctrl-C."""
    import signal

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Rows, "train_dataloader", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        VAE(**SMALL).fit(PIXELS)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_model_says_what_it_is(vae):
    assert repr(vae.model_) == "VAE(prior=normal, likelihood=bernoulli, q=diagonal, x_shape=[6], z_shape=[3])"
    assert isinstance(vae.model_, Model)
    assert vae.model_.q(PIXELS[:2]).batch_shape == (2,)


GREY = (
    "x holds 0.5, and likelihood='bernoulli' is for zeros and ones; make grey pixels in [0, 1] binary first, by "
    "x > 0.5 or by draws, rng.random(x.shape) < x, or choose likelihood='gaussian'."
)
REFUSED = {
    "grey pixels": (VAE(**SMALL), PIXELS * 0.5, GREY),
    "no samples": (VAE(k=0), PIXELS, "k=0 must be a whole number, 1 or more."),
    "an unknown prior": (VAE(prior="vampp"), PIXELS, "prior='vampp' is not known; did you mean vamp?"),
    "no rate": (VAE(lr=0), PIXELS, "lr must be above 0, got 0."),
    "a device that is none": (VAE(device="tpu"), PIXELS, "device='tpu' is not known; choose cpu, cuda or auto."),
    "text": (
        VAE(),
        ["a", "b"],
        "x cannot be read as an array of numbers (could not convert string to float: np.str_('a')); give numbers of "
        "one shape.",
    ),
    "one axis": (
        VAE(),
        [1.0, 0.0],
        "x has shape [2]; it must hold at least one row, each of at least one number: shape [n, d], or [n, ...] for "
        "images.",
    ),
    "layers and a dimension": (
        VAE(layers=[4, 2], latent_dim=5),
        PIXELS,
        "latent_dim=5 and layers=[4, 2] both say how many coordinates z has; leave one of them out.",
    ),
    "layers and a prior": (
        VAE(layers=[4, 2], prior="vamp"),
        PIXELS,
        "layers=[4, 2] is a prior of several layers, and prior='vamp' another one; leave one of them out.",
    ),
    "layers of nothing": (VAE(layers=[]), PIXELS, "layers=[] must hold the coordinates of one layer or more."),
    "a category": (
        VAE(prior="categorical", q="categorical"),
        PIXELS,
        "model=vae needs a z that is not one category, but prior=categorical and likelihood=bernoulli were given; "
        "choose prior=categoricals q=categoricals, or model=mog.",
    ),
    "counts that are none": (
        VAE(likelihood="poisson"),
        PIXELS * 0.5,
        "likelihood=poisson needs counts, whole numbers of 0 or more, but the data hold 0.5; choose "
        "likelihood=gaussian for real numbers, discretised_logistic for grey levels.",
    ),
    "no number of levels": (
        VAE(likelihood="categorical"),
        PIXELS,
        "likelihood=categorical needs the number of levels, which only images tell: for cells that hold 0, 1, ..., L - "
        "1 give likelihood=functools.partial(<its class>, levels=<L>), or levels=[<L1>,<L2>,...] for columns that "
        "differ in it.",
    ),
    "infinity": (VAE(), np.full((2, 3), np.inf), "x holds an infinite value; remove or replace it first."),
    "a prior of a q that does not look": (
        VAE(prior="vamp", q=Uniform),
        PIXELS,
        "prior=vamp is a mixture of q(z|u), but q=uniform does not look at u; choose q=diagonal or q=full.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_fitted_is_refused_in_words_of_python(name):
    estimator, x, sentence = REFUSED[name]
    with pytest.raises(UserError) as caught:
        estimator.fit(x)
    assert str(caught.value) == sentence


def test_what_cannot_be_scored_is_refused(vae):
    with pytest.raises(UserError, match=r"x has rows of shape \[5\], and the model was trained on \[6\]; reshape it."):
        vae.score(PIXELS[:, :5])
    with pytest.raises(UserError, match=r"x holds 0\.5, and likelihood='bernoulli' is for zeros and ones"):
        vae.score(PIXELS * 0.5)
    with pytest.raises(UserError, match=r"z has shape \[2, 2\]; the model decodes rows of shape \[3\]."):
        vae.inverse_transform(np.zeros((2, 2)))


def test_a_diverging_fit_names_the_argument():
    with pytest.raises(taut.RunError, match=r"lower lr\."):
        VAE(likelihood="gaussian", lr=1e30, latent_dim=2, hidden=(7,), max_epochs=4, batch_size=9).fit(TABLE)


def test_columns_of_a_data_frame_are_found_by_their_names():
    """Scored by their places, the same rows would be those of another table."""
    frame = pandas.DataFrame(TABLE, columns=["a", "b", "c"])
    vae = VAE(likelihood="gaussian", **SMALL).fit(frame)
    other = frame[["c", "a", "b"]].assign(note="text")
    assert vae.score(other) == vae.score(frame) == vae.score(TABLE)
    pandas.testing.assert_frame_equal(vae.reconstruct(other), vae.reconstruct(frame))
    assert list(vae.inverse_transform(vae.transform(other)).columns) == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"^x lacks the column b; the model was trained on a, b, c: give these"):
        vae.score(frame[["a", "c"]])


class Batched(Prior):
    """A prior that forgot that its coordinates are one z."""

    z_shape = (3,)

    def forward(self):
        return torch.distributions.Normal(torch.zeros(3), torch.ones(3))


def test_a_prior_of_other_shapes_than_it_says_is_refused_before_the_first_step():
    with pytest.raises(
        UserError, match=r"^Batched\.forward\(\) gives .* batch shape \[3\] and event shape \[\]; that of"
    ):
        VAE(prior=Batched(), **SMALL).fit(PIXELS)
