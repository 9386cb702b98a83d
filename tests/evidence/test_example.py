"""The example and the page are run: what they print and bind is what they say."""

import importlib.util
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "own_model.py"
PAGE = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
NUMBER = r"(-?\d+\.\d+)"


def _loaded():
    spec = importlib.util.spec_from_file_location("own_model", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _numbers(pattern, text):
    (found,) = re.findall(pattern.replace("#", NUMBER), text)
    return [float(number) for number in ([found] if isinstance(found, str) else found)]


def _means(text):
    """Means by estimator and kind, real data before simulated ones."""
    rows = re.findall(rf"^  (\w+) +(lower|upper) +{NUMBER}", text, re.MULTILINE)
    return [(name, kind, float(mean)) for name, kind, mean in rows]


def test_the_example_prints_an_interval_that_adds_up(capsys):
    _loaded().main(epochs=2, images=6, k=64, steps=4)
    text = capsys.readouterr().out
    low, high = _numbers("the gap is between # and # nats", text)
    (elbo,) = _numbers("ELBO #;", text)
    real, simulated = _means(text)[:4], _means(text)[4:]
    assert [row[:2] for row in real] == [
        ("naive", "lower"),
        ("importance", "lower"),
        ("ais", "lower"),
        ("struski", "upper"),
    ]
    assert [row[0] for row in simulated] == ["importance", "ais", "u_k", "bdmc"]
    assert 0 < low <= high < 10
    assert low == pytest.approx(max(mean for _, kind, mean in real if kind == "lower") - elbo, abs=0.0021)  # digits
    assert high == pytest.approx(real[3][2] - elbo, abs=0.0021)
    (certified,) = _numbers("log p\\(x\\) >= #", text)
    assert real[1][2] - certified == pytest.approx(-math.log(0.05) / 6, abs=0.0021)
    (amortisation,), (approximation,) = _numbers("loses # nats", text), _numbers("about # nats", text)
    assert amortisation + approximation == pytest.approx(real[1][2] - elbo, abs=0.0031)


def test_estimating_loads_no_framework(programs):
    """In a process of its own: the tests around it have loaded everything."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "import taut.evidence, taut.evidence.gap, taut.evidence.optimal_q, own_model; "
        "print([name for name in ('lightning', 'pytorch_lightning', 'hydra', 'wandb') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(EXAMPLE.parent)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_code_of_the_page_finds_what_a_formula_knows(capsys):
    """log p(x) by scipy; the approximation gap of a mean-field q is half of sum log P_ii - log det P."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    assert "settled: 20 of 20" in capsys.readouterr().out
    weight = names["weight"].numpy()
    truth = stats.multivariate_normal(np.zeros(3), weight @ weight.T + 0.25 * np.eye(3)).logpdf(names["x"].numpy())
    assert names["exact"].value.numpy() == pytest.approx(truth, abs=1e-4)
    for one in (*names["below"], names["above"][0]):
        assert abs(one.mean - truth.mean()) < 4 * one.monte_carlo_error
    importance, struski = names["below"][0], names["above"][0]
    assert (struski.value >= importance.value - 1e-9).all()  # as the page says, on the same samples
    assert torch.equal(importance.curve[0], names["parts"].elbo)
    precision = np.eye(2) + weight.T @ weight / 0.25
    gap = (np.log(precision.diagonal()).sum() - np.linalg.slogdet(precision)[1]) / 2
    parts = names["parts"]
    error = parts.best_variance.sum().sqrt().item() / len(truth)
    assert parts.approximation(names["exact"].value).mean().item() == pytest.approx(gap, abs=4 * error + 0.01)


def test_every_estimator_and_every_diagnostic_is_on_the_page():
    import taut.evidence as evidence

    described = [name for name in evidence.__all__ if isinstance(getattr(evidence, name), type)]
    described = [n for n in described if issubclass(getattr(evidence, n), evidence.Evidence) and n != "Evidence"]
    assert [name for name in described if f"\n| `{name}` |" not in PAGE] == []
    for name in ("ess", "max_weight", "khat", "bias", "extrapolated", "acceptance", "correction"):
        assert f"\n| `{name}` |" in PAGE
