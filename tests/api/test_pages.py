"""What the pages show in Python is run."""

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from evaluations import copied

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "tests" / "stored_runs"
PAGES = ["docs/python.md", "docs/audit.md", "docs/completion.md", "README.md"]


def _with_holes():
    """The X of a reader: 20 images of 64 binary pixels, some missing in the first."""
    x = (np.random.default_rng(0).random((20, 64)) < 0.4).astype(float)
    x[0, :8] = np.nan
    return x


@pytest.mark.parametrize("page", PAGES)
def test_the_snippets_of_a_page_run_one_after_another(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    (tmp_path / "outputs" / "runs").mkdir(parents=True)
    copied(STORED / "vae", tmp_path / "outputs" / "runs").rename(tmp_path / "outputs" / "runs" / "<run>")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names: dict[str, object] = {"X": _with_holes()}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
