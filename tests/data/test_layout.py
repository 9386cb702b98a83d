"""How a text file is laid out: found out where it is plain, asked where it would be a guess; Parquet and Feather."""

import bz2
import gzip
import lzma
import zipfile
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import torch
from data.refusals import refused, table
from pyarrow import feather, parquet

from taut.data.mask.cells import FromData
from taut.data.table import Table
from taut.errors import UserError

refusal = partial(refused, table)
HEADER = "say data.header=true if they are names, or data.header=false"
ROWS = [[1.5, 2.5], [3.5, 4.5]]


def written(folder, content: str | bytes, name: str = "my.csv"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path, **options) -> tuple[tuple[str, ...] | None, list[list[float]]]:
    data = Table(path=path, batch_size=None, **options)
    values = data.read().tolist()
    return data.columns, values


UNDERSTOOD = {
    "semicolons": ("1.5;2.5\n3.5;4.5\n", None),
    "semicolons under a header": ("a;b\n1.5;2.5\n3.5;4.5\n", ("a", "b")),
    "semicolons and decimal commas": ("a;b\n1,5;2,5\n3,5;4,5\n", ("a", "b")),
    "tabs": ("a\tb\n1.5\t2.5\n3.5\t4.5\n", ("a", "b")),
    "bars": ("1.5|2.5\n3.5|4.5\n", None),
    "spaces, aligned": ("    1.5  2.5\n    3.5  4.5\n", None),
    "spaces and decimal commas": ("1,5 2,5\n3,5 4,5\n", None),
    "np.savetxt with a header": ("# a b\n1.5 2.5\n3.5 4.5\n", ("a", "b")),
    "np.savetxt with a header, commas": ("# a,b\n1.5,2.5\n3.5,4.5\n", ("a", "b")),
    "a comment that is no header": ("# made by hand\n# in 2020\n1.5,2.5\n3.5,4.5\n", None),
    "a comment above a header": ("# made by hand\na,b\n1.5,2.5\n3.5,4.5\n", ("a", "b")),
    "a delimiter behind the last cell": ("a,b,\n1.5,2.5,\n3.5,4.5,\n", ("a", "b")),
    "the same without a header": ("1.5,2.5,\n3.5,4.5,\n", None),
    "quotes around some cells": ('"a",b\n"1.5",2.5\n3.5,"4.5"\n', ("a", "b")),
}


@pytest.mark.parametrize("kind", UNDERSTOOD)
def test_a_layout_is_found_out(tmp_path, kind):
    content, names = UNDERSTOOD[kind]
    assert read(written(tmp_path, content)) == (names, ROWS)


PACKED = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
PACKED["zst"] = lambda content: pa.compress(content, "zstd", asbytes=True)


@pytest.mark.parametrize("ending", PACKED)
def test_compressed_files_are_read_and_damaged_ones_refused(tmp_path, ending):
    content = PACKED[ending](b"a,b\n1.5,2.5\n3.5,4.5\n")
    assert read(written(tmp_path, content, f"my.csv.{ending}")) == (("a", "b"), ROWS)
    # by what is in it: a name may lie
    assert read(written(tmp_path, content)) == (("a", "b"), ROWS)
    for size in (len(content) - 4, len(content) // 2):
        assert "it is damaged or cut short" in refusal(written(tmp_path, content[:size], f"my.csv.{ending}"))


def decimals(rows: int) -> str:
    return "".join(f"{a:.6f},{b:.6f}\n" for a, b in np.random.default_rng(0).normal(size=(rows, 2)))


def test_a_header_of_numbers_is_asked_about(tmp_path):
    """pandas names columns 0, 1, ...: as a row such a header moved the mean without a word."""
    path = written(tmp_path, "0,1\n" + decimals(60))
    assert "row 1 holds whole numbers (0, 1), which may be names or data: " + HEADER in refusal(path)
    assert len(read(path, header=True)[1]) == 60
    assert read(path, header=True)[0] == ("0", "1")
    assert len(read(path, header=False)[1]) == 61
    assert read(written(tmp_path, "0,1\n1,0\n1,1\n"))[1] == [[0, 1], [1, 0], [1, 1]]
    assert HEADER in refusal(written(tmp_path, "0,1,2,3\n5,3,0,9\n"))
    assert HEADER in refusal(written(tmp_path, "2019,2020\n" + decimals(9)))
    assert "row 1 holds both text ('x') and numbers (2019)" in refusal(written(tmp_path, "x,2019\n" + decimals(9)))


def test_a_first_row_with_a_missing_value_is_a_row(tmp_path):
    content = "1.00,#N/A,3.00\n" + "".join(f"{i}.5,2,{i * i}.25\n" for i in range(40))
    path = written(tmp_path, content)
    assert "row 1, column 2 holds '#N/A', a missing value: use what is observed with mask=from_data" in refusal(path)
    names, values = read(path, mask=FromData())
    assert (names, len(values)) == (None, 41)
    assert np.isnan(values[0][1])
    path = written(tmp_path, content.replace("#N/A", "gone"))
    assert "(1.00), which may be names or data" in refusal(path)
    assert len(read(path, mask=FromData(), missing="gone")[1]) == 41


def test_a_column_of_labels_is_left_out_by_number(tmp_path):
    path = written(tmp_path, "".join(f"{i}.5,2.5,{'ab'[i % 2]}\n" for i in range(10)))
    assert "row 1, column 3 holds 'a', which is not a number" in refusal(path)
    assert "choose number columns by data.columns, counted from 1" in refusal(path)
    assert read(path, columns=[2, 1])[1][1] == [2.5, 1.5]
    assert len(read(path, columns=1)[1]) == 10
    assert "has no column 4: choose data.columns from 1 to 3" in refusal(path, columns=[4])
    assert "has no column 0" in refusal(path, columns=[0])


def test_one_name_is_no_list_of_letters(tmp_path):
    path = written(tmp_path, "x,y,xy\n1,2,3\n4,5,6\n")
    assert read(path, columns="xy") == (("xy",), [[3], [6]])


def test_a_number_that_is_also_a_name_is_asked_about(tmp_path):
    path = written(tmp_path, "0,1\n1.5,2.5\n")
    sentence = refusal(path, header=True, columns=[1])
    assert "has a column called '1', which is not column 1 counted from 1" in sentence
    assert read(path, header=True, columns=["1"]) == (("1",), [[2.5]])
    assert read(path, header=True, columns=[2]) == (("1",), [[2.5]])


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_an_index_without_a_name_is_not_trained_on(tmp_path, name):
    path = written(tmp_path, f"{name},a,b\n0,5.1,3.5\n1,4.9,3.0\n")
    assert "column 1 has no name" in refusal(path)
    assert "leave it out by data.columns=[2,3]" in refusal(path)
    assert read(path, columns=[2, 3]) == read(path, columns=["a", "b"]) == (("a", "b"), [[5.1, 3.5], [4.9, 3.0]])


def test_integers_that_a_float_would_round_are_refused(tmp_path):
    path = written(tmp_path, "id,b\n9007199254740992,1\n9007199254740993,2\n")
    assert "row 3, column 'id' holds '9007199254740993', beyond 2^53" in refusal(path)
    assert read(path, columns=["b"])[1] == [[1], [2]]
    assert read(written(tmp_path, "a,b\n9007199254740992,1e300\n"), columns=["a"])[1] == [[2**53]]
    parquet.write_table(pa.table({"id": [1, 2**53 + 1]}), tmp_path / "my.parquet")
    assert "row 2, column 'id' holds 9007199254740993, beyond 2^53" in refusal(tmp_path / "my.parquet")


def test_words_for_what_is_missing(tmp_path):
    path = written(tmp_path, "a,b\n1,-999\nunknown,4\n-999.0,6\n")
    assert "holds 'unknown', which is not a number" in refusal(path, mask=FromData())
    _, values = read(path, mask=FromData(), missing=["unknown", -999])
    assert np.array_equal(values, [[1, np.nan], [np.nan, 4], [np.nan, 6]], equal_nan=True)
    assert "row 2, column 'b' holds '-999', a missing value" in refusal(path, missing=["unknown", -999])


def test_cells_are_as_they_are_written(tmp_path):
    path = written(tmp_path, "# a b\n 1.50  NA\n3 4.25\n", "my.txt")
    assert list(Table(path=path, batch_size=None).cells()) == [["1.50", "NA"], ["3", "4.25"]]
    path = written(tmp_path, "a;b\n1,50;x\n3;y\n")
    assert list(Table(path=path, batch_size=None, columns="a").cells()) == [["1.50"], ["3"]]


WRONG = {
    "two decimal marks": ("a;b\n1,5;2,5\n3.5;4,5\n", {}, "row 2, column 'a' holds '1,5', with a decimal comma"),
    "another decimal mark": (
        "1,5;2,5\n" * 1200 + "3.5;4,5\n",
        {},
        "row 1201, column 1 holds '3.5', with a decimal point",
    ),
    "thousands": (
        "a;b\n1;1,234\n3;4,567\n",
        {},
        "row 2, column 'b' holds '1,234', with a decimal comma or a thousands",
    ),
    "ragged": ("a;b\n1;2\n3\n", {}, "row 3 has 1 cells, expected 2 as in row 1"),
    "more than a trailing delimiter": (
        "1.5,2.5,\n3.5,4.5,\n" * 600 + "5,6,7\n",
        {},
        "row 1201 has 3 cells, expected 2",
    ),
    "another delimiter": ("a;b\n1;2\n", {"delimiter": "comma"}, "row 2, column 'a;b' holds '1;2', which has another"),
    "no such delimiter": ("1,2\n", {"delimiter": "colon"}, "data.delimiter='colon' must be auto, one of comma, "),
    "a delimiter of numbers": ("1.2\n", {"delimiter": "."}, "or a character not used in numbers"),
    "columns of no kind": ("1,2\n", {"columns": [True]}, "data.columns=[True] must be names or numbers"),
    "no such header": ("1,2\n", {"header": 1}, "data.header=1 must be true, false or auto"),
    "missing by no word": ("1,2\n", {"missing": [["a"]]}, "data.missing=[['a']] must be a list of words or numbers"),
    "an array of a table": ("1,2\n", {"array": "x"}, "data.array=x names an array of an NPZ file"),
    "Parquet": (b"PAR1....", {}, "is a Parquet file: give it the ending .parquet"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_refused(tmp_path, kind):
    content, options, message = WRONG[kind]
    assert message in refusal(written(tmp_path, content), **options)


def test_a_path_is_a_text():
    with pytest.raises(UserError, match=r"data.path=5 must be a path; a name that is a number stands in quotes"):
        Table(path=5, batch_size=None)  # type: ignore[arg-type]


def test_options_of_text_files_are_refused_for_arrays(tmp_path):
    np.save(tmp_path / "my.npy", ROWS)
    for options in ({"columns": [1]}, {"header": False}, {"missing": [-999]}, {"delimiter": "tab"}):
        assert "are for tables, and" in refusal(tmp_path / "my.npy", **options)
    parquet.write_table(pa.table({"a": [1.5]}), tmp_path / "my.parquet")
    assert "data.header and data.delimiter are for text files" in refusal(tmp_path / "my.parquet", header=True)


@pytest.mark.parametrize("ending", ["parquet", "feather"])
def test_parquet_and_feather(tmp_path, ending):
    path = tmp_path / f"my.{ending}"
    columns = {"a": [1, 2, None], "b": [0.5, float("nan"), -999.0], "kind": ["x", "y", "z"], "c": [True, False, True]}
    write = parquet.write_table if ending == "parquet" else feather.write_feather
    write(pa.table(columns), str(path))
    assert "column 'kind' holds values of type string, not numbers: choose number columns" in refusal(path)
    assert "row 3, column 'a' holds None, a missing value" in refusal(path, columns=["a"])
    names, values = read(path, columns=["c", 2, "a"], mask=FromData(), missing=[-999])
    assert names == ("c", "b", "a")
    assert np.array_equal(values, [[1, 0.5, 1], [0, np.nan, 2], [1, np.nan, np.nan]], equal_nan=True)
    assert table(path, columns=["c"]).stored.train.dtype == torch.float64
    content = path.read_bytes()
    for broken in [content[:cut] for cut in range(0, len(content), 97)] + [b"a,b\n1,2\n"]:
        path.write_bytes(broken)
        assert str(path) in refusal(path, columns=["c"])


def test_a_parquet_file_of_several_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("taut.data.readers.arrow_file._ROWS", 4)
    values = np.arange(20.0).reshape(10, 2)
    parquet.write_table(pa.table({"a": values[:, 0], "b": values[:, 1]}), tmp_path / "my.parquet", row_group_size=3)
    assert read(tmp_path / "my.parquet")[1] == values.tolist()
    values[8, 1] = np.inf
    parquet.write_table(pa.table({"a": values[:, 0], "b": values[:, 1]}), tmp_path / "my.parquet", row_group_size=3)
    assert "row 9, column 'b' holds inf, infinite" in refusal(tmp_path / "my.parquet")


def test_blocks_of_text_meet_without_a_seam(tmp_path, monkeypatch):
    monkeypatch.setattr("taut.data.readers.csv_file._BLOCK", 50)
    path = written(tmp_path, "a,b\n" + "".join(f"{i},{i}.5\n" for i in range(100)))
    assert read(path)[1] == [[i, i + 0.5] for i in range(100)]
    path = written(tmp_path, path.read_text() + "3,high\n")
    assert "row 102, column 'b' holds 'high'" in refusal(path)


def test_npz_files_without_an_array_that_can_be_read(tmp_path):
    path = tmp_path / "my.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "holds no array, but readme.txt: save arrays by numpy.savez" in refusal(path)
    np.savez(path, x=np.array(ROWS))
    # the flag of an encrypted member, where the archive lists it and where it lies
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "array 'x' is encrypted: save it by numpy.savez" in refusal(path)
    np.savez(path, x=np.array(ROWS))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "hello")
    assert read(path)[1] == ROWS
