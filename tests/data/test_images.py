"""The user's own images: folders of files and arrays of bytes, or one sentence that names the file."""

import struct
import zlib
from functools import partial

import numpy as np
import pytest
import torch
from data.refusals import images, refused
from pieces import config
from PIL import Image

from taut.config.instantiate import instantiate
from taut.data.images import Images
from taut.model.joint import Joint

refusal = partial(refused, images)
RNG = np.random.default_rng(0)
GREY = RNG.integers(256, size=(12, 6, 4), dtype=np.uint8)
COLOUR = RNG.integers(256, size=(12, 6, 4, 3), dtype=np.uint8)


def folder(path, arrays, labels=("",)):
    for i, array in enumerate(arrays):
        place = path / labels[i % len(labels)]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(place / f"{i:02}.png")
    return path


def stored(data: Images) -> list[bytes]:
    return sorted(image.numpy().tobytes() for image in data.stored.train)


def channels_first(arrays: np.ndarray) -> list[bytes]:
    arrays = arrays[..., None] if arrays.ndim == 3 else arrays
    return sorted(np.ascontiguousarray(array).tobytes() for array in arrays.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("labels", [("",), ("cat", "dog")], ids=["flat", "labels"])
@pytest.mark.parametrize("arrays", [GREY, COLOUR], ids=["grey", "colour"])
def test_every_pixel_of_a_folder_is_in_its_place(tmp_path, arrays, labels):
    data = images(folder(tmp_path, arrays, labels))
    assert data.x_shape == ((1, 6, 4) if arrays.ndim == 3 else (3, 6, 4))
    assert data.stored.train.dtype == torch.uint8
    assert stored(data) == channels_first(arrays)


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("arrays", [GREY, GREY[..., None], COLOUR], ids=["n h w", "n h w 1", "n h w 3"])
def test_arrays_of_bytes(tmp_path, arrays, ending):
    path = tmp_path / f"my.{ending}"
    np.save(path, arrays) if ending == "npy" else np.savez_compressed(path, train=arrays, labels=np.arange(12))
    assert stored(images(path, array="train" if ending == "npz" else None)) == channels_first(arrays)


def test_bits_are_black_and_white(tmp_path):
    np.save(tmp_path / "bits.npy", GREY > 99)
    assert stored(images(tmp_path / "bits.npy")) == channels_first(np.where(GREY > 99, 255, 0).astype(np.uint8))
    bits = folder(tmp_path / "bits", GREY > 99)
    assert stored(images(bits)) == stored(images(tmp_path / "bits.npy"))


def test_a_folder_is_its_array(tmp_path):
    """Digest, splits and binarisation do not depend on how the pixels are kept."""
    np.save(tmp_path / "my.npy", GREY)
    options = {"val_fraction": 0.25, "test_fraction": 0.25, "binarisation": "dynamic"}
    data, same = images(folder(tmp_path / "files", GREY), **options), images(tmp_path / "my.npy", **options)
    assert tuple(map(len, data.stored)) == (6, 3, 3)
    assert data.digest == same.digest
    assert torch.equal(data.rows_of("test"), same.rows_of("test"))
    assert set(data.training_rows().flatten().tolist()) == {0.0, 1.0}
    grey = images(tmp_path / "my.npy")
    assert torch.equal(grey.splits.train, grey.stored.train / 255)


def test_resizing_averages_over_areas(tmp_path):
    np.save(tmp_path / "my.npy", GREY)
    small = images(tmp_path / "my.npy", size=[3, 2])
    assert small.x_shape == (1, 3, 2)
    means = GREY.reshape(12, 3, 2, 2, 2).mean((2, 4))
    found = np.array(sorted(small.stored.train[:, 0].tolist()))
    assert abs(found - np.array(sorted(np.floor(means + 0.5).tolist()))).max() <= 1
    mixed = folder(tmp_path / "files", [GREY[0], np.kron(GREY[1], np.ones((2, 2), np.uint8))])
    assert "data.size=[height,width]" in refusal(mixed)
    assert images(mixed, size=[6, 4]).stored.train.shape == (2, 1, 6, 4)


def test_a_photograph_stands_as_it_was_taken(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # held by a quarter turn
    Image.fromarray(GREY[0]).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert images(tmp_path).x_shape == (1, 4, 6)


def bomb() -> bytes:
    """A PNG that says it has 50,000 x 50,000 pixels."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def test_files_that_cannot_be_read_are_named(tmp_path):
    good = folder(tmp_path / "good", GREY[:2])
    whole = (good / "01.png").read_bytes()
    assert "01.png cannot be read as PNG or JPEG" in _with(tmp_path / "a", whole, whole[: len(whole) // 2])
    assert "01.png cannot be read as PNG or JPEG" in _with(tmp_path / "b", whole, b"GIF89a")
    assert "01.png cannot be read as PNG or JPEG" in _with(tmp_path / "c", whole, bomb())
    (good / "labels.csv").write_text("cat,dog\n")
    assert "labels.csv is no PNG or JPEG file: move it out" in refusal(good)
    (good / "labels.csv").rename(good / ".labels.csv")
    assert len(images(good).stored.train) == 2
    (good / "x" / "y").mkdir(parents=True)
    assert "y is a folder in a sub-folder" in refusal(good)
    (tmp_path / "empty").mkdir()
    assert "holds no PNG or JPEG file" in refusal(tmp_path / "empty")
    assert "does not exist" in refusal(tmp_path / "none")
    assert "data=images needs images" in refusal(None)
    assert "is no folder" in refusal(tmp_path / "good" / "00.png")


def _with(path, whole: bytes, other: bytes) -> str:
    path.mkdir()
    (path / "00.png").write_bytes(whole)
    (path / "01.png").write_bytes(other)
    return refusal(path)


def test_kinds_of_pixels_that_cannot_be_used(tmp_path):
    both = folder(tmp_path / "both", [GREY[0], COLOUR[0]])
    assert "01.png is 6 x 4 pixels and in colour, but 00.png is 6 x 4 pixels and grey" in refusal(both)
    alpha = np.dstack([COLOUR[0], np.full((6, 4), 255, np.uint8)])
    assert stored(images(folder(tmp_path / "opaque", [alpha]))) == channels_first(COLOUR[:1])
    alpha[0, 0, 3] = 254
    assert "has transparent pixels" in refusal(folder(tmp_path / "clear", [alpha]))
    deep = folder(tmp_path / "deep", [GREY[0].astype(np.uint16) * 257])
    assert "00.png has pixels of the kind I;16: save it grey or in colour, with 8 bits" in refusal(deep)


ARRAYS = {
    "floats": (GREY / 255, "of type float64 and shape (12, 6, 4): save images as bytes"),
    "channels first": (COLOUR.transpose(0, 3, 1, 2), "channels last; transpose it"),
    "rows": (GREY.reshape(12, 24), "expected images [n, h, w], or [n, h, w, c]"),
    "none": (GREY[:0], "shape (0, 6, 4)"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_refused_arrays(tmp_path, kind):
    array, message = ARRAYS[kind]
    np.save(tmp_path / "my.npy", array)
    assert message in refusal(tmp_path / "my.npy")


@pytest.mark.parametrize("size", [28, [28], [28, 0], "28", [2.5, 3], [True, 3]])
def test_sizes_that_are_none(tmp_path, size):
    assert "must be height and width in pixels" in refusal(tmp_path, size=size)


def test_settings_that_do_not_fit(tmp_path):
    assert "sum is below 1" in refusal(tmp_path, val_fraction=0.5, test_fraction=0.5)
    np.save(tmp_path / "my.npy", GREY)
    sentence = refusal(tmp_path / "my.npy", val_fraction=0.01)
    assert "has 12 images, of which data.val_fraction=0.01 leaves none" in sentence
    assert "is a folder" in refusal(tmp_path, array="x")


@pytest.mark.parametrize(("likelihood", "binarisation"), [("bernoulli", "dynamic"), ("gaussian", "none")])
@pytest.mark.parametrize("arrays", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_likelihood_takes_them(tmp_path, arrays, likelihood, binarisation):
    np.save(tmp_path / "my.npy", arrays)
    cfg = config("data=images", f"likelihood={likelihood}", f"data.binarisation={binarisation}")
    data = instantiate(cfg.data, path=tmp_path / "my.npy", val_fraction=0.25, test_fraction=0.25, mask=None)
    cfg.x_shape = list(data.x_shape)
    prior = instantiate(cfg.prior)
    joint = Joint(prior, instantiate(cfg.likelihood, latent=prior.z_shape[0]))
    rows = data.training_rows()
    joint.likelihood.check(rows)
    joint.likelihood.initialise(rows)
    z = torch.zeros(1, len(rows), *prior.z_shape)
    assert joint.log_prob(rows, z).isfinite().all()
