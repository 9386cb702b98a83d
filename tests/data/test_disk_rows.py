"""Data larger than the memory: the same rows, digests, batches and sums, read from the disk."""

import json
import os

import numpy as np
import pyarrow as pa
import pytest
import torch
from evaluations import command, evaluated, trained
from pyarrow import parquet
from torch import Tensor

from taut.data import disk_rows
from taut.data.disk_rows import DiskRows, parts
from taut.data.mask.cells import FromData, Random
from taut.data.table import Table
from taut.errors import UserError

ROWS, WIDTH = 300, 4
X = np.random.default_rng(0).normal(size=(ROWS, WIDTH)) * [1, 10, 0.1, 1] + [0, 5, 0, 100]


@pytest.fixture
def small(monkeypatch):
    """A memory that does not hold the table, but does its training split."""
    monkeypatch.setattr(disk_rows, "IN_MEMORY", X.nbytes - 1)
    monkeypatch.setattr(disk_rows, "_CHUNK", 1000)


def table(path, **options) -> Table:
    data = Table(**{"path": path, "batch_size": 32, **options})
    data.setup()
    return data


def saved(folder, kind: str, x: np.ndarray = X):
    path = folder / f"my.{kind}"
    if kind == "npy":
        np.save(path, x)
    elif kind == "parquet":
        parquet.write_table(pa.table({"abcd"[i]: x[:, i] for i in range(WIDTH)}), path, row_group_size=37)
    else:
        np.savetxt(path, x, delimiter=",", fmt="%.17g")
    return path


def batches(data: Table, epochs: int = 2) -> list[Tensor]:
    loader = data.train_dataloader()
    found = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        found += [batch.x for batch in loader]
    return found + [batch.x for batch in data.val_dataloader()] + [batch.x for batch in data.test_dataloader()]


@pytest.mark.parametrize("kind", ["npy", "parquet", "csv"])
def test_the_disk_gives_what_the_memory_gives(tmp_path, request, kind):
    path = saved(tmp_path, kind)
    whole = table(path)
    expected, digest = batches(whole), whole.digest
    request.getfixturevalue("small")
    data = table(path)
    assert isinstance(whole.stored.train, Tensor)
    assert all(isinstance(rows, DiskRows) for rows in data.stored)
    assert data.digest == digest
    assert data.x_shape == (WIDTH,)
    found = batches(data)
    assert len(found) == len(expected)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert torch.equal(data.starting_rows(), whole.training_rows())
    assert torch.equal(data.rows_of("test")[:7], whole.rows_of("test")[:7])


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint8, ">f8"])
def test_types_of_arrays(tmp_path, monkeypatch, kind):
    """Mapped in their own type, and handed out as those in memory are."""
    path = saved(tmp_path, "npy", (10 * abs(X)).clip(max=250).astype(kind))
    expected = batches(table(path))
    monkeypatch.setattr(disk_rows, "IN_MEMORY", ROWS * WIDTH - 1)
    data = table(path)
    assert isinstance(data.stored.train, DiskRows)
    found = batches(data)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, expected, strict=True))


@pytest.mark.usefixtures("small")
def test_values_are_checked_on_the_disk_too(tmp_path, monkeypatch):
    monkeypatch.setattr("taut.data.readers.array_file._CHUNK", 64)
    x = X.copy()
    x[200, 3] = np.nan
    path = saved(tmp_path, "npy", x)
    with pytest.raises(UserError, match=r"row 200, column 3 \(counted from 0\) holds nan, a missing value"):
        table(path)
    data = table(path, mask=FromData())
    assert sum(int(part.isnan().sum()) for rows in data.stored for part in parts(rows)) == 1


def test_masks_hide_what_they_hide_in_memory(tmp_path, request):
    path = saved(tmp_path, "npy")
    whole = table(path, mask=Random(0.3))
    expected = batches(whole)
    request.getfixturevalue("small")
    data = table(path, mask=Random(0.3))
    assert isinstance(data.stored.train, DiskRows)
    for one, other in zip(batches(data), expected, strict=True):
        assert torch.equal(one.isnan(), other.isnan())
        assert torch.equal(one.nan_to_num(), other.nan_to_num())
    assert torch.equal(data.complete_rows_of("val")[:], whole.complete_rows_of("val")[:])


def test_what_needs_all_rows_says_its_limit(tmp_path, monkeypatch):
    path = saved(tmp_path, "npy")
    monkeypatch.setattr(disk_rows, "IN_MEMORY", X.nbytes // 8)
    data = table(path, batch_size=None)
    with pytest.raises(UserError, match=r"needs 240 of its rows at once, .* take fewer \(data.batch_size, or limit"):
        next(iter(data.train_dataloader()))
    monkeypatch.setattr(disk_rows, "IN_MEMORY", ROWS)
    with pytest.raises(UserError, match="mask=random draws a mask for each of the 240 rows of the train split at once"):
        table(path, mask=Random(0.3)).rows_of("train")
    # what is drawn anew for all rows stays in memory, as it was
    assert isinstance(table(path, mask=Random(0.3, fresh=True)).stored.train, Tensor)
    monkeypatch.setattr(os, "sysconf", lambda name: 64)
    with pytest.raises(UserError, match=r"GiB in memory or more, and this machine has .*: only a table in \.npy"):
        table(path, mask=Random(0.3, fresh=True))


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch, small):
    path = saved(tmp_path, "parquet")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk_rows, "_write", full)
    with pytest.raises(UserError, match="is full: set TMPDIR to a folder on a larger disk"):
        table(path)


EM = ["model=mog", "model.components=2", "data=table", "data.batch_size=64", "trainer.max_epochs=4", "threads=1"]
VAE = ["model=vae", "likelihood=gaussian", "network.hidden=[8]", "latent_dim=2", "data=table", "trainer.max_epochs=2"]
QUIET = ["logger=csv", "callbacks=none", "k_eval=4", "k_test=4"]


def run(folder, *words: str) -> dict:
    return json.loads((trained(folder, *words) / "result.json").read_text())


@pytest.mark.parametrize("words", [EM, ["model=ppca", "latent_dim=1", *EM[2:]], VAE], ids=["mog", "ppca", "vae"])
def test_training_from_the_disk_ends_where_it_does_from_memory(trainings, tmp_path, request, words):
    """EM sums over batches, so that nothing tells how the rows are kept; nor does a gradient."""
    path = saved(tmp_path, "npy")
    whole = run(tmp_path / "whole", *words, *QUIET, f"data.path={path}")
    request.getfixturevalue("small")
    result = run(tmp_path / "disk", *words, *QUIET, f"data.path={path}")
    assert result["data_digest"] == whole["data_digest"]
    assert result["scores"]["log_px"]["value"] == whole["scores"]["log_px"]["value"]
    if whole["criteria"]:
        # sums over smaller parts round otherwise
        expected = pytest.approx(whole["criteria"]["log_likelihood"], rel=1e-12)
        assert result["criteria"]["log_likelihood"] == expected
    disk = tmp_path / "disk"
    for done in (evaluated(disk, "limit=20"), command("complete", f"run={disk}", "mask=random", "limit=20")):
        assert done.code == 0, done.err


def test_a_start_from_some_rows_ends_at_the_maximum_for_all(trainings, tmp_path, monkeypatch, small):
    """One Gaussian by EM: the fit is the mean and covariance of all rows, wherever it started."""
    monkeypatch.setattr(disk_rows, "STARTING", 4 * WIDTH * 8)
    path = saved(tmp_path, "npy")
    words = ["model=mog", "model.components=1", *EM[2:], "data.val_fraction=0", "data.test_fraction=0", *QUIET]
    result = run(tmp_path / "disk", *words, f"data.path={path}")
    covariance = np.cov(X.T, bias=True)
    exact = -0.5 * (WIDTH * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + WIDTH)
    assert result["scores"]["log_px"]["value"] == pytest.approx(exact, abs=1e-9)
    assert result["criteria"]["n"] == ROWS
    assert not [warning for warning in result["limits"] if "explain fewer" in warning]
