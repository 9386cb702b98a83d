"""``taut gradients``: a table, a file and a picture beside a run, or one sentence."""

import json
from types import SimpleNamespace

import pytest
import torch
from evaluations import VAE, trained
from pieces import build

from taut.commands.gradients import _checked, _fitting, main
from taut.config import pieces
from taut.errors import UserError


@pytest.fixture(autouse=True)
def _untrusting(monkeypatch):
    monkeypatch.setenv(pieces.VARIABLE, "")


def test_a_run_gets_a_table_a_file_and_a_picture(trainings, tmp_path, capsys):
    run = trained(tmp_path / "run", *VAE)
    capsys.readouterr()
    assert main([f"run={run}", "k=[2,8]", "objective=[iwae,dreg]", "draws=40", "limit=8"]) == 0
    told = capsys.readouterr().out
    result = json.loads((run / "gradients" / "result.json").read_text())
    assert set(result["objectives"]) == {"iwae", "dreg"}
    of_q = result["objectives"]["dreg"]["q"]
    assert len(of_q["snr"]) == len(of_q["error"]) == 2
    # the model's gradient is the same under both, on the same noise; the decoder is in single precision
    by_model = [result["objectives"][name]["model"]["snr"] for name in ("iwae", "dreg")]
    assert by_model[0] == pytest.approx(by_model[1], rel=1e-3)
    for words in ("gradients of 8 rows", f"{of_q['snr'][0]:.3g}", "slope"):
        assert words in told
    assert (run / "gradients" / "figures" / "signal_to_noise.png").stat().st_size > 10_000
    assert main([f"run={run}", "k=[2,9]", "objective=piwae"]) == 2
    assert "so k must be a multiple of 8" in capsys.readouterr().err
    assert json.loads((run / "gradients" / "result.json").read_text()) == result


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["k=4"], "run= is missing"),
        (["run=x", "draw=4"], "There is no key draw of taut gradients; did you mean draws?"),
        (["/"], "/ is not of the form key=value; type run=/."),
        (["run=x", "k=[1,0]"], "k must be an integer >= 1, got '0'."),
        (["run=x", "draws=10"], "draws must be an integer >= 40, got '10'."),
        (["run=x", "limit="], "limit needs a value"),
    ],
)
def test_a_wrong_word_is_refused(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "fitting"),
    [
        (["q=diagonal"], ["iwae", "dreg"]),
        (["q=mixture"], ["iwae"]),
        (["q=mixture", "q.components=1"], ["iwae", "dreg"]),
        (["prior=bernoulli", "q=bernoulli"], ["iwae"]),
    ],
)
def test_only_objectives_that_fit_q_are_taken_unasked(words, fitting):
    _, q, _ = build(*words, "latent_dim=2")
    assert _fitting(SimpleNamespace(q=q), torch.rand(2, 1, 4, 4)) == fitting


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        (["objective=iwae"], [1, 4, 16, 64]),
        (["objective=iwae", "prior=bernoulli", "q=bernoulli"], [4, 16, 64]),
        (["objective=piwae"], [16, 64]),
    ],
    ids=str,
)
def test_unasked_only_numbers_of_samples_that_the_objectives_take_are_taken(words, taken):
    joint, q, objective = build(*words)
    model, x = SimpleNamespace(joint=joint, q=q), torch.rand(2, 1, 4, 4).round()
    assert _checked([objective], model, x, None) == taken
    for k in {1, 4, 16, 64} - set(taken):
        with pytest.raises(UserError, match=f"k={k}"):
            _checked([objective], model, x, [k, 64])


def test_an_objective_that_takes_no_number_of_samples_says_why():
    joint, q, objective = build("objective=vimco")
    with pytest.raises(UserError, match="is for draws that cannot be reparameterised"):
        _checked([objective], SimpleNamespace(joint=joint, q=q), torch.rand(2, 1, 4, 4), None)
