"""Downloads against a server of our own: whole, broken, slow in coming, or not there."""

import gzip
import hashlib
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from taut.data.readers import fetch
from taut.data.readers.fetch import Remote, check_digest, data_folder, gunzip, obtain
from taut.data.readers.mat import array_digest, read_mat
from taut.errors import UserError

CONTENT = bytes(range(256)) * 40
GOOD = gzip.compress(CONTENT, 9)


class Server(ThreadingHTTPServer):
    """Serves ``answers``: path -> (status, body, declared length); counts the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[int, bytes, int]] = {}
        self.asked: list[str] = []

    def offer(self, path: str, body: bytes, status: int = 200, length: int | None = None) -> str:
        self.answers[path] = (status, body, len(body) if length is None else length)
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, body, length = self.server.answers.get(self.path, (404, b"", 0))
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def read(path: Path) -> bytes:
    content = gunzip(path, len(CONTENT))
    check_digest(content, hashlib.sha256(CONTENT).hexdigest())
    return content


def remote(*urls: str, **options) -> Remote[bytes]:
    return Remote("set", "file.gz", urls, read, **options)


def files(folder: Path) -> list[str]:
    """What is left of a fetch, without the empty lock."""
    return sorted(path.name for path in (folder / "set").iterdir() if not path.name.endswith(".lock"))


def test_a_good_file_is_downloaded_once(server, tmp_path):
    file = remote(server.offer("/good", GOOD))
    assert obtain(file, tmp_path) == CONTENT
    assert obtain(file, tmp_path) == CONTENT
    assert server.asked == ["/good"]
    assert files(tmp_path) == ["file.gz"]
    assert (tmp_path / "set/file.gz").read_bytes() == GOOD
    assert (tmp_path / "set/file.gz").stat().st_mode & 0o777 == 0o644


def test_a_terminal_sees_progress(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    obtain(remote(server.offer("/good", GOOD)), tmp_path)
    assert "100%" in capsys.readouterr().err


def test_another_compression_of_the_same_content_is_good(server, tmp_path):
    assert obtain(remote(server.offer("/other", gzip.compress(CONTENT, 1))), tmp_path) == CONTENT


BROKEN = {
    "truncated": {"body": GOOD[:-20]},
    "cut off": {"body": GOOD[:-20], "length": len(GOOD)},
    "corrupted": {"body": GOOD[:50] + bytes([GOOD[50] ^ 255]) + GOOD[51:]},
    "other content": {"body": gzip.compress(CONTENT[::-1])},
    "web page": {"body": b"<html>moved</html>"},
    "empty": {"body": b""},
    "404": {"body": GOOD, "status": 404},
    "503": {"body": GOOD, "status": 503},
    "unpacks to too much": {"body": gzip.compress(CONTENT + bytes(10**7))},
    "too long": {"body": GOOD + bytes(100_000)},
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_mirror_is_passed_over(server, tmp_path, kind):
    urls = server.offer("/bad", **BROKEN[kind]), server.offer("/good", GOOD)
    assert obtain(remote(*urls, limit=50_000), tmp_path) == CONTENT
    assert server.asked == ["/bad", "/good"]
    assert files(tmp_path) == ["file.gz"]


@pytest.mark.parametrize("kind", BROKEN)
def test_no_good_mirror_leaves_one_sentence_and_no_file(server, tmp_path, kind):
    url = server.offer("/bad", **BROKEN[kind])
    with pytest.raises(UserError, match="put the file there") as caught:
        obtain(remote(url, limit=50_000), tmp_path)
    for word in ("file.gz", str(tmp_path / "set"), url, "TAUT_DATA", "data.dir"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == []


def test_no_server_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"file.gz is not in .* and could not be downloaded"):
        obtain(remote("http://127.0.0.1:9/nothing"), tmp_path)


def test_a_silent_server_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "_TIMEOUT", 0.2)
    silent = server.offer("/silent", GOOD[:10], length=len(GOOD) + 10)
    hold = threading.Event()
    monkeypatch.setattr(Handler, "finish", lambda self: hold.wait(5))
    with pytest.raises(UserError, match="timed out"):
        obtain(remote(silent), tmp_path)
    hold.set()


def test_a_damaged_file_is_named_and_kept(tmp_path):
    path = tmp_path / "set/file.gz"
    path.parent.mkdir()
    path.write_bytes(GOOD[:-5])
    with pytest.raises(UserError, match=r"file.gz cannot be used .* delete or replace it"):
        obtain(remote("http://127.0.0.1:9/nothing"), tmp_path)
    assert path.read_bytes() == GOOD[:-5]


@pytest.mark.parametrize("cut", range(0, len(GOOD), len(GOOD) // 20))
def test_every_truncation_is_found(tmp_path, cut):
    (tmp_path / "cut.gz").write_bytes(GOOD[:cut])
    with pytest.raises(fetch.DamagedError):
        read(tmp_path / "cut.gz")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="Not a directory"):
        obtain(remote("http://127.0.0.1:9/nothing"), tmp_path / "file")


@pytest.mark.parametrize("call", ["fsync", "fchmod"])
def test_a_full_disk_leaves_nothing(server, tmp_path, monkeypatch, call):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match="No space left on device"):
        obtain(remote(server.offer("/good", GOOD)), tmp_path)
    assert files(tmp_path) == []


def test_threads_at_once_download_once(server, tmp_path):
    file = remote(server.offer("/good", GOOD))
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda _: obtain(file, tmp_path), range(8)))
    assert contents == [CONTENT] * 8
    assert server.asked == ["/good"]
    assert files(tmp_path) == ["file.gz"]


def test_processes_at_once_download_once(server, tmp_path):
    file = remote(server.offer("/good", GOOD))
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        tasks = [pool.submit(obtain, file, tmp_path) for _ in range(2)]
        assert [task.result(20) for task in tasks] == [CONTENT] * 2
    assert server.asked == ["/good"]
    assert files(tmp_path) == ["file.gz"]


def test_a_dead_holder_of_the_lock_does_not_block(server, tmp_path):
    lock = tmp_path / "set/.file.gz.lock"
    lock.parent.mkdir()
    lock.touch()
    assert obtain(remote(server.offer("/good", GOOD)), tmp_path) == CONTENT


def test_the_folder_is_dir_then_variable_then_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TAUT_DATA", "/variable")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_folder(tmp_path) == tmp_path
    assert data_folder(None) == Path("/variable")
    monkeypatch.setenv("TAUT_DATA", "")
    assert data_folder(None) == Path("/cache/taut")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_folder(None) == Path.home() / ".cache/taut"


ARRAY = np.arange(60, dtype=np.uint8).reshape(6, 10)


def mat(path: Path, **options) -> list[np.ndarray]:
    return read_mat(path, **{"shapes": {"ff": (6, 10)}, "sha256": array_digest([ARRAY]), **options})


@pytest.mark.parametrize("compressed", [True, False])
def test_a_mat_file_is_known_by_its_arrays(tmp_path, compressed):
    savemat(tmp_path / "a.mat", {"ff": ARRAY, "more": np.eye(2)}, do_compression=compressed)
    assert np.array_equal(mat(tmp_path / "a.mat")[0], ARRAY)


@pytest.mark.parametrize(
    "arrays",
    [{"ff": ARRAY + 1}, {"ff": ARRAY.T}, {"gg": ARRAY}, {"ff": ARRAY.astype(float)}, {"ff": "text"}],
    ids=["values", "shape", "name", "type", "text"],
)
def test_other_arrays_are_found(tmp_path, arrays):
    savemat(tmp_path / "a.mat", arrays)
    with pytest.raises(fetch.DamagedError):
        mat(tmp_path / "a.mat")


def test_a_broken_mat_file_is_found(tmp_path):
    """Truncation anywhere, and bit flips that change the array, are named as damage and nothing else."""
    whole = tmp_path / "whole.mat"
    savemat(whole, {"ff": ARRAY}, do_compression=True)
    content, broken = whole.read_bytes(), tmp_path / "broken.mat"
    for cut in range(0, len(content), 7):
        broken.write_bytes(content[:cut])
        with pytest.raises(fetch.DamagedError):
            mat(broken)
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        broken.write_bytes(flipped)
        with suppress(fetch.DamagedError):
            assert np.array_equal(mat(broken)[0], ARRAY)


def test_a_published_file_is_refused_when_its_content_is_not_the_published_one(tmp_path, monkeypatch):
    """The wiring of a real data set: a whole file of the right form with other numbers."""
    from taut.data.frey_faces import FreyFaces
    from taut.data.mnist import MNIST

    (tmp_path / "mnist").mkdir()
    (tmp_path / "frey-faces").mkdir()
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (60000, 28, 28))
    with gzip.open(tmp_path / "mnist/train-images-idx3-ubyte.gz", "wb", 1) as file:
        file.write(header + bytes(60000 * 784))
    savemat(tmp_path / "frey-faces/frey_rawface.mat", {"ff": np.zeros((560, 1965), np.uint8)})
    for data in (MNIST, FreyFaces):
        with pytest.raises(UserError, match=r"SHA-256 of the \w+ ?\w* is .*, expected"):
            data(batch_size=10, dir=tmp_path).setup()


def _spy(seen: list[tuple[Path, int]], path: Path) -> bytes:
    seen.append((path.parent, path.stat().st_ino))
    return read(path)


def test_the_file_appears_whole_by_a_rename_in_its_own_folder(server, tmp_path):
    """A copy would be seen half-written; a rename across file systems is a copy."""
    seen = []
    obtain(Remote("set", "file.gz", (server.offer("/good", GOOD),), partial(_spy, seen)), tmp_path)
    assert seen == [(tmp_path / "set", (tmp_path / "set/file.gz").stat().st_ino)]
