"""What ``evaluate.py`` refuses: each time one sentence, exit code 2, at once, and nothing written."""

import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from evaluations import ROOT, TINY, VAE, command, contents, copied, evaluated, trained
from torch.distributions import Independent, Normal

from taut.errors import RunError, UserError
from taut.evidence import AIS, Importance, Jackknife, LogEvidence, Naive, Rows, Struski, Sumo, Target, Uniform
from taut.evidence.loop import EvalResult, EvalTask, measure
from taut.evidence.summary import assessed, columns, plain
from taut.runtime.processes import Processes
from taut.runtime.progress import Stages
from taut.training.checkpoint import AtomicCheckpointIO

FOUR = [*TINY, "logger=csv", "data=table", "network.hidden=[8]", "likelihood=gaussian", "latent_dim=2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs trained once: a VAE of digits, a mixture, and a VAE of a table of the user's own."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    table = folder / "a.csv"
    table.write_text("a,b\n" + "\n".join(f"{i % 7}.5,{(i * i) % 11}.25" for i in range(60)) + "\n")
    commands = {
        "vae": [*VAE, "latent_dim=10"],
        "mog": [*TINY, "logger=csv", "model=mog", "model.components=3", "data=synthetic", "data.n=100"],
        "table": [*FOUR, f"data.path={table}"],
    }

    def run(name):
        if name not in made:
            made[name] = trained(folder / name, *commands[name])
        return made[name]

    return run


@pytest.fixture
def copy(runs, tmp_path, monkeypatch):
    """A run of one's own, in a folder of one's own; evaluations draw no pictures, which take half of their time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("taut.commands.evaluate.evaluation_figures", lambda *_: [])
    return lambda name: copied(runs(name), tmp_path)


@pytest.fixture
def refused(tmp_path):
    """What is said when a command is refused, having checked that it was refused as everything is."""

    def refused(*words):
        before, started = contents(tmp_path), time.monotonic()
        done = command("evaluate", *words)
        assert time.monotonic() - started < 5
        assert (done.code, done.out) == (2, ""), done.err
        said = done.err.strip()
        assert said.count("\n") == 0
        assert said.endswith((".", "?"))
        assert "Traceback" not in said
        assert contents(tmp_path) == before
        return said

    return refused


MISTAKES = {
    "k=0": r"k must be an integer >= 1.*, got 0",
    "k=-1": r"k must be .*, got -1",
    "k=1.5": r"k must be an integer.*, got 1\.5",
    'k="10"': r"k must be an integer.*, got '10'",
    "k=1000000000000": r"k=1000000000000 needs at least [\d,]+ GiB .* this machine has [\d,]+ GiB; choose a smaller k",
    "k=1000000000": r"GiB",
    "evidence.importance.k=1000000000000": r"GiB.*choose a smaller evidence\.importance\.k",
    "evidence=[ais] evidence.ais.chains=1000000000000": r"chains",
    "evidence=[u_k] simulated=1000000000000": r"simulated",
    "limit=0": r"limit must be an integer >= 1, or null.*, got 0",
    "evidence=[nosuch]": r"nosuch is not known; choose among ais, bdmc, .*uniform",
    "evidence=[importnace]": r"did you mean importance",
    "evidence=[exact]": r"10-dimensional z .* use evidence=importance or ais",
    "evidence=[jackknife] k=1": r"evidence\.jackknife\.k must be .* 2, got 1",
    "evidence=[jackknife] evidence.jackknife.order=3": r"evidence\.jackknife\.order must be 1 or 2, got 3\.",
    "evidence=[struski] k=997": r"evidence\.struski\.k must be a multiple of 4, .* got 997\.",
    "evidence=[ais] evidence.ais.steps=0": r"steps must be .*, got 0",
    "evidence=[ais] evidence.ais.start=posterior": r"posterior.*choose q or prior",
    "evidence.importance._target_=os.system": r"os\.system",
    "+evidence.x._target_=taut.training.models.VAE": r"taut\.model\.vae\.VAE|evidence\.x",
    "evidence.importance.kk=3": r"did you mean evidence\.importance\.k\?",
    "split=nosuch": r"split must be train, val or test.*, got 'nosuch'",
    "gap.splits=[nosuch]": r"gap\.splits must be .*, got \['nosuch'\]",
    "gap.apart=true gap.steps=2": r"gap\.steps must be .*, got 2",
    "gap.apart=true gap.samples=3": r"gap\.samples must be even, .* got 3\.",
    "out=../x": r"out must be a name that begins with evaluation.*, got '\.\./x'",
    "out=checkpoints": r"out must be .*, got 'checkpoints'",
    "out=evaluation/../../x": r"out must be .*, got",
    "tolerance=0": r"tolerance must be a finite number above 0, or null, got 0",
    "tolerance=0.1 budget=10": r"budget must be an integer from 1,000 to 10\^9, got 10",
    "tolerance=0.1 per_datum=1": r"per_datum must be true or false, got 1",
    "confidence=2": r"confidence must be a number between 0 and 1.*, got 2",
    'confidence="0.5"': r"confidence must be .*, got '0\.5'",
    "share=rows": r"share must be data or samples.*, got 'rows'",
    "unfit=ignore": r"unfit must be .*, got 'ignore'",
    "seed=-1": r"seed must be .*, got -1",
    "limt=3": r"There is no key limt; did you mean limit\?",
    "data.test_fraction=0.9": r"data\.test_fraction cannot be changed here: the data of the run .* split=train",
    "mask.rate=0.9": r"mask\.rate cannot be changed here: the mask of the run .* mask\.path=",
    "evidnce=[ais]": r"evidnce.*did you mean evidence\?",
    "experiment=gpa": r"experiment=gpa is not known; did you mean gap\?",
    "strategy=gpu": r"not to be had on this machine|GPU",
    "k=10,20": r"add -m",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_command(mistake, copy, refused):
    if mistake == "strategy=gpu" and torch.cuda.is_available():
        pytest.skip("there is one")
    assert re.search(MISTAKES[mistake], refused(f"run={copy('vae')}", *re.split(r" (?=\+?[a-z])", mistake)))


def test_no_run(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in ([], ["run=null"]):
        assert "evaluate.py needs the folder of a run: add run=" in refused(*words), words
    assert refused("run=[a]").startswith("run=a is not the folder of a run: ")


def test_what_is_no_run(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    for name in ("nosuch", "thesis", "thesis/thesis.tex", ".", "/dev/null"):
        said = refused(f"run={name}")
        assert re.search(rf"^run=.*{re.escape(name)} is not the folder of a run", said)


def test_a_run_is_looked_for_where_it_is_said_to_be(copy, tmp_path):
    run = copy("vae")
    done = evaluated(run, "hydra.run.dir=elsewhere", "limit=2", "k=20")
    assert done.code == 0 or "hydra.run.dir" in done.err
    done = evaluated(Path(f"{run.name}/"), "limit=2", "k=20")
    assert done.code == 0, "a relative path with a slash at its end"


def test_an_estimator_that_does_not_fit_a_mixture(copy, refused):
    for name in ("ais", "bdmc"):
        said = refused(f"run={copy('mog') if name == 'ais' else 'mog'}", f"evidence=[{name}]")
        assert said.startswith(f"evidence={name} ")
        assert "category" in said
        assert "use evidence=exact" in said


def test_no_checkpoint(copy, refused):
    run = copy("vae")
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    assert re.search(r"holds no checkpoint .* let the run train for an epoch first", refused(f"run={run}"))
    (run / "checkpoints").rmdir()
    assert "holds no checkpoint" in refused(f"run={run}")


@pytest.mark.parametrize("place", [100, 0.5, -1])
def test_one_flipped_byte(place, copy, refused):
    run = copy("vae")
    path = run / "checkpoints" / "best.ckpt"
    data = bytearray(path.read_bytes())
    data[int(place * len(data)) if isinstance(place, float) else place] ^= 1
    path.write_bytes(data)
    said = refused(f"run={run}")
    assert "best.ckpt is damaged" in said
    assert re.search(r"; |restore|delete|remove|train", said), "what to do"


@pytest.mark.parametrize("size", [0, 50, 5000])
def test_a_torn_checkpoint(size, copy, refused):
    run = copy("vae")
    path = run / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[:size])
    assert "best.ckpt is damaged" in refused(f"run={run}")


def _rewrite_checkpoint(run, change):
    path = run / "checkpoints" / "best.ckpt"
    checkpoint = AtomicCheckpointIO().load_checkpoint(path)
    change(checkpoint)
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)


def test_another_version(copy, refused):
    run = copy("vae")
    _rewrite_checkpoint(run, lambda checkpoint: checkpoint.update(taut_version="9.9.0"))
    assert re.search(r"trained by taut 9\.9\.0 and this is taut .*pip install taut==9\.9\.0", refused(f"run={run}"))


def test_a_checkpoint_of_another_model(copy, refused):
    run = copy("vae")

    def shrink(checkpoint):
        name = next(name for name, value in checkpoint["state_dict"].items() if value.ndim == 2)
        checkpoint["state_dict"][name] = checkpoint["state_dict"][name][:1]

    _rewrite_checkpoint(run, shrink)
    assert "does not fit the model" in refused(f"run={run}")


@pytest.mark.parametrize("missing", ["state_dict", "epoch", "Digits"])
def test_a_sealed_file_that_is_no_checkpoint_of_a_run(missing, copy, refused):
    run = copy("vae")
    _rewrite_checkpoint(run, lambda checkpoint: checkpoint.pop(missing))
    assert re.search(r"best\.ckpt|restore its files", refused(f"run={run}"))


def test_weights_that_are_not_numbers(copy, refused):
    run = copy("vae")
    _rewrite_checkpoint(run, lambda checkpoint: [value.fill_(math.nan) for value in checkpoint["state_dict"].values()])
    before = contents(run)
    done = evaluated(run, "limit=3", "k=20")
    assert done.code in (1, 2)
    assert done.err.strip().count("\n") == 0
    assert "Traceback" not in done.err
    assert contents(run) == before


def _rewrite_config(run, change):
    path = run / ".hydra" / "config.yaml"
    stored = yaml.safe_load(path.read_text())
    change(stored)
    path.write_text(yaml.safe_dump(stored))


@pytest.mark.parametrize(
    ("part", "target"), [("likelihood", "os.system"), ("data", "builtins.eval"), ("model", "taut.cli.main")]
)
def test_a_config_that_names_a_foreign_class(part, target, copy, refused, tmp_path):
    run = copy("vae")
    _rewrite_config(run, lambda cfg: cfg.update({part: {**cfg[part], "_target_": target, "command": "touch canary"}}))
    said = refused(f"run={run}")
    assert part in said
    assert target in said
    assert "may not be built" in said
    assert not (tmp_path / "canary").exists()


def test_another_data_class_than_the_checkpoint_was_trained_on(copy, refused):
    run = copy("vae")
    _rewrite_config(run, lambda cfg: cfg["data"].update(_target_="taut.data.faithful.Faithful"))
    assert re.search(r"data|checkpoint", refused(f"run={run}"))


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "a: &a [*a]", "k: 3\n", "\xe9"])
def test_a_damaged_config(text, copy, refused):
    run = copy("vae")
    (run / ".hydra" / "config.yaml").write_bytes(text.encode("latin-1"))
    refused(f"run={run}")


@pytest.mark.parametrize("text", [None, "", "hydra: 3", "hydra: {runtime: {choices: [a]}}"])
def test_damaged_choices(text, copy, refused):
    run = copy("vae")
    path = run / ".hydra" / "hydra.yaml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert "hydra.yaml is missing or damaged" in refused(f"run={run}")


def _own_table(copy):
    """The run of a table, with the table where it may be changed."""
    run = copy("table")
    table = run.parent / "a.csv"
    original = Path(yaml.safe_load((run / ".hydra" / "config.yaml").read_text())["data"]["path"])
    table.write_bytes(original.read_bytes())
    _rewrite_config(run, lambda cfg: cfg["data"].update(path=str(table)))
    return run, table


def test_data_that_changed(copy, refused):
    run, table = _own_table(copy)
    assert evaluated(run, "k=20", "limit=2").code == 0
    table.write_text(table.read_text().replace("3.5,9.25", "3.5,9.26", 1))
    said = refused(f"run={run}")
    assert "the data are not those the checkpoint was trained on" in said
    assert "restore" in said


def test_data_that_hold_a_nan(copy, refused):
    run, table = _own_table(copy)
    table.write_text(table.read_text().replace("3.5,9.25", "3.5,nan", 1))
    assert re.search(r"a\.csv.*(line|row) \d+", refused(f"run={run}"))


def test_data_that_are_gone(copy, refused):
    run, table = _own_table(copy)
    table.unlink()
    assert "a.csv" in refused(f"run={run}")


def test_a_run_that_may_not_be_written(copy, monkeypatch, tmp_path):
    run = copy("vae")
    before = contents(run)
    mkdir = Path.mkdir

    def forbidden(path, *args, **settings):
        if path.is_relative_to(run):
            raise PermissionError(13, "Permission denied", str(path))
        mkdir(path, *args, **settings)

    monkeypatch.setattr(Path, "mkdir", forbidden)
    done = evaluated(run, "limit=2", "k=20")
    assert done.code in (1, 2)
    assert re.fullmatch(r".*(ermission|written).*", done.err.strip()), "one sentence"
    assert contents(run) == before


def test_the_newest_intact_weights_stand_in_for_the_best_ones(copy):
    run = copy("vae")
    folder = run / "checkpoints"
    (folder / "best.ckpt").rename(folder / "recent-epoch=00000-step=00000011.ckpt")
    (folder / "recent-epoch=00001-step=00000022.ckpt").write_bytes(b"torn")
    assert evaluated(run, "limit=2", "k=20").code == 0
    about = json.loads((run / "evaluation" / "result.json").read_text())["checkpoint"]
    assert about["file"] == "recent-epoch=00000-step=00000011.ckpt"


def test_a_mistake_is_told_before_torch_is_loaded(programs, tmp_path):
    script = (
        "import sys; sys.argv = ['evaluate.py', 'k=0', 'run=x']; from pathlib import Path; from taut.cli import main; "
        f"code = main('evaluate', Path({str(ROOT / 'conf')!r}), 'taut.commands.evaluate:evaluate'); "
        "sys.exit(code if not {'torch', 'lightning', 'wandb', 'numpy'} & set(sys.modules) else 9)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=tmp_path).returncode == 2
    assert not list(tmp_path.iterdir())


def _target(log_joint=None, q=None):
    prior = Independent(Normal(torch.zeros(2), 1.0), 1)

    def joint(x, z):
        return prior.log_prob(z) + Normal(z, 1.0).log_prob(x).sum(-1)

    return Target(log_joint or joint, q or (lambda x: Independent(Normal(x / 2, 0.5**0.5), 1)), prior=prior)


X = torch.tensor([[0.5, 1.0], [2.0, -1.0], [0.0, 0.3]])
NO_MASS = _target(log_joint=lambda x, z: torch.full(z.shape[:2], -torch.inf))


@pytest.mark.parametrize("estimator", [Importance(64), Naive(64), Uniform(64)])
def test_no_mass_at_all_is_minus_infinity_and_said(estimator):
    found = estimator(NO_MASS, X)
    assert found.value.tolist() == [-math.inf] * 3
    assert found.diagnostics["ess"].tolist() == [0.0] * 3
    assert not any(values.isnan().any() for name, values in found.diagnostics.items() if name in ("ess", "max_weight"))
    assert not found.variance.isnan().any()
    answer = simple_answer(found)
    result = assessed(answer, 0.95, annealable=True)
    score = result["evidence"][found.name]
    assert score["value"] == -math.inf
    assert "no mass found" in score["doubts"]
    assert any("mass" in sentence and found.name in sentence for sentence in result["warnings"])
    assert plain(result)["evidence"][found.name]["value"] is None
    assert columns(answer, None)[found.name].tolist() == [-math.inf] * 3


@pytest.mark.parametrize("estimator", [Jackknife(64), Struski(64), Sumo(4)])
def test_no_mass_at_all_is_never_nan(estimator):
    found = estimator(NO_MASS, X)
    assert not found.value.isnan().any()
    assert (found.value == -math.inf).all() if found.kind != "upper" else not found.value.isfinite().any()
    assert assessed(simple_answer(found), 0.95, annealable=True)["evidence"][found.name]["doubts"]


def simple_answer(found: LogEvidence) -> EvalResult:
    """One estimator of three data beside an ELBO."""
    elbo = LogEvidence("elbo", "lower", torch.full((3,), -9.0).double(), torch.ones(3).double())
    return EvalResult(elbo, [found], torch.zeros(21, 3, dtype=torch.float64))


def test_half_the_mass_lost_is_finite():
    def joint(x, z):
        whole = _target().log_joint(x, z)
        return torch.where(z[..., 0] > 0, whole, -torch.inf)

    found = Importance(256)(_target(log_joint=joint), X)
    assert found.value.isfinite().all()
    assert (found.diagnostics["ess"] > 1).all()


def test_a_datum_that_is_not_finite_is_named():
    for bad in (math.nan, math.inf, -math.inf):
        x = X.clone()
        x[1, 0] = bad
        for estimator in (Importance(4), AIS(2, 2, 1), Struski(8)):
            with pytest.raises(UserError, match=r"^Row 1 of x holds a NaN or an infinite value; remove or replace"):
                estimator(_target(), x)
        with pytest.raises(UserError, match=r"^Row 7 of x"):
            Rows(_target(), x, torch.tensor([3, 7, 9]))


def test_a_model_that_gives_no_number_is_told_with_its_row():
    def joint(x, z):
        return torch.where(x[:, 0] > 1, torch.nan, _target().log_joint(x, z))

    question = EvalTask(_target(log_joint=joint), X, "test", 0, 8)
    with pytest.raises(RunError, match=r"of row 1 is nan"):
        measure(question, [Importance(8)], Processes(), Stages(False).stage("test", 3))


def test_a_density_without_a_bound_is_told_with_its_row():
    """A mean of +inf would be printed as the best lower bound of all."""

    def joint(x, z):
        return torch.where(x[:, 0] > 1, torch.inf, _target().log_joint(x, z))

    question = EvalTask(_target(log_joint=joint), X, "test", 0, 8)
    with pytest.raises(RunError, match=r"importance of row 1 is inf: .* its density has no bound there"):
        measure(question, [Importance(8)], Processes(), Stages(False).stage("test", 3))


@pytest.mark.parametrize("k", [0, -1, True])
@pytest.mark.parametrize("estimator", [Importance, Naive, Struski, Jackknife])
def test_no_number_of_samples(estimator, k):
    with pytest.raises(UserError, match=r"must be .*, got "):
        estimator(k)
