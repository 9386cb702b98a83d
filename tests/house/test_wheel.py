"""What is built is whole: the wheel, that of the source archive, and the commands installed from it, far from here."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    *("trainer.max_epochs=1", "k_eval=4", "k_test=4", "network.hidden=[4]", "logger=csv", "callbacks=none"),
    *("threads=1", "trainer.enable_progress_bar=false"),
]


def built(place: Path, root: Path, kind: str) -> Path:
    program = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(place)]
    subprocess.run(program, cwd=root, check=True, capture_output=True)
    (made,) = place.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(programs, tmp_path_factory):
    return built(tmp_path_factory.mktemp("wheel"), ROOT, "wheel")


def test_the_wheel_holds_every_config_and_all_that_is_read_beside_the_code(wheel, tmp_path):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")}
    configs |= {Path("sweep") / path.name for path in (ROOT / "sweeps").glob("*.yaml")}
    assert {f"taut/conf/{path.as_posix()}" for path in configs} <= names
    package = {path for path in (ROOT / "src").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    package = {path.relative_to(ROOT / "src").as_posix() for path in package}
    assert {name for name in package if ".egg-info/" not in name} <= names
    assert "taut/py.typed" in names


def test_the_source_archive_builds_the_same_wheel(wheel, tmp_path):
    archive = built(tmp_path / "archive", ROOT, "sdist")
    with tarfile.open(archive) as opened:
        # Python 3.11.2, of Debian 12, has no filters
        opened.extractall(tmp_path / "unpacked", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (root,) = (tmp_path / "unpacked").iterdir()
    again = built(tmp_path / "again", root, "wheel")
    one, other = (zipfile.ZipFile(path) for path in (wheel, again))
    assert {name: one.read(name) for name in one.namelist()} == {name: other.read(name) for name in other.namelist()}


def test_an_installed_taut_sweeps_evaluates_and_reports_in_any_folder(wheel, tmp_path):
    """The libraries are those of this environment, the package and its configs those of the wheel alone."""
    environment, folder = tmp_path / "environment", tmp_path / "elsewhere"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True)
    (site,) = (environment / "lib").glob("python*/site-packages")
    # a path file inside a folder that is added by one is not read, so the editable install does not come along
    (site / "libraries.pth").write_text(str(Path(torch.__file__).parents[1]))
    folder.mkdir()
    (folder / "random.py").write_text("raise SystemExit('a file of the user was imported')")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def taut(*words: str) -> str:
        program = [str(environment / "bin" / "taut"), *words]
        done = subprocess.run(program, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    sweep = ["-m", "k=1", "sweep.evaluate='limit=2 k=4 threads=1'", "sweep.rehearse=false", "hydra.sweep.dir=outputs/s"]
    assert "finished" in taut("train", *TINY, *sweep)
    assert len(list((folder / "outputs" / "s").glob("*/evaluation/result.json"))) == 1
    assert "outputs/s/report.html" in taut("report", "outputs/s")
    where = subprocess.run([python, "-c", "import taut; print(taut.__file__)"], env=env, capture_output=True, text=True)
    assert Path(where.stdout.strip()).is_relative_to(environment)
