"""Names of the field lead to what is meant, and everything they lead to exists."""

import pytest
from omegaconf import OmegaConf
from pieces import config, names

from taut.config.synonyms import CHOICES, KEYS, meant

ROWS = [(group, name, choice) for group, rows in CHOICES.items() for name, choice in rows.items()]


@pytest.mark.parametrize(("group", "name", "choice"), ROWS, ids=str)
def test_every_name_of_a_choice_leads_to_one_that_exists(group, name, choice):
    assert name not in names(group)
    assert meant(group, name.upper(), names(group)) == f"did you mean {choice}?"
    own, _, word = f"{'' if '=' in choice else f'{group}='}{choice}".partition("=")
    assert word in names(own)


@pytest.mark.parametrize(("name", "key"), KEYS.items(), ids=str)
def test_every_name_of_a_key_leads_to_one_that_exists(name, key):
    cfg = config()
    assert name not in cfg
    assert OmegaConf.select(cfg, key) is not None


def test_a_choice_that_is_not_to_be_had_is_not_named():
    assert meant("q", "normal", ["full", "flow"]) == "choose among flow, full."


def test_a_name_without_a_row_is_taken_by_its_spelling():
    assert meant("q", "diagnoal", names("q")) == "did you mean diagonal?"
