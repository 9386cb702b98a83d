"""The benchmark runs, and its candidates compute the same number."""

import pytest
import torch

from benchmarks import evaluate, imputation, train
from taut.evidence import Target
from taut.memory import keep_freed_pages


def test_every_candidate_estimates_the_same(capsys):
    assert set(evaluate.main(images=1, k=60, rounds=1)) == {"plain", "tuned", "taut"}
    assert "x tuned" in capsys.readouterr().out
    joint, q = evaluate.model()
    for parameter in [*joint.parameters(), *q.parameters()]:
        parameter.mul_(0.2)  # weights of little variance
    x = (torch.rand(1, evaluate.PIXELS) < 0.2).float()
    values = [candidate(joint, q, x, 4000).item() for candidate in evaluate.CANDIDATES.values()]
    assert max(values) - min(values) < 0.5


def test_the_tuned_weights_are_the_weights():
    joint, q = evaluate.model()
    x = (torch.rand(1, evaluate.PIXELS) < 0.2).float()
    normal = q(x).base_dist
    torch.manual_seed(0)
    found = evaluate.tuned_weights(joint, x, normal.loc, normal.scale, 5)
    torch.manual_seed(0)
    z = (normal.loc + normal.scale * torch.randn(5, evaluate.LATENT)).unsqueeze(1)
    expected = Target.of(joint, q).log_joint(x, z) - q(x).log_prob(z)
    assert found.tolist() == pytest.approx(expected[:, 0].tolist(), abs=2e-3)


def test_imputation_is_scored_against_the_truth(monkeypatch, capsys):
    """The mean of a column scores its variance, 1; the fitted Gaussian stays under the published 0.30."""
    known = {name: imputation.METHODS[name] for name in ("mean of the column", "Imputer()")}
    monkeypatch.setattr(imputation, "METHODS", known)
    scores = imputation.main(seeds=1)
    assert scores["mean of the column"][0] == pytest.approx(1, abs=0.1)
    assert scores["Imputer()"][0] < 0.30
    assert "Imputer()" in capsys.readouterr().out


def test_a_training_step_is_timed_through_the_command(monkeypatch, capsys):
    monkeypatch.setattr(train, "VARIANTS", {"taut": ["network.hidden=[8]", "threads=1"]})
    seconds = train.main(k=2, rounds=1, images=400)
    assert set(seconds) == {"floor", "plain", "taut"}
    assert all(one > 0 for times in seconds.values() for one in times)
    assert "x floor" in capsys.readouterr().out
    flops = sum(2 * h.numel() * len(w) * (2 + needs) for h, w, _, needs in train.products(50))
    assert flops == pytest.approx(6.303e9, rel=1e-3), "of the published architecture at K = 50"


def test_another_c_library_is_left_alone(monkeypatch):
    """No mallopt on macOS or musl: nothing happens, and nothing is raised."""
    keep_freed_pages()
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    keep_freed_pages()
