"""``layers=``, one word for several stochastic layers."""

import sys

import pytest
from evaluations import ROOT

from taut.config import overrides
from taut.config.check import check
from taut.config.compose import Composer
from taut.config.layer_words import with_layers
from taut.errors import UserError

MEANT = ["prior=layers", "prior.sizes=${layers}", "q=layers"]


@pytest.mark.parametrize(
    ("words", "added"),
    [
        (["layers=[100,50]"], MEANT),
        (["k=5", "layers=[100,50]", "q=ladder"], MEANT[:2]),
        (["layers=[100,50]", "prior=layers", "prior.hidden=[9]"], MEANT[1:]),
        (["layers=[100,50]", *MEANT], []),  # of a run that goes on
        (["layers=null"], []),
        (["layers=[100,50],[50]", "seed=1"], []),  # an axis: every job has a value of its own
        (["prior=vamp", "latent_dim=5"], []),
    ],
)
def test_the_word_stands_for_a_prior_and_a_q(words, added):
    assert with_layers(words) == [*words, *added]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["layers=[4,2]", "latent_dim=5"],
            "latent_dim=5 and layers=[4,2] both say how many coordinates z has; leave one of them out.",
        ),
        (
            ["prior.sizes=[3,2]", "layers=[4,2]"],
            "prior.sizes=[3,2] and layers=[4,2] both say how many coordinates z has; leave one of them out.",
        ),
        (
            ["layers=[4,2]", "prior=vamp"],
            "layers=[4,2] is a prior of several layers, and prior=vamp another one; leave one of them out.",
        ),
    ],
)
def test_words_that_contradict_it_are_refused(words, message):
    with pytest.raises(UserError) as refused:
        with_layers(words)
    assert str(refused.value) == message


@pytest.fixture
def composer(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with Composer("train", ROOT / "conf", overrides.parsed()) as composer:
        yield composer


def test_every_job_of_a_sweep_has_its_layers(composer):
    words = ["layers=[4,2],[3],null", "seed=0"]
    master = composer.composed([*words, "hydra.mode=MULTIRUN"])
    found = [composer.loader.load_sweep_config(master, [f"layers={sizes}"]) for sizes in ("[4,2]", "[3]", "null")]
    assert [cfg.prior.get("sizes") for cfg in found] == [[4, 2], [3], None]
    assert [cfg.q._target_.rpartition(".")[2] for cfg in found] == ["Layers", "Layers", "Diagonal"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["layers=4"], "layers must be a list of one or more integers >= 1, or null, got 4."),
        (["layers=[]"], "layers must be a list of one or more integers >= 1, or null, got []."),
        (
            ["layers=[4]", "prior=layers", "prior.sizes=[5]"],
            "layers=[4] has no say beside this prior; in a file, override /prior and /q to layers and set prior.sizes "
            "to ${layers}.",
        ),
    ],
)
def test_what_is_no_list_of_sizes_or_has_no_say_is_refused(composer, words, message):
    with pytest.raises(UserError) as refused:
        check(composer.compose(words))
    assert str(refused.value) == message
