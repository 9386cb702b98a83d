"""Every way a file can be wrong has one outcome: a sentence with place, value and remedy, or a table."""

import os
import time
import tracemalloc
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from data.refusals import refused, table

from taut.data.readers import array_file, layout
from taut.data.table import Table

refusal = partial(refused, table)


def rows_of(data: Table) -> list:
    return sorted(data.stored.train.tolist())


ACCEPTED = {
    "plain": (b"a,b\n1,2\n3,4\n", [[1, 2], [3, 4]]),
    "no header": (b"1,2\n3,4\n", [[1, 2], [3, 4]]),
    "no newline at the end": (b"a,b\n1,2\n3,4", [[1, 2], [3, 4]]),
    "blank lines at the end": (b"a,b\n1,2\n3,4\n\n\n", [[1, 2], [3, 4]]),
    "byte order mark": (b"\xef\xbb\xbf1,2\n3,4\n", [[1, 2], [3, 4]]),
    "windows line ends": (b"a,b\r\n1,2\r\n3,4\r\n", [[1, 2], [3, 4]]),
    "quoted numbers": (b'"a","b"\n"1","2"\n3,4\n', [[1, 2], [3, 4]]),
    "spaces": (b"a, b\n 1, 2\n3 ,4\n", [[1, 2], [3, 4]]),
    "exponents": (b"a,b\n1e0,2E+0\n3.,.4e1\n", [[1, 2], [3, 4]]),
    "one row": (b"a,b\n1,2\n", [[1, 2]]),
    "one column": (b"a\n1\n2\n", [[1], [2]]),
    "constant column": (b"a,b\n1,7\n2,7\n", [[1, 7], [2, 7]]),
    "negative zero": (b"a\n-0.0\n1\n", [[0], [1]]),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_accepted_csv(tmp_path, kind):
    content, rows = ACCEPTED[kind]
    (tmp_path / "my.csv").write_bytes(content)
    assert rows_of(table(tmp_path / "my.csv")) == rows


REFUSED = {
    "empty": (b"", "is empty"),
    "blank": (b"\n\n", "is empty"),
    "header only": (b"a,b\n", "header and no rows"),
    "ragged, short": (b"a,b\n1,2\n3\n", "row 3 has 1 cells, expected 2"),
    "ragged, long": (b"a,b\n1,2\n3,4,5\n", "row 3 has 3 cells, expected 2"),
    "two separators": (b"a,b\n1,2\n3,4;5\n", "row 3, column 'b' holds '4;5', which has another separator"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "is UTF-16"),
    "UTF-16 without a mark": ("a,b\n1,2\n".encode("utf-16-le"), "row 1 holds a NUL byte"),
    "Latin-1": ("a,b\n1,2\ngrün,4\n".encode("latin-1"), "row 3 holds the byte 0xfc, which is not UTF-8"),
    "NUL": (b"a,b\n1,2\n3,\x004\n", "row 3 holds a NUL byte"),
    "text": (b"a,b\n1,2\n3,high\n", "row 3, column 'b' holds 'high', which is not a number"),
    "text without a header": (b"1,2\n3,high\n", "row 2, column 2 holds 'high', which is not a number"),
    "decimal comma": (
        b'a,b\n1,2\n"3,5",4\n',
        "row 3, column 'a' holds '3,5', with a decimal comma or a thousands",
    ),
    "decimal commas, unquoted": (b"a,b\n1,2\n3,5,4\n", "decimal commas"),
    "thousands separator": (
        b'a,b\n1,2\n"1,234.5",4\n',
        "row 3, column 'a' holds '1,234.5', with a decimal comma",
    ),
    "thousands space": (b"a,b\n1,2\n1 234,4\n", "thousands separator"),
    "underscore": (b"a,b\n1,2\n1_234,4\n", "row 3, column 'a' holds '1_234'"),
    "NA": (b"a,b\n1,2\n3,NA\n", "row 3, column 'b' holds 'NA', a missing value"),
    "empty cell": (b"a,b\n1,2\n,4\n", "row 3, column 'a' holds '', a missing value"),
    "nan": (b"a,b\n1,2\n3,nan\n", "row 3, column 'b' holds 'nan', a missing value"),
    "question mark": (b"a,b\n1,2\n3,?\n", "row 3, column 'b' holds '?', a missing value"),
    "missing in the first row": (b"1,NA\n3,4\n", "row 1, column 2 holds 'NA', a missing value"),
    "all-missing column": (b"a,b\n1,\n3,\n", "row 2, column 'b' holds '', a missing value"),
    "all-missing row": (b"a,b\n1,2\n,\n", "row 3, column 'a' holds '', a missing value"),
    "blank row": (b"a,b\n1,2\n\n3,4\n", "row 3 is blank"),
    "inf": (b"a,b\n1,2\n3,inf\n", "row 3, column 'b' holds 'inf', which is infinite"),
    "-inf": (b"a,b\n1,2\n3,-Infinity\n", "row 3, column 'b' holds '-Infinity', which is infinite"),
    "1e400": (b"a,b\n1,2\n3,1e400\n", "row 3, column 'b' holds '1e400', which is beyond 3.4e+38"),
    "1e39": (b"a,b\n1,2\n3,-1e39\n", "row 3, column 'b' holds '-1e39', which is beyond 3.4e+38"),
    "duplicate header": (b"a,b,a\n1,2,3\n", "columns 1 and 3 are both called 'a'"),
    "nameless column": (b",a\n1,2\n", "column 1 has no name"),
    "quoted newline": (b'a,b\n1,"2\n3"\n', "row 2 has a line break inside quotes"),
    "open quote": (b'a,b\n1,"2\n', "is not CSV"),
    "old line ends": (b"a,b\r1,2\r", "is not CSV"),
    "spreadsheet": (b"PK\x03\x04xlsx", "spreadsheet"),
    "gzip": (b"\x1f\x8b\x08", "gzip"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_csv(tmp_path, kind):
    content, message = REFUSED[kind]
    (tmp_path / "my.csv").write_bytes(content)
    sentence = refusal(tmp_path / "my.csv")
    assert str(tmp_path / "my.csv") in sentence
    assert message in sentence


def test_a_line_without_end_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "LONGEST", 1 << 20)
    with (tmp_path / "my.csv").open("wb") as file:
        file.write(b"1,2\n1,")
        file.seek(1 << 31)  # sparse: two gigabytes of nothing
        file.write(b"2\n")
    tracemalloc.start()
    assert "row 2 is longer than 1 MiB" in refusal(tmp_path / "my.csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_columns_are_chosen_by_name(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text("a,species,b\n1,oak,2\n3,,4\n")
    data = table(path, columns=["b", "a"])
    assert rows_of(data) == [[2, 1], [4, 3]]
    assert data.columns == ("b", "a")
    assert "'species' holds 'oak'" in refusal(path)
    assert "has no column 'c': choose data.columns from a, species, b" in refusal(path, columns=["c"])
    assert "at least one column" in refusal(path, columns=[])
    assert "at least one column" in refusal(path, columns=["a", "a"])
    path.write_text("1,2\n3,4\n")
    assert "has no header row" in refusal(path, columns=["a"])
    assert table(path).columns is None


def test_paths(tmp_path, monkeypatch):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "gone.csv")
    (tmp_path / "my.xls").write_text("1,2\n")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "needs a file" in refusal(None)
    assert "does not exist" in refusal(tmp_path / "none.csv")
    assert "is a folder" in refusal(tmp_path / "folder.csv")
    assert "is a link to" in refusal(tmp_path / "link.csv")
    assert "no regular file" in refusal(tmp_path / "pipe.csv")
    assert "'.xls' is unknown" in refusal(tmp_path / "my.xls")


def test_unreadable(tmp_path, monkeypatch):
    (tmp_path / "my.csv").write_text("1,2\n")

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "cannot be read (Permission denied)" in refusal(tmp_path / "my.csv")


@pytest.mark.parametrize(
    ("val", "test", "sizes"), [(0.1, 0.1, (80, 10, 10)), (0.25, 0, (75, 25, 75)), (0, 0, (100, 100, 100))]
)
def test_splits(tmp_path, val, test, sizes):
    np.save(tmp_path / "my.npy", np.arange(200.0).reshape(100, 2))
    data = table(tmp_path / "my.npy", val_fraction=val, test_fraction=test)
    assert tuple(map(len, data.stored)) == sizes
    parts = [set(map(tuple, split.tolist())) for split in data.stored]
    assert not (val and parts[0] & parts[1])
    assert not (test and parts[0] & parts[2])
    assert len(parts[0] | parts[1] | parts[2]) == 100
    assert table(tmp_path / "my.npy", val_fraction=val, test_fraction=test, split_seed=1).digest != data.digest


def test_too_few_rows_to_cut(tmp_path):
    (tmp_path / "my.csv").write_text("1,2\n")
    assert "has 1 rows, of which data.val_fraction=0.1 leaves none" in refusal(tmp_path / "my.csv", val_fraction=0.1)
    for val, test in [(0.5, 0.5), (-0.1, 0), (0, 1)]:
        assert "sum is below 1" in refusal(tmp_path / "my.csv", val_fraction=val, test_fraction=test)


def test_a_batch_larger_than_the_table_is_all_rows(tmp_path):
    (tmp_path / "my.csv").write_text("1\n2\n3\n")
    (batch,) = table(tmp_path / "my.csv", batch_size=100).train_dataloader()
    assert batch.total == 3


X = np.arange(6.0).reshape(3, 2)

ARRAYS = {
    "float64": X,
    "float32": X.astype(np.float32),
    "float16": X.astype(np.float16),
    "big endian": X.astype(">f8"),
    "int64": X.astype(np.int64),
    "uint8": X.astype(np.uint8),
    "fortran": np.asfortranarray(X),
    "strided": np.repeat(X, 2, axis=0)[::2],
}


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("kind", ARRAYS)
def test_accepted_arrays(tmp_path, kind, ending):
    path = tmp_path / f"my.{ending}"
    np.save(path, ARRAYS[kind]) if ending == "npy" else np.savez_compressed(path, x=ARRAYS[kind])
    path.chmod(0o444)
    assert rows_of(table(path)) == X.tolist()


def test_booleans_and_images(tmp_path):
    np.save(tmp_path / "bits.npy", X > 2)
    assert table(tmp_path / "bits.npy").stored.train.dtype == torch.uint8
    np.save(tmp_path / "images.npy", np.zeros((5, 1, 4, 3)))
    assert table(tmp_path / "images.npy").x_shape == (1, 4, 3)


def holed(value, dtype=np.float64):
    array = X.astype(dtype)
    with np.errstate(over="ignore"):
        array[1, 0] = value
    return array


BAD_ARRAYS = {
    "object": (np.array([[1, "a"], [2, None]], dtype=object), "holds Python objects"),
    "complex": (X + 1j, "values of type complex128"),
    "text": (X.astype(str), "values of type <U32"),
    "dates": (np.zeros((3, 2), "datetime64[s]"), "values of type datetime64[s]"),
    "fields": (np.zeros(3, [("a", float)]), "values of type"),
    "int64 beyond 2^53": (
        holed(2**53 + 1, np.int64),
        "row 1, column 0 (counted from 0) holds 9007199254740993",
    ),
    "uint64 beyond 2^53": (holed(2**63, np.uint64), "holds 9223372036854775808, beyond 2^53"),
    "float16 overflow": (holed(1e6, np.float16), "row 1, column 0 (counted from 0) holds inf, infinite"),
    "float32 overflow": (holed(1e39), "holds 1e+39, beyond 3.4e+38"),
    "NaN": (holed(np.nan), "row 1, column 0 (counted from 0) holds nan, a missing value"),
    "inf": (holed(-np.inf), "holds -inf, infinite"),
    "0 rows": (np.zeros((0, 2)), "shape (0, 2)"),
    "0 features": (np.zeros((3, 0)), "shape (3, 0)"),
    "scalar": (np.float64(1), "shape ()"),
    "vector": (X[0], "shape (2,)"),
    "one image": (np.zeros((3, 28, 28)), "shape (3, 28, 28)"),
    "channels last": (np.zeros((5, 28, 28, 3)), "channels before height and width"),
    "NaN in an image": (np.full((2, 1, 3, 3), np.nan), "image 0, pixel (0, 0, 0)"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_refused_arrays(tmp_path, kind):
    array, message = BAD_ARRAYS[kind]
    np.save(tmp_path / "my.npy", array)
    np.savez(tmp_path / "my.npz", array)
    for name in ("my.npy", "my.npz"):
        sentence = refusal(tmp_path / name)
        assert str(tmp_path / name) in sentence
        assert message in sentence


def test_an_array_of_an_archive_is_chosen_by_name(tmp_path):
    path = tmp_path / "my.npz"
    np.savez(path, train=X, test=X + 1)
    assert "holds 2 arrays (train, test): choose one by data.array" in refusal(path)
    assert "has no array 'val': choose data.array from train, test" in refusal(path, array="val")
    assert rows_of(table(path, array="test")) == (X + 1).tolist()


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_broken_array_files(tmp_path, ending):
    """Truncated anywhere, or no such file at all: a sentence, never a traceback."""
    path = tmp_path / f"my.{ending}"
    np.save(path, X) if ending == "npy" else np.savez_compressed(path, X)
    content = path.read_bytes()
    for broken in [content[:cut] for cut in range(0, len(content), 5)] + [b"a,b\n1,2\n", b"\x80\x04K\x01."]:
        path.write_bytes(broken)
        assert str(path) in refusal(path)


def test_a_header_that_promises_too_much_takes_no_memory(tmp_path):
    for shape in (b"(30000000000, 2)", b"(-3, 2)", b"(3, 2, 0, 5)"):
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': " + shape + b", }"
        header += b" " * (118 - len(header) - 1) + b"\n"
        content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + X.tobytes()
        (tmp_path / "my.npy").write_bytes(content)
        refusal(tmp_path / "my.npy")
        with zipfile.ZipFile(tmp_path / "my.npz", "w") as archive:
            archive.writestr("x.npy", content)
        refusal(tmp_path / "my.npz")


def test_a_bomb_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(array_file, "_BOMB", (1 << 20, 200))
    np.savez_compressed(tmp_path / "my.npz", np.zeros((1000, 1000)))
    assert "unpacks from" in refusal(tmp_path / "my.npz")


def test_members_outside_the_archive_are_only_names(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with zipfile.ZipFile(tmp_path / "my.npz", "w") as archive:
        archive.writestr("../escaped.npy", (tmp_path / "x.npy").read_bytes())
    assert rows_of(table(tmp_path / "my.npz")) == X.tolist()
    assert not (tmp_path.parent / "escaped.npy").exists()


def test_pixels_for_binarisation_lie_in_the_unit_interval(tmp_path):
    np.save(tmp_path / "my.npy", X)
    assert "cannot be binarised" in refusal(tmp_path / "my.npy", binarisation="dynamic")
    np.save(tmp_path / "my.npy", X / 5)
    assert set(table(tmp_path / "my.npy", binarisation="fixed").training_rows().flatten().tolist()) <= {
        0.0,
        1.0,
    }


def test_a_long_table_loads_in_about_a_second(tmp_path):
    line = ",".join(f"{value:.6f}" for value in np.linspace(-3, 3, 20)) + "\n"
    (tmp_path / "my.csv").write_text(line * 100_000)
    start = time.process_time()
    table(tmp_path / "my.csv")
    assert time.process_time() - start < 3
