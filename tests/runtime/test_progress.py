"""Progress of an evaluation: bars on a terminal, lines elsewhere, nothing from processes beside the first."""

import itertools
import re
from types import SimpleNamespace

import pytest

from taut.runtime import progress
from taut.runtime.progress import Stages


def _work(shown=True):
    with Stages(shown).running() as stages:
        stage = stages.stage("importance", 200)
        for share in (0.0, 0.5, 1.0):
            stage.at(share)


@pytest.mark.parametrize(("seconds", "count"), [(0.0, 2), (60.0, 0)])
def test_without_a_terminal_there_are_few_lines(seconds, count, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", seconds)
    monkeypatch.setattr(progress, "GROWTH", 0.0)
    _work()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == count
    for line, done in zip(lines, (100, 200), strict=False):
        assert re.fullmatch(rf"importance: {done}/200 rows, [\d,.]+/s, 0 s left", line)


@pytest.mark.parametrize("shown", [True, False])
def test_on_a_terminal_there_is_a_bar_of_the_first_process(shown, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    _work(shown)
    said = capsys.readouterr().out
    assert ("200/200 rows" in said) == shown
    assert "s left" not in said


def test_a_stage_of_an_hour_takes_a_screen_of_lines(monkeypatch, capsys):
    clock = itertools.count()
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    stage = Stages().stage("ais", 3600)
    for row in range(1, 3601):
        stage.at(row / 3600)
    lines = capsys.readouterr().out.splitlines()
    assert 20 <= len(lines) <= 30
    assert lines[0].startswith("ais: 6/3,600 rows, 1.0/s")
