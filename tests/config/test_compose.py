"""Composition: what stands between the commands and Hydra."""

import sys
from types import SimpleNamespace

import pytest
from evaluations import ROOT

from taut.config import overrides
from taut.config.compose import Composer
from taut.errors import RunError, UserError


@pytest.fixture
def composer(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with Composer("train", ROOT / "conf", overrides.parsed()) as composer:
        yield composer


def test_the_choices_of_a_group_are_those_that_hydra_finds_which_is_asked_for_its_sources_alone(composer, monkeypatch):
    """Hydra copies all of them each time, and ``--help`` asks 150 times."""
    loader, groups = composer.loader, ("model", "hydra", "hydra/help", "sweep", "none", "")
    expected = [(loader.hydras.get_group_options(group), loader.hydras.list_groups(group)) for group in groups]
    monkeypatch.setattr(loader, "hydras", SimpleNamespace(get_sources=loader.hydras.get_sources))
    for _ in range(2):
        assert [(loader.get_group_options(group), loader.list_groups(group)) for group in groups] == expected


@pytest.mark.parametrize("words", [["hydra.sweeper.params={k:'1,5'}"], ["hydra/sweeper=optuna"]])
def test_a_study_that_forgot_to_ask_for_a_sweep_is_refused_in_place_of_one_training(composer, words):
    with pytest.raises(UserError, match=r"nothing asks for a sweep.*; add -m, or mode: MULTIRUN under hydra:"):
        composer.composed(words)
    # as the driver of a sweep starts each of its jobs
    assert composer.composed([*words, "hydra.mode=RUN"]).k == 1


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("x cannot be read: it needs one..", "x cannot be read: it needs one."),
        ("not a list ('a').. Add -m.", "not a list ('a'). Add -m."),
        ("run=.. is no run.", "run=.. is no run."),
        ("data.path=a/.. holds nothing...", "data.path=a/.. holds nothing..."),
    ],
)
def test_a_message_has_one_stop_behind_the_words_of_a_library(message, told):
    assert str(UserError(message)) == str(RunError(message)) == told
