from types import SimpleNamespace

import pieces
import pytest
import torch

from taut.training.callbacks import threads
from taut.training.callbacks.threads import Threads, operations

ROW = torch.zeros(1, 1, 4, 4)
ENCODER, DECODER = 2 * (16 * 7 + 7 * 6), 2 * (3 * 7 + 7 * 16)
"""Operations of a network with one layer of 7 features, for one row, or one z of 3 coordinates."""


class Model(torch.nn.Module):
    device = torch.device("cpu")

    def __init__(self, k: int, *words: str) -> None:
        super().__init__()
        self.k = k
        self.joint, self.q, self.objective = pieces.build("model=iwae", *words)


def model(k: int, *words: str):
    return Model(k, *words)


@pytest.mark.parametrize(
    ("k", "words", "expected"),
    [
        (1, (), 3 * (ENCODER + DECODER)),
        (50, (), 3 * (ENCODER + 50 * DECODER)),
        (50, ("objective.backward=5",), 3 * ENCODER + (50 + 3 * 5) * DECODER),
        (5, ("objective.backward=5",), 3 * (ENCODER + 5 * DECODER)),
    ],
)
def test_operations_of_a_step(k, words, expected):
    assert operations(model(k, *words), ROW, 100) == 100 * expected


def test_counting_draws_no_number_of_the_run():
    shell, before = model(2), torch.get_rng_state()
    operations(shell, ROW, 10)
    assert torch.equal(torch.get_rng_state(), before)


def test_counting_leaves_a_layer_that_is_frozen_as_it_is():
    shell = model(2)
    shell.q.eval()
    operations(shell, ROW, 10)
    assert shell.joint.training
    assert not any(module.training for module in shell.q.modules())


@pytest.fixture
def set_to(monkeypatch):
    found = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    return found


def test_scores_between_steps_have_all_threads(set_to, monkeypatch):
    monkeypatch.setattr(threads, "operations", lambda *_: 6e8)
    callback, shell = Threads(ROW, 100), model(5)
    callback.on_fit_start(None, shell)
    callback.on_validation_start(SimpleNamespace(training=False), shell)  # before the first step
    callback.on_validation_end(SimpleNamespace(training=False), shell)
    callback.on_train_start(None, shell)
    callback.on_validation_start(None, shell)
    callback.on_validation_end(SimpleNamespace(training=True), shell)
    callback.on_train_end(None, shell)
    assert set_to == [8, 3, 8, 3, 8]


def test_a_closed_form_and_a_gpu_keep_all_threads(set_to):
    for shell in (model(1, "model=mog", "model.components=2"), SimpleNamespace(device=torch.device("cuda"))):
        callback = Threads(ROW, 100)
        callback.on_fit_start(None, shell)
        assert callback.of_step == 8
