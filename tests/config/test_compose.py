"""Composition: what stands between the commands and Hydra."""

import sys
from types import SimpleNamespace

import pytest
from evaluations import ROOT

from taut.config import overrides
from taut.config.compose import Composer


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
