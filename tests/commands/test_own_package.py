"""The package of ``examples/mylab``, installed elsewhere and as loose files, through every command."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import yaml
from evaluations import ROOT, TINY, command, contents, trained
from omegaconf import OmegaConf

from taut.commands.sweep.driver import Driver
from taut.commands.sweep.job import Job
from taut.commands.sweep.plan import Plan
from taut.completion import Imputer
from taut.config import pieces
from taut.config.pieces import NeedsTrust
from taut.training.stored_run import Run

EXAMPLE = ROOT / "examples" / "mylab"
SETTINGS = [*TINY, "network.hidden=[8]", "latent_dim=2", "logger=csv", "data=table", "data.path=my.csv"]
OWN = ["prior=student", "likelihood=gumbel"]
LOOSE = ["--config-dir", "mylab/conf"]
ASKED = "The run run needs classes of mylab; add trust=[mylab] if you know it.\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder outside of the repository with a table."""
    folder = tmp_path_factory.mktemp("elsewhere")
    rows = np.random.default_rng(0).standard_t(3, size=(60, 2))
    np.savetxt(folder / "my.csv", rows, delimiter=",", header="a,b", comments="")
    return folder


@pytest.fixture
def here(place, monkeypatch):
    """The same as the working directory, and nothing of mylab in Python afterwards."""
    monkeypatch.chdir(place)
    monkeypatch.setenv(pieces.VARIABLE, "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "home"))
    monkeypatch.setattr(pieces._Here, "names", frozenset())
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield place
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]
    pieces._registered.cache_clear()


@pytest.fixture
def loose(here):
    """The package as a folder in the working directory."""
    if not (here / "mylab").exists():
        shutil.copytree(EXAMPLE / "src" / "mylab", here / "mylab")
    return here


@pytest.fixture
def run(trainings, loose):
    """A run that is made of its classes."""
    folder = loose / "run"
    if not folder.exists():
        trained(folder, "trust=[mylab]", *LOOSE, *OWN, *SETTINGS)
        _forget()
    return folder


def installed(site: Path) -> Path:
    """A folder of packages into which pip would have put mylab."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    shutil.copytree(EXAMPLE / "src", site)
    about = site / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    for group, points in project["entry-points"].items():
        lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
        (about / "entry_points.txt").write_text("\n".join(lines))
    return site


def test_installed_it_is_there_without_a_word(trainings, here, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(installed(tmp_path / "site"))
    folder = trained(tmp_path / "installed", *OWN, *SETTINGS)
    result = json.loads((folder / "result.json").read_text())
    assert (result["prior"], result["likelihood"]) == ("student", "gumbel")
    assert "trust" not in (folder / ".hydra" / "overrides.yaml").read_text()
    done = command("evaluate", f"run={folder}", "limit=4", "k=20", "threads=1")
    assert done.code == 0, done.err
    assert Imputer(run=folder, k=10).fit(np.zeros((2, 2))).transform([[0.1, np.nan]]).shape == (1, 2)


def test_its_own_tests_pass(here, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(installed(tmp_path / "site"))
    spec = spec_from_file_location("test_mylab", EXAMPLE / "tests" / "test_mylab.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    checks = [check for name, check in vars(module).items() if name.startswith("test_")]
    assert len(checks) == 3
    for check in checks:
        check()


COMMANDS = {
    "evaluate": ["run=run", "limit=4", "k=20", "threads=1"],
    "complete": ["run=run", "limit=4", "k=20", "threads=1", "mask=random", "mask.rate=0.5", "refine=false"],
    "train": ["resume=run", "trainer.max_epochs=2"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_strangers_run_is_opened_once_its_package_is_named(name, run, tmp_path):
    """Refused with nothing imported or written; then the same command goes on with its config folder and the word."""
    before = contents(run)
    done = command(name, *COMMANDS[name])
    assert (done.code, done.err) == (2, ASKED)
    assert "mylab" not in sys.modules
    assert contents(run) == before
    words = [*(LOOSE if name == "train" else []), *COMMANDS[name], "trust=mylab"]
    done = command(name, *words)
    assert done.code == 0, done.err
    assert not [path for path, content in _stored(run).items() if _grants(content)]
    # and once more, since nothing of it was kept
    _forget()
    assert command(name, *COMMANDS[name], "threads=2").err == ASKED


def test_a_run_that_says_it_is_trusted_is_refused(run, tmp_path):
    theirs = shutil.copytree(run, tmp_path / "theirs")
    path = theirs / ".hydra" / "overrides.yaml"
    path.write_text(path.read_text() + "- trust=[mylab]\n")
    done = command("train", f"resume={theirs}", "trainer.max_epochs=3")
    assert done.code == 2
    assert done.err.startswith(f"trust comes from {path}, which may say what a run computes and nothing of the process")
    path = theirs / ".hydra" / "config.yaml"
    path.write_text(path.read_text() + "trust: [mylab]\n")
    (theirs / ".hydra" / "resumed_config.yaml").unlink(missing_ok=True)
    done = command("evaluate", f"run={theirs}")
    assert done.code == 2
    assert done.err.startswith("trust comes from a config, and only you can say whom you trust")
    assert "mylab" not in sys.modules


def test_in_python_a_run_is_opened_with_its_package(run, monkeypatch):
    with pytest.raises(NeedsTrust, match=r"The run run needs classes of mylab; add trust=\[mylab\] if you know it\."):
        Run.open(run)
    with pytest.raises(NeedsTrust):
        Imputer(run=run).fit(np.zeros((2, 2)))
    assert "mylab" not in sys.modules
    monkeypatch.syspath_prepend(run.parent)  # as in a notebook beside it
    filled = Imputer(run=run, trust=["mylab"], k=10).fit(np.zeros((2, 2))).transform([[0.1, np.nan]])
    assert np.isfinite(filled).all()
    with pytest.raises(NeedsTrust):
        Run.open(run)


def test_report_reads_no_class(run):
    from taut.commands import report

    assert report.main([str(run), "--out", str(run.parent / "report.html")]) == 0
    assert "mylab" not in sys.modules


def _started(commands, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return commands.run(ROOT / "train.py", *words, cwd=folder, capture_output=True, text=True, timeout=300)


def test_trust_travels_with_a_job_of_a_sweep_to_all_its_processes(commands, loose, tmp_path):
    """Through the rehearsal, the job, the second process of its training, and its evaluation; into no file."""
    sweep = ["-m", *LOOSE, *OWN, *SETTINGS, "seed=0", "strategy=ddp_cpu"]
    sweep += [f"hydra.sweep.dir={tmp_path}/sweep", "sweep.evaluate='limit=3 k=10'"]
    done = _started(commands, *sweep, "trust=[mylab]", folder=loose)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert len(list((tmp_path / "sweep").glob("*/evaluation/result.json"))) == 1
    before = _stored(tmp_path / "sweep")
    assert len(before) > 5
    assert not [name for name, content in before.items() if _grants(content)]
    # without it the sweep is refused as a whole, and its finished job stays finished
    done = _started(commands, *sweep, "resume=true", folder=loose)
    assert done.returncode == 2
    assert "needs classes of mylab; add trust=[mylab] if you know it." in done.stderr
    assert _stored(tmp_path / "sweep") == before


def _grants(content: bytes) -> bool:
    """Whether what was stored names the word, but for the text of --help, which Hydra stores too."""
    known = yaml.safe_load(content)
    if "hydra" in known:
        del known["hydra"]["help"]
    return re.search(r"trust\b", json.dumps(known)) is not None


def _stored(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if name.endswith((".yaml", ".json"))}


ALL = """
from lightning.pytorch import callbacks, strategies
from taut.data.digits import Digits
from taut.data.mask.cells import Random
from taut.evidence.importance import Importance
from taut.model.likelihood.bernoulli import Bernoulli
from taut.model.networks import MLPDecoder, MLPEncoder
from taut.model.prior.normal import Normal
from taut.model.q.diagonal import Diagonal
from taut.objective.elbo import Elbo
from taut.training.loggers import csv_logger
from taut.training.models import VAE
import torch


class Prior(Normal): ...
class Q(Diagonal): ...
class Likelihood(Bernoulli): ...
class Objective(Elbo): ...
class Encoder(MLPEncoder): ...
class Decoder(MLPDecoder): ...
class Data(Digits): ...
class Mask(Random): ...
class Model(VAE): ...
class Optimizer(torch.optim.Adam): ...


class Evidence(Importance):
    name = "mine"


class Callback(callbacks.Callback):
    def on_fit_start(self, trainer, model):
        names = [type(part).__name__ for part in (model, model.joint.prior, model.joint.likelihood, model.q)]
        print("built", *names, type(model.objective).__name__, type(trainer.strategy).__name__)


class Strategy(strategies.SingleDeviceStrategy):
    def __init__(self) -> None:
        super().__init__("cpu")


def logger(**about):
    return csv_logger(**about)


def scheduler(optimizer, factor: float):
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor, 0)
"""
EVERYTHING = [
    *(f"{part}._target_=alllab.{part.capitalize()}" for part in ("prior", "q", "likelihood", "objective", "data")),
    *(f"{part}._target_=alllab.{part.capitalize()}" for part in ("model", "optimizer")),
    *(f"network.{part}._target_=alllab.{part.capitalize()}" for part in ("encoder", "decoder")),
    "scheduler._target_=alllab.scheduler",
    "~scheduler.total_iters",
    "mask=random",
    "mask._target_=alllab.Mask",
    "+callbacks.mine={_target_: alllab.Callback}",
    "+logger.mine={_target_: alllab.logger, _partial_: true}",
    "trainer.strategy={_target_: alllab.Strategy}",
]


def test_every_kind_of_object_may_be_ones_own(trainings, here, tmp_path):
    (here / "alllab.py").write_text(ALL)
    done = command(
        "train", "trust=alllab", *EVERYTHING, *TINY, "network.hidden=[8]", "logger=csv", f"hydra.run.dir={tmp_path}/run"
    )
    assert done.code == 0, done.err
    assert "built Model Prior Likelihood Q Objective Strategy" in done.out
    mine = "+evidence.mine={_target_: alllab.Evidence, k: 30}"
    done = command("evaluate", "trust=alllab", f"run={tmp_path}/run", "k=20", "limit=4", "threads=1", mine)
    assert done.code == 0, done.err
    assert "mine" in json.loads((tmp_path / "run" / "evaluation" / "result.json").read_text())["evidence"]


BAD = """
from taut.model.prior.normal import Normal


class Bad(Normal):
    def __init__(self, dim: int) -> None:
        raise RuntimeError("a bug of mine")
"""


def test_a_bug_in_ones_own_class_is_shown_with_its_traceback_and_the_way_on_has_the_word(loose):
    (loose / "badlab.py").write_text(BAD)
    words = ["trust=[badlab,mylab]", *LOOSE, "prior._target_=badlab.Bad", *SETTINGS, "hydra.run.dir=bad"]
    done = command("train", *words)
    assert done.code == 1
    assert "RuntimeError: a bug of mine" in done.err
    assert 'raise RuntimeError("a bug of mine")' in done.err
    way_on = "Go on with: python train.py --config-dir=mylab/conf trust=badlab,mylab resume=bad"
    assert done.err.splitlines()[-1] == way_on
    del sys.modules["badlab"]


def test_a_job_on_a_cluster_is_told_what_to_trust(here):
    """A cluster may hand on no environment; the job of another user is told nothing."""
    driver = Driver(ROOT / "train.py", [], [], None, lambda error, words: "", here / "sweep")
    sweep = OmegaConf.create({"evaluate": None, "timeout": None})
    job, plan = Job(0, "000", ["k=1"], ""), Plan("sweep", [], [])
    assert driver._command(job, plan, sweep).env == {}
    (here / "otherlab.py").write_text("")
    pieces.taken(["trust=otherlab"])
    assert driver._command(job, plan, sweep).env == {pieces.VARIABLE: "otherlab"}
