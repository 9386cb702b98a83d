"""Published archives of other formats, from made files of theirs: what is read, in which order, and what is refused."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from scipy.io import savemat

from taut.data import cifar10, emnist, kmnist, svhn
from taut.data.readers import idx
from taut.data.readers.fetch import Remote
from taut.errors import UserError
from taut.testing import check_data


def _md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def _bytes(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Six files of four rows, each a label and three planes of 32 x 32; the pixels, and the data set."""
    rows = _bytes(24, 3073)
    path = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        # the order in an archive is anyone's
        for i, part in reversed(list(enumerate(cifar10._PARTS))):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{part}.bin")
            content = rows[4 * i : 4 * i + 4].tobytes()
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    read = partial(cifar10._read, rows=4, md5=_md5(path))
    monkeypatch.setattr(cifar10, "_ARCHIVE", Remote("cifar10", path.name, ("https://nowhere",), read))
    return rows[:, 1:].reshape(24, 3, 32, 32), path, partial(cifar10.CIFAR10, dir=tmp_path, validation=5)


def test_cifar_is_read_in_the_order_of_its_files(archive):
    images, _, build = archive
    data = build(batch_size=3)
    for rows, expected in zip(data.splits, (images[:15], images[15:20], images[20:]), strict=True):
        assert torch.equal(rows, torch.from_numpy(expected) / 255)
    assert data.levels == {"count": 256, "divisor": 255, "offset": 0}
    check_data(build, batch_size=3)


def test_an_archive_of_another_digest_is_refused(archive):
    _, path, build = archive
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UserError, match=r"cannot be used \(MD5 of the file is \w{12}..., expected \w{12}...\)"):
        build(batch_size=3).setup()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="validation=0 must leave training images: choose 1 to 19 of 20"):
        build(batch_size=3, validation=0).setup()


def test_svhn_has_its_pixels_upright(tmp_path, monkeypatch):
    """MATLAB has rows, columns, channels, images."""
    (tmp_path / "svhn").mkdir()
    images = {}
    for name, rows in (("train", 7), ("test", 3)):
        images[name] = _bytes(rows, 3, 32, 32, seed=rows)
        path = tmp_path / "svhn" / f"{name}_32x32.mat"
        savemat(path, {"X": images[name].transpose(2, 3, 1, 0), "y": np.ones((rows, 1))})
        read = partial(svhn._read, rows=rows, md5=_md5(path))
        monkeypatch.setattr(svhn, f"_{name.upper()}", Remote("svhn", path.name, ("https://nowhere",), read))
    data = svhn.SVHN(batch_size=2, dir=tmp_path, validation=2)
    train, val, test = data.splits
    assert torch.equal(torch.cat([train, val]), torch.from_numpy(images["train"]) / 255)
    assert (len(train), len(val)) == (5, 2)
    assert torch.equal(test, torch.from_numpy(images["test"]) / 255)


def test_kmnist_is_idx_of_the_published_file(tmp_path, monkeypatch):
    (tmp_path / "kmnist").mkdir()
    images = _bytes(6, 1, 28, 28)
    for name, part in (("_TRAIN", images[:4]), ("_TEST", images[4:])):
        path = tmp_path / "kmnist" / f"{name}.gz"
        with gzip.open(path, "wb") as file:
            file.write(bytes(16) + part.tobytes())
        remote = idx.idx_file("kmnist", path.name, len(part), None, ("https://nowhere/",), _md5(path))
        monkeypatch.setattr(kmnist, name, remote)
    data = kmnist.KMNIST(batch_size=2, dir=tmp_path, validation=1, binarisation="threshold")
    assert torch.equal(data.rows_of("train"), torch.from_numpy(images[:3] >= 128).float())
    assert tuple(map(len, data.stored)) == (3, 1, 2)


def test_emnist_has_the_variant_that_is_asked_for_upright(tmp_path, monkeypatch):
    """The archive has columns of pixels first, and a file for each variant and part."""
    (tmp_path / "emnist").mkdir()
    path = tmp_path / "emnist/gzip.zip"
    images = {name: _bytes(7, 1, 28, 28, seed=i) for i, name in enumerate(("letters", "digits"))}
    with zipfile.ZipFile(path, "w") as archive:
        for name, rows in images.items():
            for part, chosen in (("train", rows[:5]), ("test", rows[5:])):
                content = gzip.compress(bytes(16) + chosen.swapaxes(2, 3).tobytes())
                archive.writestr(f"gzip/emnist-{name}-{part}-images-idx3-ubyte.gz", content)

    def published(variant, sizes=(5, 2)):
        read = partial(emnist._read, variant=variant, sizes=sizes, md5=_md5(path))
        return Remote("emnist", path.name, ("https://nowhere",), read)

    monkeypatch.setattr(emnist, "_ARCHIVES", tuple(map(published, emnist.SIZES)))
    for name, rows in images.items():
        data = emnist.EMNIST(batch_size=2, dir=tmp_path, variant=name, validation=2)
        for found, expected in zip(data.stored, (rows[:3], rows[3:5], rows[5:]), strict=True):
            assert torch.equal(found, torch.from_numpy(expected))
    with pytest.raises(UserError, match="not the archive of EMNIST"):
        emnist.EMNIST(batch_size=2, dir=tmp_path, variant="balanced", validation=2).setup()
    monkeypatch.setattr(emnist, "_ARCHIVES", tuple(published(name, (4, 2)) for name in emnist.SIZES))
    with pytest.raises(UserError, match="has not 4 images"):
        emnist.EMNIST(batch_size=2, dir=tmp_path, variant="letters", validation=2).setup()
    with pytest.raises(UserError, match=r"data.variant=capitals is unknown: choose one of balanced"):
        emnist.EMNIST(batch_size=2, variant="capitals")
