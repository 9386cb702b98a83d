"""Models built in Python under Lightning's own trainer, with loaders that know nothing of this package."""

from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from taut.errors import UserError
from taut.evidence.score import score
from taut.model.joint import Joint
from taut.model.likelihood.bernoulli import Bernoulli
from taut.model.likelihood.component import Component
from taut.model.networks import MLPDecoder, MLPEncoder
from taut.model.prior.categorical import Categorical
from taut.model.prior.normal import Normal
from taut.model.q.diagonal import Diagonal
from taut.model.q.exact import Exact
from taut.objective.elbo import Elbo
from taut.objective.em import Em
from taut.objective.restarts import best_of
from taut.training.models import VAE, MixtureOfGaussians

X = (torch.rand(50, 6, generator=torch.Generator().manual_seed(1)) < 0.4).float()
LABELS = torch.arange(50)
ADAM = partial(torch.optim.Adam, lr=1e-2)
NETWORK = {"hidden": (5,), "activation": "tanh"}


def _vae() -> VAE:
    joint = Joint(Normal(2), Bernoulli((6,), 2, partial(MLPDecoder, **NETWORK)))
    q = Diagonal(joint, (6,), partial(MLPEncoder, **NETWORK))
    model = VAE(joint, q, Elbo(), ADAM, None, k=1, k_eval=8, k_test=8, seed=0)
    model.initialise(X)
    return model


LOADERS = {
    "tensors": lambda x: DataLoader(x, batch_size=15),
    "a data set of tensors": lambda x: DataLoader(TensorDataset(x), batch_size=15),
    "pairs with labels": lambda x: DataLoader(TensorDataset(x, LABELS[: len(x)]), batch_size=15, shuffle=True),
    "tuples": lambda x: DataLoader(x, batch_size=15, collate_fn=lambda rows: (torch.stack(rows), "a remark")),
    "whole numbers": lambda x: DataLoader(TensorDataset(x.to(torch.uint8)), batch_size=15),
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_plain_loader_trains(name, trainer_in):
    model = _vae()
    before = {key: value.clone() for key, value in model.named_parameters()}
    trainer_in(epochs=2).fit(model, LOADERS[name](X))
    assert all(bool((before[key] != value).any()) for key, value in model.named_parameters() if "weight" in key)


@pytest.mark.parametrize("size", [7, 50])
def test_scores_of_a_plain_loader_do_not_depend_on_its_batches(size, trainer_in):
    """Each row meets the noise of its number: in validation, again in the next one, and in the test."""
    model = _vae()
    loader = DataLoader(TensorDataset(X, LABELS), batch_size=size)
    trainer = trainer_in(epochs=1)
    expected = {}
    for stage, run in (("val", trainer.validate), ("test", trainer.test)):
        settings = {"bound": model.objective.bound, "k": 1, "samples": 8, "seed": 0, "split": stage}
        expected[stage] = score(model.joint, model.q, X, LABELS, **settings).values["elbo"].mean().item()
        for _ in range(2):
            run(model, loader, verbose=False)
            assert model.summaries[stage].n == 50
            assert model.summaries[stage].scores["elbo"]["value"] == pytest.approx(expected[stage], abs=1e-6)


def test_several_starts_of_a_mixture_see_all_rows_of_a_plain_loader(trainer_in, monkeypatch):
    seen = []

    def watched(joint, rows, seeds, tolerance):
        seen.append((len(rows), len(seeds)))
        best_of(joint, rows, seeds, tolerance)

    monkeypatch.setattr("taut.training.models.best_of", watched)
    x = torch.cat([torch.randn(40, 2) + 5 * c for c in range(3)]).double()
    joint = Joint(Categorical(3), Component((2,), 3)).double()
    shell = {"optimizer": ADAM, "scheduler": None, "k": 1, "k_eval": 1, "k_test": 1, "seed": 0}
    model = MixtureOfGaussians(3, 5, joint=joint, q=Exact(joint, (2,)), objective=Em(), **shell)
    model.initialise(x)
    trainer_in(epochs=50, precision="64-true").fit(model, DataLoader(TensorDataset(x), batch_size=40))
    assert seen == [(120, 5)]
    assert model.objective.converged
    assert sorted(model.joint.likelihood.means.mean(1).round().tolist()) == [0, 5, 10]


def test_grey_pixels_of_a_plain_loader_are_refused(trainer_in):
    with pytest.raises(UserError, match=r"needs x in \{0, 1\}, but the data hold 0.5"):
        trainer_in(epochs=1).fit(_vae(), DataLoader(TensorDataset(X * 0.5), batch_size=15))


def test_a_batch_of_another_shape_is_refused_in_one_sentence(trainer_in):
    """A list of batches is to Lightning one of loaders, each of which hands out rows."""
    with pytest.raises(UserError) as caught:
        trainer_in(epochs=1).fit(_vae(), list(X.split(15)))
    assert str(caught.value) == (
        "A batch of the loader has an x of shape [6], and the model takes [b, 6]; reshape it, and give one DataLoader: "
        "a list is several loaders."
    )


def test_a_batch_without_a_tensor_is_refused_in_one_sentence(trainer_in):
    loader = DataLoader([{"x": row} for row in X], batch_size=15)
    with pytest.raises(UserError) as caught:
        trainer_in(epochs=1).fit(_vae(), loader)
    assert str(caught.value) == (
        "A batch of the loader is dict; it must be a tensor x of shape [b, ...], or a list or tuple that begins with "
        "it, as a DataLoader of TensorDataset(x, labels) gives."
    )
