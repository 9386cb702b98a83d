"""What ``complete.py`` refuses, and training with holes: one sentence, exit code 2, nothing written."""

import re

import numpy as np
import pytest
from evaluations import TINY, VAE, command, contents, trained

TABLE = [*TINY, "logger=csv", "data=table", "model=mog", "model.components=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run of digits, a run of a table, and files that are wrong in many ways."""
    folder = tmp_path_factory.mktemp("refusals")
    rows = np.random.default_rng(0).normal(size=(60, 2)).round(3).tolist()
    texts = {
        "good.csv": "a,b\n" + "".join(f"{a},{b}\n" for a, b in rows),
        "more.csv": "a,b,c\n" + "".join(f"{a},{b},1\n" for a, b in rows),
        "fewer.csv": "a\n" + "".join(f"{a}\n" for a, _ in rows),
        "text.csv": "a,b\n1,red\n",
        "empty_column.csv": "a,b\n" + "".join(f"{a},\n" for a, _ in rows),
        "holes.csv": "a,b\n" + "".join(f"{a},{b}\n" for a, b in rows) + "1,\n,2\n",
        "infinite.csv": "a,b\n1,inf\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "there.csv").write_text("mine")
    np.save(folder / "numbers.npy", np.ones((1, 8, 8)))
    np.save(folder / "nan.npy", np.full((1, 8, 8), np.nan))
    np.save(folder / "small.npy", np.ones((3, 3), dtype=bool))
    trained(folder / "vae", *VAE)
    trained(folder / "mog", *TABLE, f"data.path={folder / 'good.csv'}")
    return folder


REFUSED = {
    "run=none mask=top_half": "is not the folder of a run",
    "mask=top_half": r"complete\.py needs the folder of a run",
    "run=vae mask=random mask.rate=0": r"mask\.rate must be a number between 0 and 1.*, got 0",
    "run=vae mask=random mask.rate=1": r"mask\.rate must be .*, got 1",
    "run=vae mask=random mask.rate=2": r"mask\.rate must be .*, got 2",
    "run=vae mask=random mask.rate=-1": r"mask\.rate must be .*, got -1",
    "run=vae mask=square mask.side=0": r"mask\.side must be .*, got 0",
    "run=vae mask=quadrants mask.quarters=[middle]": r"mask\.quarters must be .*, got \['middle'\]",
    "run=vae mask=file": "mask=file needs a file",
    "run=vae mask=file mask.path=small.npy": r"has shape \[3, 3\], but one datum \[1, 8, 8\]",
    "run=vae mask=file mask.path=numbers.npy": "holds float64; a mask is one array of booleans",
    "run=vae mask=file mask.path=nan.npy": "holds float64 with NaN; a mask is one array of booleans",
    "run=vae mask=file mask.path=good.csv": "cannot be read as an NPY file",
    "run=vae mask=file mask.path=nothing.npy": "cannot be read as an NPY file",
    "run=vae mask=top": "mask",
    "run=vae mask=[top_half,left_half]": "names several; choose one of them",
    "run=mog mask=top_half": r"mask=top_half hides a part of an image \[c, h, w\], but x has shape \[2\]",
    "run=mog data=digits": "data=digits cannot be completed by this run, which was trained on table",
    "run=vae data=table data.path=holes.csv": r"shape \[2\], but the run was trained on digits of shape \[1, 8, 8\]",
    "run=mog data=table data.path=more.csv": "has a column 'c' that was not there at training",
    "run=mog data=table data.path=fewer.csv": "has no column 'b'",
    "run=mog data=table data.path=text.csv": "row 2, column 'b' holds 'red'",
    "run=mog data=table data.path=infinite.csv": "which is infinite",
    "run=mog data=table data.path=missing.csv": "does not exist",
    "run=mog data=table": "data=table needs a file",
    "run=mog data=table data.path=holes.csv out=there.csv": r"there\.csv exists; choose another file, or add",
    "run=mog data=table data.path=holes.csv out=a.txt": r"the kind of file '\.txt' is unknown",
    "run=mog data=table data.path=holes.csv out=no/a.csv": "is not a directory",
    "run=mog fill=median": "fill must be mean, most_probable or draws",
    "run=mog draws=0": r"draws must be .*, got 0",
    "run=mog k=0": r"k must be .*, got 0",
    "run=mog limit=some": "limit must be an integer >= 1, null or auto, got",
    "run=mog refine=true": "refine=true improves an amortised q",
    "run=mog evidence=ais": "evidence=ais moves z along gradients",
    "experiment=lecture lecture.pixels=17": r"lecture\.pixels must be 1 to 16, .* got 17\.",
    "experiment=lecture limit=5": r"experiment=lecture .* has no limit; leave it out, or set lecture\.images",
    "experiment=lecture lecture.images=1000": r"lecture\.images must be 1 to 360, the number of test images, got 1000",
}


@pytest.mark.parametrize("words", REFUSED)
def test_it_is_refused_in_one_sentence_and_nothing_is_left(words, place, monkeypatch):
    monkeypatch.chdir(place)
    before = contents(place)
    done = (
        command("complete", *words.split(), "threads=1")
        if "lecture" not in words
        else command("complete", *words.split(), "hydra.run.dir=lecture")
    )
    assert done.code == 2, done.out + done.err
    assert re.search(REFUSED[words], done.err), done.err
    assert len(done.err.strip().splitlines()) <= 8
    assert "Traceback" not in done.err
    assert contents(place) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.path=holes.csv"], "a missing value: use what is observed with mask=from_data, or fill it in"),
        (["data.path=empty_column.csv", "mask=from_data"], "the column 'b' is observed in no training row"),
        (["data.path=good.csv", "mask=bottom_half"], "hides a part of an image"),
    ],
)
def test_training_with_holes_is_refused_where_nothing_can_be_learned(words, said, place, monkeypatch):
    monkeypatch.chdir(place)
    before = contents(place)
    done = command("train", *TABLE, *words, "hydra.run.dir=refused")
    assert done.code == 2, done.out + done.err
    assert said in done.err
    assert contents(place) == before


def test_an_existing_file_is_replaced_when_asked(place, monkeypatch):
    monkeypatch.chdir(place)
    (place / "old.csv").write_text("mine")
    words = ["run=mog", "data=table", "data.path=holes.csv", "out=old.csv", "overwrite=true", "threads=1"]
    assert command("complete", *words).code == 0
    assert len((place / "old.csv").read_text().splitlines()) == 63
