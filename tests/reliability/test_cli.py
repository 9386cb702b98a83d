"""Every mistake has one decided outcome: one sentence, exit code 2, nothing left behind."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from pkgutil import resolve_name

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from pieces import names

from taut.__main__ import COMPOSED as COMPOSED_COMMANDS
from taut.cli import main
from taut.config import check as taut_check
from taut.config import resume
from taut.errors import UserError
from taut.runtime import workers
from taut.training.checkpoint import seal

ROOT = Path(__file__).resolve().parents[2]
KEY = "ab12" * 10
pytestmark = pytest.mark.usefixtures("command_in_process")
EMPTY_ZIP = b"PK\5\6" + bytes(18)


@pytest.fixture
def taut(monkeypatch, capsys):
    """Run one command in this process; the training is ``entry``."""

    def command(*words, entry=lambda cfg: None):
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        code = main("train", ROOT / "conf", entry)
        return code, capsys.readouterr().err.strip()

    return command


MISTAKES = {
    "k=0": "an integer >= 1",
    "k=-1": "an integer >= 1",
    "k=1.5": "must be an integer >= 1, got",
    "k=true": "must be an integer >= 1, got",
    "k=abc": "must be an integer >= 1, got",
    "model=iwae objective.backward=0": "all, or an integer >= 1",
    "model=iwae objective.backward=some": "all, or an integer >= 1",
    "model=iwae objective.backward=true": "all, or an integer >= 1",
    "k='\"10\"'": "must be an integer >= 1, got",
    "k=": "must be an integer >= 1, got",
    "k=null": "must be an integer >= 1, got",
    "k={a:1}": "must be an integer >= 1, got",
    "k=1000000000": "GiB",
    "k_test=100000000000": "GiB",
    "latent_dim=0": "an integer >= 1",
    "model=mog model.components=0": "an integer >= 1",
    "q=mixture q.components=0": "q.components must be an integer >= 1, got 0.",
    "prior=vamp prior.components=0": "prior.components must be an integer >= 1, got 0.",
    "prior=uniform prior.components=0": "prior.components must be an integer >= 1, got 0.",
    "likelihood=discretised_logistic likelihood.components=0": "likelihood.components must be an integer >= 1, got 0.",
    "model=mog model.n_init=0": "an integer >= 1",
    "model=mog objective.tolerance=-1": "a number >= 0",
    "likelihood=gaussian likelihood.min_variance=0": "above 0",
    "likelihood=gaussian likelihood.min_variance=-1": "above 0",
    "likelihood=gaussian likelihood.min_variance=nan": "above 0",
    "optimizer.lr=0": "above 0",
    "optimizer.lr=nan": "above 0",
    "optimizer.lr=inf": "above 0",
    "optimizer.lr=-0.1": "above 0",
    "trainer.max_epochs=0": "an integer >= 1",
    "trainer.max_epochs=-1": "an integer >= 1",
    "trainer.gradient_clip_val=0": "above 0",
    "data.batch_size=0": "an integer >= 1",
    "network.hidden=[0]": "integers >= 1",
    "mask=random mask.rate=0": "between 0 and 1",
    "mask=random mask.rate=1": "between 0 and 1",
    "mask=random mask.rate=2": "between 0 and 1",
    "mask=random mask.rate=-1": "between 0 and 1",
    "mask=random mask.rate=nan": "between 0 and 1",
    "mask=square mask.side=0": "above 0 and at most 1",
    "mask=square mask.side=1.5": "above 0 and at most 1",
    "mask=quadrants mask.quarters=[]": "one or more of upper_left",
    "mask=quadrants mask.quarters=[middle]": "one or more of upper_left",
    "mask=quadrant": "did you mean quadrants?",
    "threads=0": "an integer from 1 to 1,024",
    "seed=-1": "0 to 4294967295",
    "seed=4294967296": "0 to 4294967295",
    "threads=100000": "from 1 to 1,024",
    "trainer.max_steps=0": "an integer >= 1, or -1 for no limit",
    "trainer.max_time=1h": "days:hours:minutes:seconds",
    "trainer.fast_dev_run=-1": "true, false or a number of batches",
    "trainer.limit_val_batches=-1": "a part of them (a number from 0.0 to 1.0)",
    "trainer.profiler=fast": "simple, advanced, pytorch or null",
    "logger.tags=paper": "a list of words of 1 to 64 characters",
    f"logger.tags=[{'a' * 65}]": "a list of words of 1 to 64 characters",
    "logger=null": "choose among csv, mlflow, tensorboard, wandb, or leave it out",
    "callbacks.speed=/": "callbacks.speed must be what a file of conf/callbacks describes",
    "q.x_shape=[1]": "is read from the data",
    "optimizer._partial_=0": "true or false",
    "lr=1": "did you mean optimizer.lr?",
    "+lr=1": "did you mean optimizer.lr?",
    "data.columns={a": "quote it: 'data.columns=\"{a\"'",
    "kk=5": "did you mean k?",
    "+kk=5": "did you mean k?",
    "++kk=5": "did you mean k?",
    "latnt_dim=5": "did you mean latent_dim?",
    "network.hiden=[1]": "did you mean network.hidden?",
    "trainer.max_epoch=3": "did you mean trainer.max_epochs?",
    "sweep=k_grid": "+sweep=",
    "+sweep=k_gird": "did you mean k_grid?",
    "modle=vae": "did you mean model?",
    "model=vea": "did you mean vae?",
    "data=minst": "did you mean mnist?",
    "q=normal": "did you mean diagonal?",
    "q=gaussian": "did you mean diagonal?",
    "q=mean_field": "did you mean diagonal?",
    "strategy=cuda": "did you mean gpu?",
    "data=csv": "did you mean table?",
    "objective=vae": "did you mean elbo?",
    "model=not_miwae": "did you mean likelihood=self_masking?",
    "likelihood=not_miwae": "did you mean self_masking?",
    "model=gmm": "did you mean mog?",
    "prior=gauss": "did you mean normal?",
    "prior=gaussian": "did you mean normal?",
    "likelihood=normal": "did you mean gaussian?",
    "likelihood=nb": "did you mean negative_binomial?",
    "objective=wake_sleep": "did you mean rws?",
    "objective=renyi": "did you mean vr_iwae?",
    "K=5": "did you mean k?",
    "+K=5": "did you mean k?",
    "epochs=3": "did you mean trainer.max_epochs?",
    "objective=xyzzy": "choose among",
    "experiment=none_such": "none_such is not known",
    "hydra/launcher=none_such": "choose among basic",
    "k=1,2": "add -m",
    "k": "key=value",
    "k=[1": "[1",
    "~k": "k is missing",
    "k=${nope}": "nope",
    "k=${k}": "ecursive",
    "k=${k_eval} k_eval=${k}": "ecursive",
    "hydra.run.dir=${nope}": "nope",
    "optimizer._target_=os.system": "os.system",
    "+trainer.plugins=[{_target_: os.system, _args_: [touch canary]}]": "os.system",
    "+hydra.callbacks.x._target_=os.system": "os.system",
    "+hydra.callbacks.x=${optimizer} optimizer._target_=os.system": "os.system",
    "hydra.job_logging.handlers.console.class=subprocess.Popen": "subprocess.Popen",
    f"+logger.api_key={KEY}": "secret",
    f"logger.project={KEY}": "secret",
    "+sweep=wandb_grid": "wandb sweep sweeps/wandb_grid.yaml",
    "--hepl": "did you mean --help?",
    "--cfg nope": "choose from 'job'",
    "--config-dir": "expected one argument",
    "--config-dir none_such": "none_such",
    "--experimental-rerun job.pickle": "resume",
    "resume=none_such": "not the folder of a run",
    "resume=.": "not the folder of a run",
    "-m resume=.": "a sweep takes resume=true",
    "hydra.run.dir=/proc/none_such": "none_such",
    "hydra.run.dir=/dev/null": "/dev/null",
}


def words_of(command):
    return [command] if "plugins" in command else command.split(" ")


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(command, taut, tmp_path):
    def never(cfg):
        raise AssertionError("training started")

    code, said = taut(*words_of(command), entry=never)
    assert code == 2
    assert MISTAKES[command] in said
    assert said.count("\n") == 0
    assert "Traceback" not in said
    assert KEY not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["seed=0"],
        ["seed=4294967295"],
        ["data.batch_size=null"],
        ["+trainer.max_time=null"],
        *(["mask=" + name] for name in names("mask")),
    ],
)
def test_what_is_right_is_run(words, taut):
    seen = []
    assert taut(*words, "hydra.run.dir=run", entry=seen.append) == (0, "")
    assert len(seen) == 1


def test_jobs_in_one_process_are_not_several_processes_each(tmp_path, monkeypatch, capsys):
    for name in "ab":
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra" / "overrides.yaml").write_text("[]")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "-m", "run=a,b", "strategy=ddp_cpu"])
    assert main("evaluate", ROOT / "conf", lambda cfg: 1 / 0) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "Several processes (strategy=ddp) and -m do not go together here" in said
    assert sorted(tmp_path.rglob("*")) == before


def refusing(cfg):
    raise UserError(f"k={cfg.k} does not go with the data; choose another.")


def test_a_refusal_while_building_leaves_nothing_either(taut, tmp_path):
    assert taut("hydra.run.dir=a/b/c", entry=refusing) == (2, "k=1 does not go with the data; choose another.")
    assert not list(tmp_path.iterdir())


def test_a_refusal_removes_no_folder_of_others(taut, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    assert taut("hydra.run.dir=mine", entry=refusing)[0] == 2
    assert taut("hydra.run.dir=mine/deep/run", entry=refusing)[0] == 2
    assert (tmp_path / "mine" / "thesis.tex").exists()
    assert not (tmp_path / "mine" / "deep").exists()


def test_a_refusal_after_training_began_keeps_the_folder(taut, tmp_path):
    def entry(cfg):
        (tmp_path / "run" / "metrics.csv").touch()
        refusing(cfg)

    assert taut("hydra.run.dir=run", entry=entry)[0] == 2
    assert (tmp_path / "run" / "metrics.csv").exists()


def test_a_run_is_never_written_over(taut, tmp_path):
    assert taut("hydra.run.dir=run")[0] == 0
    before = (tmp_path / "run" / ".hydra" / "overrides.yaml").read_bytes()
    code, said = taut("hydra.run.dir=run", "k=3")
    assert code == 2
    assert "holds a run already" in said
    assert (tmp_path / "run" / ".hydra" / "overrides.yaml").read_bytes() == before


def test_an_unexpected_error_keeps_its_traceback(taut):
    code, said = taut("hydra.run.dir=run", entry=lambda cfg: 1 / 0)
    assert code == 1
    assert "ZeroDivisionError" in said
    assert said.endswith("resume=run")


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(130), 130), (SystemExit(143), 143)]
)
def test_a_stopped_run_says_how_to_go_on(error, code, taut):
    def entry(cfg):
        raise error

    got, said = taut("hydra.run.dir=my run", entry=entry)
    assert got == code
    assert said.splitlines()[-1].endswith("python train.py 'resume=my run'")


def test_a_full_disk_is_told_in_one_sentence(taut):
    def entry(cfg):
        raise OSError(28, "No space left on device", "run/checkpoints/x.ckpt")

    code, said = taut("hydra.run.dir=run", entry=entry)
    assert code == 1
    assert said.startswith("The disk failed: No space left on device")
    assert said.endswith("resume=run")


def test_yaml_that_unfolds_without_end_is_refused(taut, tmp_path):
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    for name, text in {"bomb": "\n".join(bomb), "loop": "a: &a [*a]", "torn": "a: [", "latin": "a: \xe9"}.items():
        folder = tmp_path / name / "model"
        folder.mkdir(parents=True)
        (folder / "own.yaml").write_bytes(text.encode("latin-1"))
        started = time.monotonic()
        code, said = taut("--config-dir", name, "model=own")
        assert code == 2
        assert "own.yaml" in said
        assert "\n" not in said
        assert time.monotonic() - started < 2


COMPOSED = {
    "hydra.run.dir=run": (1, 1),
    "k=0": (1, 1),
    "-m run=a,b": (1 + 2 * 2, 2),
    "hydra.mode=MULTIRUN run=a": (2 + 2, 1),
    "resume=earlier k_test=2": (3, 1),
    "--help": (1, 0),
    "--cfg job": (0, 0),
}
"""How often a command composes a config, and checks one.

Hydra's sweeper composes each job twice, to validate all of them first, and each is checked once. Without -m a sweep
composes once more, to learn that it is one. A run that is resumed composes what was typed, which may ask for a sweep,
what the run was started with, and what it goes on with. Help shows what was composed; --cfg is Hydra's own alone.
"""


@pytest.mark.parametrize("words", COMPOSED)
def test_a_config_is_composed_once_and_checked_once(words, taut, tmp_path, monkeypatch):
    counts = {"composed": 0, "checked": 0}

    def counted(name, function):
        def call(*args, **settings):
            counts[name] += 1
            return function(*args, **settings)

        return call

    assert taut("hydra.run.dir=earlier")[0] == 0
    for name in "ab":
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra" / "overrides.yaml").write_text("[]")
    loader = resolve_name("taut.config.compose:_Loader")  # which judges every config that Hydra has composed
    monkeypatch.setattr(loader, "_check", counted("composed", loader._check))
    monkeypatch.setattr(taut_check, "check_targets", counted("checked", taut_check.check_targets))
    command = "evaluate" if "run=a" in words else "train"
    monkeypatch.setattr(sys, "argv", [f"{command}.py", *words.split()])
    assert main(command, ROOT / "conf", lambda cfg: None) == (2 if words == "k=0" else 0)
    assert (counts["composed"], counts["checked"]) == COMPOSED[words]


def test_the_config_of_a_job_says_no_more_of_hydra_than_any_other(monkeypatch, tmp_path, capsys):
    """The file is chosen for a job alone, so no other config of the command holds it."""
    theirs = tmp_path / "theirs" / "experiment"
    theirs.mkdir(parents=True)
    (theirs / "evil.yaml").write_text("# @package _global_\nhydra: {job: {env_set: {EVIL: '1'}}}\n")
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "-m", "run=a", "--config-dir=theirs", "experiment=evil,gap"])
    called = []
    assert main("evaluate", ROOT / "conf", called.append) == 2
    assert f"hydra.job.env_set.EVIL comes from {theirs}/evil.yaml" in capsys.readouterr().err
    assert (called, "EVIL" in os.environ) == ([], False)


@pytest.mark.parametrize("command", ["train", "evaluate", "complete", "audit"])
def test_the_file_that_is_started_names_the_function_that_runs(command):
    named = re.findall(r'"(taut\.[\w.]+:\w+)"', (ROOT / f"{command}.py").read_text())
    assert named[0] == f"taut.commands.{command}:{command}"
    assert named == [name for name in COMPOSED_COMMANDS[command] if name], "taut does what the script does"
    assert all(callable(resolve_name(name)) for name in named)


def test_hydra_describes_a_run_as_it_always_did(programs, taut, tmp_path):
    """What was composed ahead is what Hydra composes itself."""
    words = ["seed=3", "model=mog", "hydra.run.dir=run"]
    assert taut(*words)[0] == 0
    script = (
        "import hydra, sys, taut.config.compose\n"
        "from taut.config.releases import VERSION_BASE\n"
        f"sys.argv = ['train.py', *{words!r}, 'hydra.run.dir=theirs']\n"
        f"hydra.main(**VERSION_BASE, config_path={str(ROOT / 'conf')!r}, config_name='train')(lambda cfg: None)()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    for name in ("config.yaml", "hydra.yaml", "overrides.yaml"):
        theirs = (tmp_path / "theirs" / ".hydra" / name).read_text()
        theirs = theirs.replace("    - hydra.run.dir=run\n    - hydra.run.dir=theirs\n", "    - hydra.run.dir=run\n")
        assert (tmp_path / "run" / ".hydra" / name).read_text() == theirs.replace("theirs", "run")


def finish(cfg):
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / "result.json").write_text(json.dumps({"status": "finished", "epochs": cfg.trainer.max_epochs}))


def test_resume_repeats_the_words_and_leaves_the_original_config(taut, tmp_path):
    seen = []
    taut("hydra.run.dir=run", "k=3", "+trainer.max_time=null", entry=seen.append)
    files = {path: path.read_bytes() for path in (tmp_path / "run" / ".hydra").iterdir()}
    assert taut("resume=run/", entry=seen.append)[0] == 0
    first, second = seen
    assert second.resume == str(tmp_path / "run")
    second.resume = None
    assert first == second
    assert {path: path.read_bytes() for path in (tmp_path / "run" / ".hydra").iterdir()} == files


def test_a_finished_run_is_left_alone_until_it_is_extended(taut, tmp_path):
    taut("hydra.run.dir=run", entry=finish)
    code, said = taut("resume=run", entry=refusing)
    assert code == 0
    assert "is finished" in said
    epochs = []

    def stop(cfg):
        """As a training that begins and is then asked to stop."""
        epochs.append(cfg.trainer.max_epochs)
        resume.record(tmp_path / "run", HydraConfig.get().overrides.task, cfg)
        raise SystemExit(143)

    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "recent-step=1.ckpt").write_bytes(seal(EMPTY_ZIP))
    assert taut("resume=run", "trainer.max_epochs=70", entry=refusing)[0] == 2
    assert (tmp_path / "run" / "result.json").exists(), "a refused extension takes nothing away"
    assert taut("resume=run", "trainer.max_epochs=70", entry=stop)[0] == 143
    assert not (tmp_path / "run" / "result.json").exists()
    assert taut("resume=run", entry=finish)[0] == 0, "an extension that was stopped is still an extension"
    assert epochs == [70]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 70


def test_resume_refuses_configs_that_changed(taut, tmp_path):
    taut("hydra.run.dir=run")
    path = tmp_path / "run" / ".hydra" / "config.yaml"
    stored = yaml.safe_load(path.read_text())
    stored["optimizer"]["lr"] = 0.5
    path.write_text(yaml.safe_dump(stored))
    code, said = taut("resume=run", entry=refusing)
    assert code == 2
    assert "optimizer.lr" in said
    path.with_name("overrides.yaml").write_text("{a: 1}")
    assert taut("resume=run")[0] == 2


def test_resume_with_a_model_of_another_shape_is_refused(taut):
    def entry(cfg):
        raise RuntimeError("Error(s) in loading state_dict for VAE:\n\tsize mismatch")

    code, said = taut("hydra.run.dir=run", entry=entry)
    assert code == 2
    assert "another shape" in said


@pytest.mark.parametrize(
    ("words", "code"), [(["k=0"], 2), (["--help"], 0), (["model=vea"], 2), (["--cfg", "job", "--resolve"], 0)]
)
def test_real_commands_answer_at_once_from_any_folder(programs, words, code, tmp_path):
    started = time.monotonic()
    done = subprocess.run([sys.executable, ROOT / "train.py", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert time.monotonic() - started < 10, "0.5 s on an idle machine; torch alone would take more than this bound"
    assert not list(tmp_path.iterdir())
    assert "train" in done.stdout if code == 0 and words[0] == "--help" else True


@pytest.mark.parametrize(("word", "code", "light"), [("k=0", 2, []), ("--help", 0, ["pydantic", "joblib"])])
def test_what_is_answered_at_once_imports_nothing_heavy(programs, word, code, light):
    heavy = ["torch", "lightning", "wandb", "numpy", *light]
    script = (
        f"import sys; sys.argv = ['train.py', {word!r}]; from pathlib import Path; from taut.cli import main; "
        f"code = main('train', Path({str(ROOT / 'conf')!r}), 'taut.commands.train:train'); "
        f"sys.exit(code if not set({heavy!r}) & set(sys.modules) else 9)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == code


@pytest.mark.parametrize("command", ["train", "evaluate", "complete", "audit"])
def test_help_shows_the_groups_of_its_command_their_choices_and_examples(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{command}.py", "--help"])
    assert main(command, ROOT / "conf", f"taut.commands.{command}:{command}") == 0
    said = capsys.readouterr().out
    assert said.count(f"\n  python {command}.py ") >= 3
    choices = in_columns(said.split("Groups and their choices\n\n")[1].split("\n\n")[0])
    assert ("evidence" in choices) == (command != "train")
    assert ("model" in choices) == ("sweep" in choices) == (command == "train")
    for group, found in choices.items():
        files = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
        assert set(found) == {name for name in files if not name.startswith("wandb_")}


def in_columns(text):
    """The choices of every group, read from the columns of ``--help``."""
    groups, group = {}, ""
    second = len(re.match(r"\w+ +", text)[0])
    for line in text.splitlines():
        group = line[:second].strip() or group
        name = re.match(r"\w+", line[second:])
        groups.setdefault(group, []).extend([name[0]] if name else [])
    return groups


def test_flags_may_stand_behind_words(taut, tmp_path):
    code, said = taut("k=0,-1", "-m", "seed=0,1")
    assert (code, said) == (2, "k must be an integer >= 1, got 0.")


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("mod", {"model=", "model."}), ("model=", {"model=fa", "model=iwae", "model=mog", "model=ppca", "model=vae"})],
)
def test_the_tab_key_completes_words(typed, completed, monkeypatch, capsys):
    line = f"python train.py {typed}"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    monkeypatch.setattr(sys, "argv", ["train.py", "-sc", "query=bash"])
    assert main("train", ROOT / "conf", "taut.commands.train:train") == 0
    assert set(capsys.readouterr().out.split()) == completed


SENTENCE = "k=1 does not go with the data; choose another."


@pytest.mark.parametrize(
    ("launcher", "said"),
    [
        ({"LOCAL_RANK": "1"}, SENTENCE),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, f"process 1: {SENTENCE}"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}, f"process 1: {SENTENCE}"),
    ],
    ids=["by hand", "torchrun", "srun"],
)
def test_another_process_than_the_first_is_heard_and_cleans_nothing(launcher, said, taut, tmp_path, monkeypatch):
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    words = ["hydra.run.dir=run", "hydra.output_subdir=null", "strategy=ddp_cpu"]
    assert taut(*words, entry=refusing) == (2, said)
    assert os.listdir(tmp_path) == ["run"]


def test_a_process_started_by_the_first_tells_it_alone_and_cleans_nothing(taut, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    ears, mouth = socket.socketpair()
    with ears, mouth:
        monkeypatch.setattr(workers, "_to_first", mouth)
        assert taut("hydra.run.dir=run", "hydra.output_subdir=null", entry=refusing) == (2, "")
        assert ears.recv(1 << 10).decode() == SENTENCE
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("where", ["config folder", "run folder", "typed"])
def test_only_the_user_sets_the_environment(taut, tmp_path, monkeypatch, where):
    """A variable such as LD_PRELOAD loads any library."""
    monkeypatch.delenv("TAUT_TEST_ENVIRONMENT", raising=False)
    met = []

    def entry(cfg):
        met.append(os.environ.get("TAUT_TEST_ENVIRONMENT"))

    word = "+hydra.job.env_set.TAUT_TEST_ENVIRONMENT=x"
    if where == "config folder":
        (tmp_path / "experiment").mkdir()
        text = "# @package _global_\nhydra: {job: {env_set: {TAUT_TEST_ENVIRONMENT: x}}}\n"
        (tmp_path / "experiment" / "theirs.yaml").write_text(text)
        words = ["--config-dir", str(tmp_path), "experiment=theirs"]
    elif where == "run folder":
        assert taut("hydra.run.dir=run", "seed=1")[0] == 0
        with (tmp_path / "run" / ".hydra" / "overrides.yaml").open("a") as file:
            file.write(f"- {word}\n")
        words = ["resume=run", "trainer.max_epochs=3"]
    else:
        words = [word]
    code, said = taut(*words, entry=entry)
    if where == "typed":
        assert (code, said, met) == (0, "", ["x"])
        return
    assert (code, met) == (2, [])
    file = "experiment/theirs.yaml" if where == "config folder" else "run/.hydra/overrides.yaml"
    assert said.startswith(f"hydra.job.env_set.TAUT_TEST_ENVIRONMENT comes from {tmp_path / file}, ")
    assert len(said.splitlines()) == 1
