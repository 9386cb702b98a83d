"""``taut``: the commands as one installed program, from any folder, and what it says of itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from taut import __main__ as program_of_taut
from taut.commands import completion, doctor
from taut.commands.sweep.supervise import Command
from taut.config import program
from taut.config.overrides import child_command
from taut.config.program import Program, conf, extra, typed

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("command_in_process")


@pytest.fixture
def taut(monkeypatch, capsys):
    """Type ``taut`` and words; the exit code, and what is printed."""

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["/somewhere/bin/taut", *words])
        try:
            code = program_of_taut.main()
        except SystemExit as error:  # argparse leaves by itself
            code = error.code
        return code, *(text.strip() for text in capsys.readouterr())

    return command


def test_a_command_that_does_not_exist_is_refused_with_the_nearest(taut):
    assert taut("evalute") == (2, "", "There is no command evalute; did you mean evaluate?")
    assert taut("completion", "fsh") == (2, "", "There is no completion for fsh; did you mean fish?")
    assert taut("doctor", "now") == (2, "", "taut doctor takes no words, got now.")


def test_every_command_is_in_the_help_and_can_be_called(taut):
    code, out, _ = taut("--help")
    assert code == 0
    for name in (*program_of_taut.COMPOSED, *program_of_taut.OTHERS):
        assert f"taut {name}" in out
        code, said, _ = taut(name, "--help")
        assert (code, f"taut {name}" in said, "python " in said) == (0, True, False), name
        assert name in completion.COMMANDS.split()


def test_a_mistake_is_one_sentence_that_names_the_command_as_it_was_typed(taut):
    assert taut("train", "k=0") == (2, "", "k must be an integer >= 1, got 0.")
    assert taut("report", "--out", "x")[2].endswith("see taut report --help.")


@pytest.mark.parametrize(
    ("started", "train", "sweep"),
    [
        ("/somewhere/bin/taut", "taut train", f"pip install -e '{program.REPOSITORY}[sweep]'"),
        ("C:/Scripts/taut.exe", "taut train", f"pip install -e '{program.REPOSITORY}[sweep]'"),
        (str(program.PACKAGE / "__main__.py"), "taut train", f"pip install -e '{program.REPOSITORY}[sweep]'"),
        ("train.py", "python train.py", "pip install -c constraints.txt -e '.[sweep]'"),
        ("/elsewhere/pytest/__main__.py", "python train.py", "pip install -c constraints.txt -e '.[sweep]'"),
    ],
)
def test_sentences_name_what_was_started(started, train, sweep, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started])
    assert (typed("train"), extra("sweep")) == (train, sweep)


def test_extras_of_a_wheel_are_installed_by_the_names_of_their_packages(monkeypatch, tmp_path):
    """No index has taut, and the folder that the wheel was built in may be gone."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/taut"])
    monkeypatch.setattr(program, "REPOSITORY", tmp_path)
    needed = [
        "torch>=2",
        'optuna<6,>=4.2; extra == "optuna"',
        "cmaes>=0.11; extra == 'optuna'",
        "zuko; extra == 'flow'",
    ]
    monkeypatch.setattr(program.metadata, "requires", {"taut": needed}.__getitem__)
    assert extra("optuna") == "pip install 'optuna<6,>=4.2' 'cmaes>=0.11'"
    assert extra("flow") == "pip install zuko"


def test_a_wheel_has_its_own_configs_and_no_scripts(monkeypatch, tmp_path):
    (tmp_path / "site" / "taut" / "conf").mkdir(parents=True)
    monkeypatch.setattr(program, "PACKAGE", tmp_path / "site" / "taut")
    monkeypatch.setattr(program, "REPOSITORY", tmp_path)
    monkeypatch.setattr(sys, "argv", ["notebook"])
    assert conf() == tmp_path / "site" / "taut" / "conf"
    assert typed("train") == "taut train"


def test_the_page_of_commands_names_those_that_there_are():
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL))
    named = set(re.findall(r"^(?:eval \"\$\()?taut ([\w-]+)", blocks, re.MULTILINE))
    assert {"train", "doctor", "completion", "--help"} <= named
    assert named <= {*program_of_taut.COMPOSED, *program_of_taut.OTHERS, "--help"}


def test_jobs_and_other_processes_start_as_the_command_did(monkeypatch, tmp_path):
    """A job carries the words that start it, since on a cluster another program runs it."""
    installed = [sys.executable, "-P", "-m", "taut"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/taut", "k=2"])
    monkeypatch.setattr("taut.config.overrides.HydraConfig.get", lambda: _Named("complete"))
    assert child_command(".")[:6] == [*installed, "complete", "k=2"]
    job = Command(tmp_path, [], Program.started("train", ROOT))
    assert (job.program.start(), job.program.start("evaluate")) == ([*installed, "train"], [*installed, "evaluate"])
    assert Program.started("train").again == "taut train"

    script = tmp_path / "train.py"
    script.touch()
    monkeypatch.setattr(sys, "argv", ["train.py"])
    started = Program.started("train", ROOT)
    assert started.start("evaluate") == [sys.executable, str(tmp_path / "evaluate.py")]
    assert (started.start(), started.again) == ([sys.executable, str(script)], "python train.py")


class _Named:
    def __init__(self, name):
        self.job = self
        self.name = name


def test_the_doctor_tells_what_is_broken_and_no_secret(taut, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", "ab12" * 10)
    monkeypatch.setenv("TAUT_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "250")
    (tmp_path / "mnist").mkdir()
    code, out, _ = taut("doctor")
    assert code == 0
    assert out.endswith("everything that is required is there")
    assert f"{tmp_path} (TAUT_DATA): mnist" in out
    assert "an API key is there" in out
    assert "ab12ab12" not in out
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setattr(doctor, "OPTIONAL", {"submitit": ("no_such_module", "sweep", "launcher=slurm")})
    code, out, _ = taut("doctor")
    assert (code, out.splitlines()[-1]) == (1, "broken: lightning")
    assert f"not installed; launcher=slurm needs it: pip install -e '{program.REPOSITORY}[sweep]'" in out


COMPLETED = {
    "taut ev": "evaluate",
    "taut completion f": "fish",
    "taut train prior=v": "vamp",
    "taut evaluate evidence.im": "evidence.importance.",
}
"""Lines, with what the tab key makes of their last word; bash takes what stands behind = for a word."""
BASH = """
taut() { "$PYTHON" -P -m taut "$@"; }
COMP_WORDBREAKS=$' \\t\\n=:' COMP_LINE="$LINE" COMP_POINT=${#LINE}
read -ra COMP_WORDS <<<"${LINE//=/ = }"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_taut
echo "${COMPREPLY[*]}"
"""


@pytest.mark.parametrize("line", COMPLETED)
def test_bash_completes(programs, line, tmp_path):
    done = subprocess.run(
        ["bash", "-c", completion.BASH.replace("COMMANDS", completion.COMMANDS) + BASH],
        env={"PATH": "/usr/bin:/bin", "LINE": line, "PYTHON": sys.executable, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.stdout.split() == [COMPLETED[line]], done.stdout + done.stderr


@pytest.mark.parametrize("words", ["--help", "new --help", "export --help", "completion bash", "report --help"])
def test_a_reader_that_has_gone_is_no_error(words, programs):
    """As in ``taut new --help | head -0``."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "taut", *words.split()], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
