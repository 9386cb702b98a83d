"""A checkpoint is whole or absent, whatever happens while it is written."""

import builtins
import errno
import os
import random
import shutil
import signal
import time
import zipfile
from contextlib import suppress

import pytest
import torch

from taut import files as module
from taut.errors import UserError
from taut.training.checkpoint import AtomicCheckpointIO, newest_good

ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS, errno.EXDEV, errno.ENOENT]


@pytest.fixture
def io():
    return AtomicCheckpointIO()


def content(value):
    return {"state_dict": {"w": torch.full((50,), float(value))}, "epoch": value, "hyper_parameters": {"k": 1}}


def value_of(path):
    return AtomicCheckpointIO().load_checkpoint(path)["epoch"]


class Faults:
    """Lets the n-th system call of a save fail; a write may fail half way."""

    def __init__(self, monkeypatch, at, number):
        self.left, self.number, self.struck = at, number, False
        opened = builtins.open
        for name in ("fsync", "replace", "open"):
            monkeypatch.setattr(module.os, name, self.failing(getattr(os, name)))
        monkeypatch.setattr(module.Path, "open", lambda path, *a, **k: self.file(opened(path, *a, **k)))

    def tick(self):
        self.left -= 1
        if self.left == 0:
            self.struck = True
            raise OSError(self.number, os.strerror(self.number))

    def failing(self, call):
        def wrapped(*args, **kwargs):
            self.tick()
            return call(*args, **kwargs)

        return wrapped

    def file(self, file):
        write, flush = file.write, file.flush
        outer = self

        class File:
            def __enter__(self):
                outer.tick()
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, data):
                try:
                    outer.tick()
                except OSError:
                    write(data[: len(data) // 2])
                    raise
                return write(data)

            def flush(self):
                outer.tick()
                flush()

            def fileno(self):
                return file.fileno()

        return File()


def test_plain_torch_and_zip_read_the_sealed_file(io, tmp_path):
    path = tmp_path / "a" / "recent-step=1.ckpt"
    io.save_checkpoint(content(1), path)
    assert value_of(path) == torch.load(path)["epoch"] == 1
    assert zipfile.ZipFile(path).testzip() is None
    io.remove_checkpoint(path)
    io.remove_checkpoint(path)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("number", ERRORS)
def test_no_fault_loses_the_good_file_or_leaves_a_part(io, tmp_path, number):
    path = tmp_path / "recent-step=1.ckpt"
    io.save_checkpoint(content(1), path)
    at, faults = 0, None
    while faults is None or faults.struck:
        at += 1
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, at, number)
            with suppress(OSError):
                io.save_checkpoint(content(at + 1), path)
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        assert value_of(path) == (1 if faults.struck and at < 6 else at + 1), "the rename is the moment"
    assert at == 8, "open, write, flush, fsync, rename, open folder, fsync folder, then none"
    assert value_of(path) == at + 1


def test_kill_at_any_moment_leaves_a_good_checkpoint(io, tmp_path):
    path = tmp_path / "recent-step=1.ckpt"
    io.save_checkpoint(content(0), path)
    clock = random.Random(0)
    for _ in range(25):
        child = os.fork()
        if child == 0:
            for value in range(10_000):
                io.save_checkpoint(content(value), path)
            os._exit(0)
        time.sleep(clock.uniform(0.001, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert newest_good(tmp_path) == path
    io.save_checkpoint(content(3), path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "the next save clears what a kill left"


def test_every_truncation_and_bit_flip_is_noticed(io, tmp_path):
    path = tmp_path / "recent-step=1.ckpt"
    io.save_checkpoint(content(1), path)
    data = path.read_bytes()
    dice = random.Random(0)
    broken = [data[: len(data) * percent // 100] for percent in range(100)]
    for _ in range(1000):
        place, bit = dice.randrange(len(data)), dice.randrange(8)
        broken.append(data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
    broken += [b"", data + b"\0", data[:512] + bytes(256) + data[768:]]
    for bad in broken:
        path.write_bytes(bad)
        with pytest.raises(UserError, match="recent-step=1"):
            io.load_checkpoint(path)


def test_newest_good_goes_back_loudly(io, tmp_path, caplog):
    assert newest_good(tmp_path / "absent") is None
    for step in (9, 10, 11):
        io.save_checkpoint(content(step), tmp_path / f"recent-epoch=00000-step={step}.ckpt")
    io.save_checkpoint(content(99), tmp_path / "best.ckpt")
    assert value_of(newest_good(tmp_path)) == 11
    newest = tmp_path / "recent-epoch=00000-step=11.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert value_of(newest_good(tmp_path)) == 10
    assert "step=11.ckpt is damaged" in caplog.text
    for path in tmp_path.glob("recent*"):
        path.write_bytes(b"")
    assert newest_good(tmp_path) is None


def test_an_intact_file_of_pickled_objects_is_not_loaded(tmp_path):
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {canary}",)

    path = tmp_path / "recent-step=1.ckpt"
    AtomicCheckpointIO().save_checkpoint({"x": Evil()}, path)
    with pytest.raises(UserError, match="plain types"):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=False)
    assert not canary.exists()


def test_a_checkpoint_of_another_program_is_refused(tmp_path):
    torch.save(content(1), tmp_path / "recent-step=1.ckpt")
    with pytest.raises(UserError, match="another program or version"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "recent-step=1.ckpt")
    shutil.rmtree(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "recent-step=1.ckpt")
