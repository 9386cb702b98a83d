"""Every command of the README and docs/commands.md is run: tiny, or composed and checked where it needs a download."""

import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from evaluations import VAE, command, trained
from helpers.forkserver import ForkServer
from jobs import TINY, composed, run
from PIL import Image

from taut.config.check import check

ROOT = Path(__file__).resolve().parents[2]
HOLES = "a,b\n" + "".join(f"{a},{a * a}\n" for a in range(30)) + ",4\n5,\n"
PAGES = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/commands.md")]


def _commands(script: str) -> list[list[str]]:
    blocks = [block for page in PAGES for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)]
    lines = [line for block in blocks for line in block.splitlines() if line.startswith(f"python {script}")]
    found = [tuple(shlex.split(re.sub("[<>]", "", line), comments=True)[2:]) for line in lines]
    return [[*words] for words in dict.fromkeys(found)]  # each once, though both pages may have it


COMMANDS = _commands("train.py")
COMPLETIONS = [words for words in _commands("complete.py") if words != ["--help"]]
EVALUATIONS = [words for words in _commands("evaluate.py") if words != ["--help"]]
SHORT = ["threads=1", "simulated=4", "gap.limit=4", "gap.steps=8", "gap.samples=2"]
ELSEWHERE = ("data=mnist", "data=fashion_mnist", "strategy=")
SINGLE = [words for words in COMMANDS if not words or not words[0].startswith("-")]


def _tiny(words: list[str]) -> list[str]:
    """The tiny settings that leave the command's own words standing."""
    groups = {word.split("=")[0] for word in words}
    return [setting for setting in TINY if setting.split("=")[0] not in groups and "experiment" not in groups]


OWN = [words for words in SINGLE if words and words[0].startswith("trust=")]
SINGLE = [words for words in SINGLE if words not in OWN]
STUDIES = [words for words in SINGLE if words and words[0].startswith("+sweep")]
SINGLE = [words for words in SINGLE if words not in STUDIES]


def test_the_readme_has_its_commands():
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize("words", SINGLE, ids=" ".join)
def test_command(trainings, words, tmp_path):
    check(composed(tmp_path, *words))
    if any(word.startswith(ELSEWHERE) for word in words) or "experiment=linear_vae" in words:
        return  # two processes, known answers and data files have tests of their own
    (tmp_path / "my.csv").write_text(
        "a,b\n" + "\n".join(f"{a},{b}" for a, b in np.random.default_rng(0).normal(size=(60, 2)))
    )
    words = ["callbacks=[none,early_stopping,warmup]" if word.startswith("callbacks") else word for word in words]
    (tmp_path / "holes.csv").write_text(HOLES)
    (tmp_path / "photos").mkdir()
    for i in range(20):
        Image.fromarray(np.full((40, 30, 3), 12 * i, np.uint8)).save(tmp_path / "photos" / f"{i}.jpg")
    words = [re.sub(r"(my\.csv|holes\.csv|photos)", rf"{tmp_path}/\1", word) for word in words]
    assert run(tmp_path / "run", *words, *_tiny(words))["status"] == "finished"


@pytest.mark.parametrize("words", STUDIES, ids=" ".join)
def test_study(words, tmp_path):
    """What a sweep does is tested in tests/sweep; here its words are those of a sweep."""
    words = [word for word in words if not word.startswith("resume=")]
    cfg = composed(tmp_path, *words)
    check(cfg)
    assert cfg.sweep.timeout
    assert cfg.launcher.engine in ("joblib", "submitit")


@pytest.fixture(scope="module")
def runs(trainings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    return {name: trained(folder / name, *VAE) for name in ("run", "a")} | {"b": trained(folder / "b", *VAE, "k=2")}


def test_the_readme_has_its_evaluations():
    assert len(EVALUATIONS) >= 4


@pytest.mark.parametrize("words", EVALUATIONS, ids=" ".join)
def test_evaluation(words, runs, tmp_path, monkeypatch):
    for name, folder in runs.items():
        words = [re.sub(rf"outputs/runs/{name}\b", str(folder), word) for word in words]
    short = [word for word in SHORT if word.split("=")[0] not in {given.split("=")[0] for given in words}]
    annealed = [f"evidence.{name}.steps=3" for name in ("ais", "bdmc") if name in " ".join(words) or "gap" in words[-1]]
    words = [{"k=5000": "k=20", "limit=1000": "limit=4"}.get(word, word) for word in words]
    done = command("evaluate", *words, *short, *annealed, f"hydra.sweep.dir={tmp_path}/sweep")
    assert done.code == 0, done.err
    assert "gap = log p(x) - ELBO" in done.out


def test_the_readme_has_its_completions():
    assert len(COMPLETIONS) >= 4


@pytest.mark.parametrize("words", COMPLETIONS, ids=" ".join)
def test_completion(words, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "holes.csv").write_text(HOLES)
    if "outputs/runs/table" in " ".join(words):
        settings = [
            "logger=csv",
            "data=table",
            "data.path=holes.csv",
            "mask=from_data",
            "model=mog",
            "model.components=2",
        ]
        trained(tmp_path / "outputs" / "runs" / "table", *VAE[:-3], *settings)
    words = [re.sub(r"outputs/runs/run\b", str(runs["run"]), word) for word in words]
    words = [{"k=5000": "k=20"}.get(word, word) for word in words]
    short = ["lecture.pixels=6"] if "experiment=lecture" in words else ["threads=1", "limit=4"]
    done = command("complete", *words, *short)
    assert done.code == 0, done.err
    assert "p(x_obs)" in done.out


@pytest.mark.parametrize("words", OWN, ids=" ".join)
def test_a_piece_of_ones_own(trainings, words, command_in_process, tmp_path):
    """The files are those that docs/own_pieces.md shows."""
    text = (ROOT / "docs" / "own_pieces.md").read_text(encoding="utf-8")
    (tmp_path / "mylab.py").write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    (tmp_path / "myconf" / "prior").mkdir(parents=True)
    (tmp_path / "myconf" / "prior" / "mine.yaml").write_text(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    done = command("train", *words, *TINY, "hydra.run.dir=run")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["prior"] == "mine"
    sys.modules.pop("mylab")


def _command(commands: ForkServer, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return commands.run(ROOT / "train.py", *words, cwd=folder, capture_output=True, text=True, timeout=300)


def test_multirun_runs_every_combination_in_a_folder_of_its_own(commands, tmp_path):
    (words,) = [words for words in COMMANDS if words and words[0] == "-m"]
    axes = dict(word.split("=") for word in words[1:])
    jobs = list(itertools.product(*(values.split(",") for values in axes.values())))
    done = _command(commands, *words, *TINY, "launcher=joblib", folder=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    results = [json.loads(path.read_text()) for path in tmp_path.rglob("result.json")]
    assert sorted((r["model"], str(r["k"]), str(r["seed"])) for r in results) == sorted(jobs)


def test_help_names_every_group(commands, tmp_path):
    done = _command(commands, "--help", folder=tmp_path)
    assert done.returncode == 0
    for group in ("data", "prior", "likelihood", "objective", "model", "strategy"):
        assert re.search(rf"^{group} +\w+  ", done.stdout, re.MULTILINE), group
    assert not list(tmp_path.iterdir())
