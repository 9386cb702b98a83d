"""``taut cards``: what it shows, refuses, reads and records; and every card that takes less than a minute, anew."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluations import command
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pieces import CONF
from scipy import integrate, stats

from taut.__main__ import main
from taut.commands.cards import command as cards_command
from taut.commands.cards.card import Card, Golden, Outcome, Outcomes, Score, cards, moved, verdict
from taut.commands.cards.compute import computed, outcome_of
from taut.commands.cards.show import BEGIN, END, page
from taut.functional import bounds
from taut.model.likelihood.component import Component

ROOT = Path(__file__).resolve().parents[2]
QUICK = [card for card in cards().values() if card.quick]
SHORT = [card for card in cards().values() if card.golden.words]
CARD = Card(
    "one",
    "Nobody (1900)",
    "row 1",
    "-2.50",
    "nats",
    0.1,
    "two decimals",
    ("train k=1",),
    Score("scores.log_px", error="monte_carlo_error"),
    0.5,
    Golden(1e-3),
)
OUTCOME = Outcome(-2.4, 0.0, 0, "ab", {"torch": "2.13.0"}, "a laptop", "2026-01-01")


def in_process(words):
    """Run a command as a user would, in this process."""
    done = command(*words)
    assert done.code == 0, done.err


# --- what a verdict says


@pytest.mark.parametrize(
    ("value", "error", "words", "agrees"),
    [
        (-2.45, 0.0, "within error", True),
        (-2.39, 0.0, "above by 0.11", False),
        (-2.61, 0.0, "below by 0.11", False),
        (-2.39, 0.01, "within error", True),  # 4 errors of ours count as well
        (-2.30, 0.01, "above by 0.2", False),
    ],
)
def test_a_number_agrees_within_the_tolerance_and_four_errors(value, error, words, agrees):
    said = verdict(CARD, replace(OUTCOME, value=value, error=error))
    assert (said.words, said.agrees) == (words, agrees)


def test_a_sign_agrees_beyond_four_errors_alone():
    card = replace(CARD, compare="sign", digits="0.8")
    outcomes = [replace(OUTCOME, value=value, error=0.1) for value in (0.5, 0.3, -0.5)]
    assert [verdict(card, outcome).agrees for outcome in outcomes] == [True, False, False]


def test_a_card_without_an_outcome_says_what_it_wants():
    assert verdict(CARD, None).words == "not run here"
    assert verdict(replace(CARD, wants="a GPU"), None).words == "not run here (wants a GPU)"
    assert verdict(CARD, None).agrees is None


def test_a_golden_value_is_held_fast():
    assert moved(CARD, OUTCOME, -2.4009) is None
    assert moved(CARD, None, 5.0) is None
    sentence = moved(CARD, OUTCOME, -2.4011)
    assert sentence
    assert "one: -2.4011 where -2.4 was recorded on 2026-01-01 with torch 2.13.0" in sentence


# --- the facts


def test_every_card_has_its_experiment_and_every_key_of_its_score():
    assert len(cards()) >= 12
    for card in cards().values():
        name = card.commands[0].partition("experiment=")[2].partition(" ")[0]
        assert (CONF / "experiment" / f"{name}.yaml").is_file(), card.name
        assert card.tolerance > 0
        assert card.golden.tolerance > 0


def test_the_bounds_of_the_gaussian_pair_are_those_of_a_quadrature():
    """E log S = int_0^inf (exp(-t) - E exp(-t S)) / t dt for any S > 0; of a mean of K weights the last is a power."""
    z = np.linspace(-16.0, 16.0, 8001)
    q, p = stats.norm(0, 1.3).pdf(z), stats.norm(0.3, 1).pdf(z)

    def bound(k):
        def integrand(u):
            t = np.exp(u)
            return np.exp(-t) - integrate.trapezoid(q * np.exp(-t * p / q / k), z) ** k

        grid = np.linspace(-40, 40, 4001)
        return integrate.trapezoid([integrand(u) for u in grid], grid)

    for k in (1, 2, 5, 10):
        assert cards()[f"gaussian_pair_k{k}"].published == pytest.approx(bound(k), abs=6e-7)


def test_the_page_of_the_documentation_is_that_of_the_outcomes():
    """``taut cards to=docs/cards.md`` writes it anew."""
    text = (ROOT / "docs" / "cards.md").read_text(encoding="utf-8")
    written = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert written == page(list(cards().values()), Outcomes.recorded())


def test_every_outcome_is_of_a_card_that_there_is():
    outcomes = Outcomes.recorded()
    assert outcomes.whole.keys() | outcomes.short.keys() <= cards().keys()
    assert {card.name for card in QUICK} <= outcomes.whole.keys()
    assert {card.name for card in SHORT} <= outcomes.short.keys()


# --- the command


def test_the_table_names_every_card(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["cards"]) == 0
    shown = capsys.readouterr().out
    for card in cards().values():
        assert card.name in shown
        assert card.digits in shown


def test_a_card_is_shown_with_its_command(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["cards", "radiata_pine_density"]) == 0
    shown = capsys.readouterr().out
    for word in ("Friel & Pettitt (2008)", "-310.1280", "taut audit experiment=radiata_pine_density", "SHA-256"):
        assert word in shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("radiata_pine", "There is no card radiata_pine; did you mean radiata_pine_density?"),
        ("recompute=yes", "recompute must be true or short, got yes"),
        ("run=here", "run= is held against one card; name it"),
        ("gaussian_pair_k1 run=here recompute=true", "leave one of them out"),
        ("record=true", "record= and machine= go with run= or recompute="),
        ("recompute=true machine=mine", "machine= says where a run was made"),
        ("to=a.md recompute=true", "to= writes the page of all cards"),
        ("to=", "to= is empty"),
        ("rerun=true", "There is no word rerun= of taut cards; did you mean run"),
        ("gaussian_pair_k1 recompute=short", "gaussian_pair_k1 is short as it is"),
        ("gaussian_pair_k1 run=nowhere", "run=nowhere has no audit.json"),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, capsys):
    assert main(["cards", *words.split()]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_an_installed_taut_records_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cards_command, "conf", lambda: tmp_path / "conf")
    assert main(["cards", "recompute=true", "record=true"]) == 2
    assert "leave it out of an installed taut" in capsys.readouterr().err


def _run_folder(tmp_path, value):
    """What ``audit.py`` leaves, as far as a card reads it."""
    curve = {"k": [1, 5], "value": [0.0, value], "standard_error": [0.0, 1e-4]}
    audit = {"seed": 3, "data_digest": "cd", "versions": {"torch": "9.9"}, "curve": {"importance": curve}}
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    return tmp_path


def test_a_run_of_the_users_own_is_held_against_its_card(tmp_path, capsys):
    card = cards()["gaussian_pair_k5"]
    golden = Outcomes.recorded().whole[card.name].value
    run = _run_folder(tmp_path, golden)
    outcome = outcome_of(card, run, machine="a big one")
    assert (outcome.value, outcome.error, outcome.seed, outcome.digest) == (golden, 1e-4, 3, "cd")
    assert outcome.machine == "a big one"
    assert main(["cards", card.name, f"run={run}", "machine=there"]) == 0
    assert "published -0.015081: within error" in capsys.readouterr().out
    _run_folder(tmp_path, golden + 0.1)
    assert main(["cards", card.name, f"run={run}", "machine=there"]) == 1
    assert "above by 0.1" in capsys.readouterr().out


def test_settings_that_are_not_those_of_the_card_are_kept(tmp_path):
    """However they were typed; where a run was made and what it kept are none."""
    card = replace(CARD, commands=("train experiment=ppca_wine",))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = ["model=ppca", "data=scikit_learn", "data.table=wine", "latent_dim=2", "k_eval=10", "k_test=10"]
        cfg = compose("train", [*words, "logger=csv", "threads=1", "strategy=ddp_cpu"])
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(cfg, tmp_path / ".hydra" / "config.yaml")
    scores = {"log_px": {"value": -2.5, "monte_carlo_error": 0.01}}
    result = {"seed": 1, "data_digest": "ef", "versions": {}, "scores": scores}
    (tmp_path / "result.json").write_text(json.dumps(result))
    outcome = outcome_of(card, tmp_path, machine="here")
    assert outcome.words == ("latent_dim=2",)
    assert (outcome.value, outcome.error) == (-2.5, 0.01)


def test_what_is_recorded_is_read_again(tmp_path, monkeypatch, capsys):
    path = tmp_path / "outcomes.json"
    Outcomes({"one": OUTCOME}, {}).write(path)
    again = Outcomes.recorded(path)
    assert again.whole == {"one": OUTCOME}
    later = replace(OUTCOME, value=1.0, words=("k=2",))
    again.with_further({"two": later}, {"one": later}).write(path)
    assert Outcomes.recorded(path) == Outcomes({"one": OUTCOME, "two": later}, {"one": later})


def test_commands_that_cards_share_run_once(tmp_path):
    started = []

    def start(words):
        started.append(words)
        folder = next(word for word in words if word.startswith("hydra.run.dir=")).partition("=")[2]
        Path(folder).mkdir()
        _run_folder(Path(folder), -0.01)

    pair = [replace(cards()[f"gaussian_pair_k{k}"]) for k in (1, 5)]
    found = dict((card.name, outcome.value) for card, outcome in computed(pair, start=start))
    assert found == {"gaussian_pair_k1": 0.0, "gaussian_pair_k5": -0.01}
    assert [words[:2] for words in started] == [["audit", "experiment=gaussian_pair"]]


# --- the numbers


@cache
def _quick():
    """Outcomes of all cards of less than a minute, by name."""
    return {card.name: outcome for card, outcome in computed(QUICK, start=in_process)}


@pytest.mark.parametrize("card", QUICK, ids=lambda card: card.name)
def test_a_quick_card_is_within_error_and_at_its_golden_value(trainings, card):
    outcome, recorded = _quick()[card.name], Outcomes.recorded().whole[card.name]
    assert verdict(card, outcome).agrees, outcome
    assert moved(card, recorded, outcome.value) is None
    assert outcome.digest == recorded.digest


@pytest.mark.parametrize("commands", sorted({card.commands for card in SHORT}), ids=lambda commands: commands[0])
def test_long_cards_are_at_their_golden_values_after_a_short_version(trainings, commands):
    recorded = Outcomes.recorded().short
    of_them = [card for card in SHORT if card.commands == commands]
    found = computed(of_them, short=True, start=in_process)
    assert [moved(card, recorded[card.name], outcome.value) for card, outcome in found] == [None] * len(of_them)


def _with_small_variances(self, statistics, maximise=Component.maximise):
    """An M-step whose variances are a tenth too small."""
    maximise(self, {**statistics, "second": 0.9 * statistics["second"]})


def _without_log_k(log_w, curve=bounds.block_curve):
    """L_K and log K."""
    sizes = torch.tensor(bounds.block_sizes(len(log_w)), dtype=log_w.dtype).log()
    return curve(log_w) + sizes[:, None]


@pytest.mark.parametrize(
    ("name", "place", "bug", "said"),
    [
        (
            "mclust_faithful_vvv2",
            "taut.model.likelihood.component.Component.maximise",
            _with_small_variances,
            "below by",
        ),
        ("gaussian_pair_k10", "taut.functional.bounds.block_curve", _without_log_k, "above by 2.3"),
    ],
)
def test_a_seeded_bug_turns_a_card_red(trainings, monkeypatch, name, place, bug, said):
    monkeypatch.setattr(place, bug)
    monkeypatch.setattr("taut.testing.published.PAIR_ROWS", 50)
    ((card, outcome),) = computed([cards()[name]], start=in_process)
    assert verdict(card, outcome).agrees is False
    assert verdict(card, outcome).words.startswith(said)
    assert moved(card, Outcomes.recorded().whole[name], outcome.value)
