"""Progress of an evaluation: bars on a terminal, lines elsewhere, nothing from processes beside the first."""

import re

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
    _work()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == count
    for line, done in zip(lines, (100, 200), strict=False):
        assert re.fullmatch(rf"importance: {done}/200 images, [\d,.]+/s, 0 s left", line)


@pytest.mark.parametrize("shown", [True, False])
def test_on_a_terminal_there_is_a_bar_of_the_first_process(shown, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    _work(shown)
    said = capsys.readouterr().out
    assert ("200/200 images" in said) == shown
    assert "s left" not in said
