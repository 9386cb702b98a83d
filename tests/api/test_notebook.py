"""The notebook of the lecture runs from top to bottom, and says what the estimators say."""

import importlib.util
import inspect
import sys
import types
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "lecture.py"


class _App:
    """What the notebook asks of marimo: cells that hand names to one another, here in the order of the file."""

    def __init__(self) -> None:
        self.cells: list[Any] = []
        self.names: dict[str, Any] = {}

    def cell(self, function):
        self.cells.append(function)
        return function

    def run(self) -> None:
        for cell in self.cells:
            given = [self.names[name] for name in inspect.signature(cell).parameters]
            found = cell(*given) or ()
            written = inspect.getsource(cell).rstrip().rpartition("return")[2].strip(" (),\n")
            self.names |= dict(zip([name.strip() for name in written.split(",") if name], found, strict=True))


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Names that the cells hand on; marimo itself, an extra, is not needed."""
    texts: list[str] = []
    monkeypatch.setitem(sys.modules, "marimo", types.SimpleNamespace(App=_App, md=texts.append))
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    spec = importlib.util.spec_from_file_location("lecture_notebook", NOTEBOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.app.run()
    yield module.app.names, "\n".join(texts)
    pyplot.close("all")


def test_the_notebook_brackets_log_px(run, tmp_path):
    names, text = run
    elbo, below, above = names["elbo"], names["below"], names["above"]
    assert (below.kind, above.kind, names["of_mixture"].kind) == ("lower", "upper", "exact")
    noise = 4 * np.hypot(below.monte_carlo_error, above.monte_carlo_error)
    assert elbo < below.mean < above.mean + noise
    assert names["blind"].mean < below.mean
    assert np.all(np.diff(names["bounds"]) > -noise)
    assert f"between **{below.mean - elbo:.3f}** and **{above.mean - elbo:.3f}** nats" in text
    assert (tmp_path / "lecture_bounds.png").stat().st_size > 10_000
