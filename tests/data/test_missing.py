"""Data with holes: what files hold, what masks hide, what batches hand out, and whole runs."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from evaluations import command
from pieces import build

from taut.data.base import Data, Splits
from taut.data.binarise import Scale
from taut.data.mask.base import Mask
from taut.data.mask.cells import File, FromData, Random
from taut.data.table import Table
from taut.errors import UserError
from taut.functional.missing import apply_mask

CSV = "a,b,c\n1,NA,3\n,5,6\n7,8,nan\n?,11,12\n"
HOLES = [[1, None, 3], [None, 5, 6], [7, 8, None], [None, 11, 12]]


def _table(path: Path, mask: Mask | None = None, **options) -> Table:
    data = Table(path=path, mask=mask, **{"batch_size": None, "val_fraction": 0, "test_fraction": 0, **options})
    data.setup()
    return data


def _sorted(rows: torch.Tensor) -> list:
    cells = [[None if np.isnan(cell) else cell for cell in row] for row in rows.tolist()]
    return sorted(cells, key=lambda row: row[1:] if row[0] is None else row)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal, holes included."""
    return (
        one.shape == other.shape
        and torch.equal(one.isnan(), other.isnan())
        and bool(((one == other) | one.isnan()).all())
    )


@pytest.mark.parametrize("ending", ["csv", "npy", "npz"])
def test_holes_of_a_file_are_nan_or_refused_with_the_remedy(ending, tmp_path):
    path, values = tmp_path / f"my.{ending}", np.array(HOLES, dtype=float)
    path.write_text(CSV) if ending == "csv" else (np.save if ending == "npy" else np.savez)(path, values)
    assert _sorted(_table(path, FromData()).rows_of("train")) == _sorted(torch.from_numpy(values))
    with pytest.raises(UserError, match=r"a missing value: use what is observed with mask=from_data, or fill it in\."):
        _table(path)


@pytest.mark.parametrize("cell", ["", "NA", "n/a", "nan", "NaN", "null", "None", "?", "-", ".", " NA ", '""'])
def test_every_word_for_a_missing_cell(cell, tmp_path):
    (tmp_path / "my.csv").write_text(f"a,b\n1,2\n3,{cell}\n")
    assert _table(tmp_path / "my.csv", FromData()).stored.train.isnan().sum() == 1
    (tmp_path / "first.csv").write_text(f"1,{cell}\n3,4\n")  # no header, though the first row is not all numbers
    assert _table(tmp_path / "first.csv", FromData()).stored.train.shape == (2, 2)


@pytest.mark.parametrize("cell", ["inf", "1e400", "1_000", "high", "1;2"])
def test_what_is_wrong_stays_wrong_beside_holes(cell, tmp_path):
    (tmp_path / "my.csv").write_text(f"a,b\n,2\n3,{cell}\n")
    with pytest.raises(UserError, match=r"row 3, column 'b' holds"):
        _table(tmp_path / "my.csv", FromData())


def test_infinities_of_arrays_stay_wrong_beside_holes(tmp_path):
    np.save(tmp_path / "my.npy", [[np.nan, 1.0], [np.inf, 2.0]])
    with pytest.raises(UserError, match=r"row 1, column 0 .* holds inf, infinite"):
        _table(tmp_path / "my.npy", FromData())


def test_a_column_that_training_never_sees_is_refused_by_name(tmp_path):
    (tmp_path / "my.csv").write_text("a,b\n1,\n3,NA\n")
    with pytest.raises(UserError, match="the column 'b' is observed in no training row"):
        _table(tmp_path / "my.csv", FromData()).training_rows()
    np.save(tmp_path / "mask.npy", np.array([True, False]))
    (tmp_path / "full.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(UserError, match="the column 'b' is observed in no training row"):
        _table(tmp_path / "full.csv", File(tmp_path / "mask.npy")).training_rows()
    np.save(tmp_path / "full.npy", np.ones((3, 2)))
    with pytest.raises(UserError, match=r"the column at \[1\] is observed in no training row"):
        _table(tmp_path / "full.npy", File(tmp_path / "mask.npy")).training_rows()


class Greys(Data):
    """Floats in [0, 1] or bytes, with holes of their own where there can be some."""

    name: ClassVar[str] = "greys"
    rows, kind = 2100, torch.float64

    def load(self) -> Splits:
        if self.kind == torch.uint8:
            self.scale = Scale(levels=255)
            return Splits(*((torch.arange(n * 6) % 256).to(torch.uint8).view(n, 1, 2, 3) for n in (self.rows, 30, 31)))
        x = torch.from_numpy(np.random.default_rng(0).random((self.rows + 61, 1, 2, 3)))
        x[x < 0.1] = torch.nan
        return Splits(*x.split([self.rows, 30, 31]))


class Bytes(Greys):
    kind = torch.uint8


BINARISATIONS = ["dynamic", "fixed", "threshold", "none"]


@pytest.mark.parametrize("binarisation", BINARISATIONS)
@pytest.mark.parametrize("kind", [Greys, Bytes])
def test_binarisation_keeps_holes(binarisation, kind):
    """The mask hides, the holes of the data stay, and what is shown is what it was without a mask."""
    data = kind(batch_size=64, binarisation=binarisation, mask=Random(0.3))
    bare = kind(batch_size=64, binarisation=binarisation, mask=FromData())
    for split in Splits._fields:
        stored, seen = getattr(data.stored, split), data.seen(split)
        rows, truth = data.rows_of(split), data.complete_rows_of(split)
        assert torch.equal(rows.isnan(), ~seen | stored.isnan())
        assert torch.equal(truth.isnan(), stored.isnan())
        assert _same(rows, apply_mask(truth, seen))
        assert _same(truth, bare.rows_of(split))
        if binarisation != "none":
            assert set(rows[~rows.isnan()].unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("mask", [None, Random(0.3), FromData()])
@pytest.mark.parametrize("binarisation", BINARISATIONS)
def test_batches_are_called_binary_only_where_all_are_zeros_and_ones(binarisation, mask):
    loader = Bytes(batch_size=64, binarisation=binarisation, mask=mask).train_dataloader()
    assert loader.binary == (mask is None and binarisation != "none")
    if loader.binary:
        assert set(next(iter(loader)).x.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("batch_size", [7, 512, None])
@pytest.mark.parametrize("binarisation", ["dynamic", "none"])
@pytest.mark.parametrize("fresh", [False, True])
def test_batches_hide_what_rows_of_hides(fresh, binarisation, batch_size, world, monkeypatch):
    """Whatever the order, the batch size and the number of processes."""
    data = Greys(batch_size=batch_size, binarisation=binarisation, mask=Random(0.3, fresh))
    for split in Splits._fields:
        index, x = [], []
        for rank in range(world):
            batches = getattr(data, f"{split}_dataloader")()
            batches.rank, batches.world = rank, world
            for batch in batches:
                index.append(batch.index)
                x.append(batch.x)
        order = torch.cat(index).argsort()
        assert _same(torch.cat(x)[order], data.rows_of(split))


def _epoch(data: Data, split: str, epoch: int) -> torch.Tensor:
    batches = getattr(data, f"{split}_dataloader")()
    batches.set_epoch(epoch)
    parts = list(batches)
    return torch.cat([part.x for part in parts])[torch.cat([part.index for part in parts]).argsort()]


def test_fresh_masks_change_with_the_epoch_and_the_seed_in_training_alone():
    fresh, kept = (Greys(batch_size=100, mask=Random(0.5, fresh)) for fresh in (True, False))
    other = Greys(batch_size=100, mask=Random(0.5, True), seed=1)
    again = Greys(batch_size=100, mask=Random(0.5, True))
    assert _same(_epoch(fresh, "train", 3), _epoch(again, "train", 3))
    assert _same(_epoch(fresh, "train", 0), fresh.training_rows())
    first, second = (~_epoch(fresh, "train", epoch).isnan() for epoch in (0, 1))
    known = ~fresh.stored.train.isnan()
    assert (first & second)[known].double().mean() == pytest.approx(0.25, abs=0.03)
    assert not _same(_epoch(fresh, "train", 0), _epoch(other, "train", 0))
    assert _same(_epoch(kept, "train", 0), _epoch(kept, "train", 1))
    for split in ("val", "test"):
        assert _same(_epoch(fresh, split, 0), _epoch(other, split, 5))
        assert _same(_epoch(fresh, split, 0), _epoch(kept, split, 0))
    assert not torch.equal(fresh.seen("val")[:30], fresh.seen("test")[:30])


def test_a_position_is_kept_under_fresh_masks():
    data = Greys(batch_size=300, mask=Random(0.5, True))
    batches, resumed = data.train_dataloader(), data.train_dataloader()
    batches.set_epoch(2)
    passing = iter(batches)
    next(passing), next(passing)
    resumed.load_state_dict(batches.state_dict())
    rest = [list(passing), list(resumed)]
    assert len(rest[0]) == 5
    assert all(_same(one.x, other.x) for one, other in zip(*rest, strict=True))


def test_rows_that_are_trained_on_and_scored_are_hidden_alike(tmp_path):
    """Else a score would be of cells that training saw."""
    np.save(tmp_path / "my.npy", np.random.default_rng(0).random((50, 3)))
    data = _table(tmp_path / "my.npy", Random(0.5))
    assert not data.held_out
    for split in ("val", "test"):
        assert _same(data.rows_of(split), data.rows_of("train"))
    cut = _table(tmp_path / "my.npy", Random(0.5), val_fraction=0.5)
    assert not torch.equal(cut.seen("val"), cut.seen("train"))
    assert _same(cut.rows_of("test"), cut.rows_of("train"))


def test_the_digest_is_that_of_the_file_whatever_is_hidden(tmp_path):
    np.save(tmp_path / "my.npy", np.random.default_rng(0).random((50, 3)))
    masks = (None, FromData(), Random(0.5), Random(0.2, True))
    assert len({_table(tmp_path / "my.npy", mask).digest for mask in masks}) == 1


class Leaky(Data):
    """1,000 rows of which a mask hides some; what it hides can be overwritten."""

    name: ClassVar[str] = "leaky"
    written: float | None = None

    def load(self) -> Splits:
        x = torch.from_numpy(np.random.default_rng(0).normal(size=(1000, 4)))
        if self.written is not None:
            x[~Random(0.5).draw(1000, (4,), seed=0, stream="train")] = self.written
        return Splits(x, x, x)


MODELS = {
    "vae": ["likelihood=gaussian"],
    "masked": ["likelihood=gaussian", "q=masked"],
    "vamp": ["likelihood=gaussian", "prior=vamp", "prior.components=4"],
    "ppca": ["model=ppca"],
    "fa": ["model=fa"],
    "mixture": ["model=mog", "model.components=3"],
}


@pytest.mark.parametrize("name", MODELS)
def test_what_a_mask_hides_reaches_neither_start_nor_batch(name, float64):
    """Standardisation, starting values and batches of 1,000 of 1,000 rows, bit for bit."""
    found = []
    for written in (None, 1e6, torch.nan, torch.inf):
        data = Leaky(batch_size=100, mask=Random(0.5))
        data.written = written
        torch.manual_seed(0)
        joint, q, _ = build(*MODELS[name], x_shape=(4,))
        for piece in (joint.prior, joint.likelihood, q):
            piece.initialise(data.training_rows())
        batch = next(iter(data.train_dataloader())).x
        values = [*joint.state_dict().values(), *q.state_dict().values(), batch]
        assert all(value.isfinite().all() for value in values[:-1])
        found.append(torch.cat([value.double().flatten() for value in values]).view(torch.int64))
    assert all(torch.equal(found[0], other) for other in found[1:])


RUN = ["callbacks=none", "threads=1", "trainer.enable_progress_bar=false", "logger=csv", "k_eval=4", "k_test=20"]
RUNS = {
    "vae": ["mask=from_data", "likelihood=gaussian", "network.hidden=[8]", "latent_dim=2"],
    "mixture": ["mask=from_data", "model=mog", "model.components=2"],
    "ppca": ["mask=from_data", "model=ppca", "latent_dim=1"],
    "fa": ["mask=from_data", "model=fa", "latent_dim=1"],
    "iwae": ["mask=random", "mask.fresh=true", "model=iwae", "k=5", "q=masked", "likelihood=gaussian"],
    "stepwise": ["mask=random", "model=ppca", "latent_dim=1", "objective.minibatch=true", "data.batch_size=2"],
}


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """200 rows of a plane in three units, a third of the cells missing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 3)) * [1, 10, 0.1] + [3, 100, 0]
    words = np.where(rng.random(x.shape) < 0.3, rng.choice(["", "NA", "nan", "?"], x.shape), x.astype(str))
    path = tmp_path_factory.mktemp("data") / "holes.csv"
    path.write_text("\n".join(["a,b,c", *(",".join(row) for row in words)]) + "\n")
    return path


@pytest.mark.parametrize("name", RUNS)
def test_a_run_on_a_table_with_holes_ends_with_finite_scores(trainings, name, file, tmp_path):
    words = [*RUN, "trainer.max_epochs=3", "data=table", f"data.path={file}", *RUNS[name]]
    done = command("train", f"hydra.run.dir={tmp_path / 'run'}", *words)
    assert done.code == 0, done.err
    scores = json.loads((tmp_path / "run" / "result.json").read_text())["scores"]
    assert np.isfinite([scores[key]["value"] for key in ("elbo", "log_px", "gap")]).all()
    assert scores["gap"]["value"] > -1e-5 or name in ("vae", "iwae")


def test_a_run_with_fresh_masks_goes_on_bit_for_bit(trainings, file, tmp_path):
    words = [*RUN, "data=table", f"data.path={file}", "data.batch_size=30", "network.hidden=[8]", *RUNS["iwae"]]
    weights = []
    for name, epochs in (("whole", 4), ("cut", 2)):
        done = command("train", f"hydra.run.dir={tmp_path / name}", *words, f"trainer.max_epochs={epochs}")
        assert done.code == 0, done.err
    done = command("train", f"resume={tmp_path / 'cut'}", "trainer.max_epochs=4")
    assert done.code == 0, done.err
    for name in ("whole", "cut"):
        newest = max((tmp_path / name / "checkpoints").glob("recent*.ckpt"), key=lambda path: path.stat().st_mtime)
        weights.append(torch.load(newest)["state_dict"])
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_missing_cells_without_a_mask_are_one_sentence(file, tmp_path):
    done = command("train", f"hydra.run.dir={tmp_path / 'run'}", *RUN, "data=table", f"data.path={file}")
    assert done.code == 2
    assert done.err.strip().endswith("use what is observed with mask=from_data, or fill it in.")
    assert not (tmp_path / "run").exists()
