"""The picture of the dashboard: means at one K, intervals with errors, what is missing said in words."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from taut.commands.dashboard.charts import TRUSTED_KHAT
from taut.commands.dashboard.command import main
from taut.commands.dashboard.panels import _differing
from taut.commands.dashboard.preview import preview, undrawn
from taut.commands.dashboard.records import Record, short_names
from taut.commands.dashboard.sections import SECTIONS
from taut.evidence.diagnostics import MAX_KHAT

GAPS = {("vae", 1): (0.5, 0.7), ("vae", 5): (0.6, 1.0), ("iwae", 1): (0.5, 0.5), ("iwae", 5): (2.0, 4.0)}
"""By model and K, the gap of each of two seeds."""
EVALUATED = "tables/evaluation/test"


def run_of(model: str, k: int, seed: int, gap: float) -> Record:
    name = f"{model} k={k} seed={seed} digits"
    choices = {"model": model, "prior": "normal", "q": "diagonal"}
    record = Record(name, "grid", {"k": k, "seed": seed, "choices": choices}, {"test/gap": gap, "test/log_px": -9.0})
    about = {"run": name, "k": k, **choices}
    ends = {"gap_low": gap, "gap_low_error": 0.1, "gap_high": gap + 1, "gap_high_error": 0.2}
    record.tables = {
        "tables/gap": [{**about, "gap": gap}],
        f"{EVALUATED}/bounds": [{**about, **ends, **{key.replace("gap", "log_px"): one for key, one in ends.items()}}],
        f"{EVALUATED}/gap_parts": [
            {**about, "part": part, "value": value} for part, value in (("approximation", -0.1), ("amortisation", gap))
        ],
        f"{EVALUATED}/khat": [{**about, "khat": value} for value in (0.2, 0.6, 0.9)],
    }
    record.history = [{"epoch": epoch, "val/gap": gap + epoch} for epoch in range(3)]
    return record


@pytest.fixture(scope="module")
def records():
    return [run_of(*about, seed, gap) for about, gaps in GAPS.items() for seed, gap in enumerate(gaps)]


@pytest.fixture(scope="module")
def axes(records):
    return {axes.get_label(): axes for axes in preview(records).axes}


def test_a_line_joins_the_means_over_seeds_of_one_k(axes):
    """A mean over K, or a line that mixes models."""
    lines = [line.get_xydata() for line in axes["gap against K"].lines if len(line.get_xydata()) == 2]
    means = {model: [(k, np.mean(GAPS[model, k])) for k in (1, 5)] for model in ("vae", "iwae")}
    found = [line for line in lines if not np.isnan(line).any()]
    for model in means:
        assert any(np.allclose(line, means[model]) for line in found), model


def test_every_run_is_a_point_at_its_own_k(axes):
    points = [one for one in axes["gap against K"].collections if isinstance(one, PathCollection)]
    drawn = sorted(map(tuple, np.concatenate([np.asarray(one.get_offsets()) for one in points]).tolist()))
    assert drawn == sorted((k, gap) for (_, k), gaps in GAPS.items() for gap in gaps)


def test_an_interval_goes_from_its_lower_to_its_upper_end(axes):
    bars = [(bar.get_x(), bar.get_width()) for bar in axes["the gap lies between"].patches]
    assert sorted(low for low, _ in bars) == sorted(gap for gaps in GAPS.values() for gap in gaps)
    assert [width for _, width in bars] == pytest.approx([1.0] * len(bars))


def test_parts_of_one_sign_are_stacked_and_others_lie_beyond_zero(axes):
    bars = axes["parts of the gap"].patches
    below, above = [bar for bar in bars if bar.get_width() < 0], [bar for bar in bars if bar.get_width() > 0]
    assert len(below) == len(above) == 8
    assert {bar.get_x() for bar in bars} == {0.0}


def test_trust_ends_where_the_estimators_say(axes):
    assert TRUSTED_KHAT == MAX_KHAT
    (line,) = [line for line in axes["k-hat of the data"].lines if len(line.get_xdata()) == 2]
    assert set(line.get_xdata()) == {MAX_KHAT}
    said = [text.get_text() for text in axes["k-hat of the data"].texts]
    assert said == ["33.3% above 0.7"]


def test_a_panel_that_no_run_has_logged_says_so(axes, records):
    assert [text.get_text() for text in axes["completions"].texts] == ["no run has logged this"]
    titles = undrawn(records)
    assert {"completions", "median k-hat against K"} <= set(titles)
    assert "gap against K" not in titles
    assert set(axes) == {panel.title for section in SECTIONS for panel in section.panels}


def test_a_panel_of_some_of_the_runs_says_of_how_many(records):
    """A run that was not evaluated is missing without a word, or is drawn as a zero."""
    fewer = [*records[:-2], *(Record(one.name, "grid", one.config, one.summary) for one in records[-2:])]
    axes = {axes.get_label(): axes for axes in preview(fewer).axes}
    assert axes["the gap lies between"].get_xlabel() == "nats per datum · 6 of 8 runs"
    assert len(axes["the gap lies between"].get_yticks()) == 6
    assert axes["log p(x) against K"].get_xlabel() == "K of the training bound"


def test_settings_that_divide_the_runs_alike_stand_in_the_table_once(axes):
    """The class behind model= beside model=, and what is the same in all runs."""
    settings = [
        {"seed": "0", "data.seed": "0", "k": "1", "lr": "2"},
        {"seed": "1", "data.seed": "1", "k": "1", "lr": "2"},
    ]
    assert _differing(settings) == {"seed": ["0", "1"]}
    (table,) = axes["settings that differ"].tables
    heads = [table[0, place].get_text().get_text() for place in range(7)]
    assert heads == ["k", "seed", "model", "ELBO", "log p(x)", "gap", "warnings"]


def test_runs_without_anything_are_drawn_as_well():
    assert len(preview([Record("one", config={"k": 1})]).axes) == len(preview([Record("one")]).axes)


def test_names_keep_what_tells_them_apart():
    names = ["vae k=1 seed=0 digits", "vae k=5 seed=0 digits"]
    assert short_names(names) == {names[0]: "k=1", names[1]: "k=5"}
    assert short_names(names[:1]) == {names[0]: names[0]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["preview=a.png", "records=none"], "records=none holds no record of W&B; name a folder such as outputs/wandb"),
        (["preview=a.png"], "records=outputs/wandb holds no record of W&B"),
    ],
)
def test_a_folder_without_records_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, capsys, words, said):
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert said in sentence
    assert list(Path().iterdir()) == []
