"""The dashboard as code: what is saved is what was reviewed, and what goes wrong is one sentence."""

import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from taut.commands.dashboard.command import main, parsed
from taut.commands.dashboard.pages import sections
from taut.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("pages.json")
WORDS = ["entity=me", "project=taut", "sweep=outputs/sweeps/k_grid"]
DUMMY = "0123456789" * 4


def pages(path: Path) -> str:
    """Without the random names W&B gives panels and sets of runs."""
    return re.sub(r'("(?:__id__|id|ref|viewId)": )"[a-z0-9]{6,}"', r'\1""', path.read_text())


@pytest.fixture
def written(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")  # what the command sets is undone with the rest
    assert main([*WORDS, f"out={tmp_path / 'pages.json'}"]) == 0
    return tmp_path / "pages.json"


def test_the_pages_are_those_that_were_reviewed(written):
    renew = f"python dashboard.py {' '.join(WORDS)} out={SNAPSHOT.relative_to(ROOT)}"
    assert pages(written) == pages(SNAPSHOT), f"look at the difference; if it is meant: {renew}"


def test_the_first_section_is_the_gap_and_every_panel_has_a_place_of_its_own(written):
    sections = json.loads(written.read_text())["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections][:2] == ["Gap against K", "Bracket of log p(x)"]
    assert sections[0]["isOpen"]
    for section in sections:
        places = [(panel["layout"]["x"], panel["layout"]["y"]) for panel in section["panels"]]
        assert len(set(places)) == len(places) > 0


def test_a_sweep_shows_its_own_runs_alone(written):
    found = json.loads(written.read_text())
    grids = [block["metadata"] for block in found["report"]["spec"]["blocks"] if block["type"] == "panel-grid"]
    sets = [found["workspace"]["spec"]["section"]["runSets"][0], *(grid["runSets"][0] for grid in grids)]
    assert len(sets) > 5
    for runs in sets:
        (only,) = runs["filters"]["filters"]
        assert (only["key"], only["op"], only["value"]) == ({"section": "run", "name": "group"}, "=", "k_grid")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["entty=me"], "There is no key entty; did you mean entity?"),
        (["--dryrun"], "There is no flag --dryrun; did you mean --dry-run?"),
        (["entity"], "There is no key entity"),
        (["entity="], "entity= has no value"),
        (["project=taut"], "add entity=<name>"),
        (["entity=me", "sweep=a'b"], "sweep=a'b cannot be a name"),
    ],
)
def test_a_wrong_word_is_one_sentence(words, said):
    with pytest.raises(UserError, match=re.escape(said)):
        parsed(words)


def test_a_dry_run_names_every_section_and_panel_on_one_screen(capsys, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")
    assert main(["--dry-run", "sweep=a", "project=mine"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == 'workspace "taut: a" of project mine'
    assert len(lines) < 45
    for name, panels in sections().items():
        assert f"  {name}" in lines
        assert {f"    {panel.title}" for panel in panels if hasattr(panel, "title")} <= set(lines)


def test_nothing_half_written_is_left(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "")
    assert main(["--dry-run", f"out={tmp_path / 'none' / 'pages.json'}"]) == 2
    assert "name a file in a folder that exists" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def asked(*words: str, **env: str) -> tuple[subprocess.CompletedProcess, float]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, ROOT / "dashboard.py", *words],
        env={**clean, "HOME": "/nowhere", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done, time.monotonic() - started


def refused(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    return sentence


def test_without_a_key_or_a_server_it_is_one_sentence_at_once(programs):
    """A prompt on the terminal; an attempt that goes on for minutes."""
    done, _ = asked("entity=me")
    assert "needs a W&B API key" in refused(done)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (9, silent.getsockname()[1]):
            address = f"http://127.0.0.1:{port}"
            done, seconds = asked("entity=me", WANDB_API_KEY=DUMMY, WANDB_BASE_URL=address)
            assert "server does not answer" in refused(done)
            assert seconds < 30, "1 and 5 s on an idle machine; W&B itself would try for minutes"


class Refusing(http.server.BaseHTTPRequestHandler):
    """A server that answers, but does not know the user."""

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"errors": [{"message": "user is not logged in"}]}')

    def log_message(self, *_):
        pass


def test_a_server_that_refuses_is_one_sentence(programs):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    done, _ = asked("entity=me", WANDB_API_KEY=DUMMY, WANDB_BASE_URL=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    assert "W&B did not take the page" in refused(done)


def test_help_imports_nothing_heavy_and_shows_three_examples(programs):
    code = (
        "import sys; from taut.commands.dashboard.command import main; main(['--help']); "
        "print([n for n in ('torch', 'lightning', 'wandb', 'numpy', 'hydra') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    *text, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert sum(line.startswith("  python dashboard.py") for line in text) == 3


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_look_at_the_pages_opens_no_connection(programs, tmp_path):
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=socket,connect", "-o", trace, sys.executable, ROOT / "dashboard.py"]
    subprocess.run([*command, "sweep=a", "out=pages.json"], cwd=tmp_path, timeout=60, check=True)
    assert json.loads((tmp_path / "pages.json").read_text())["report"]
    assert "AF_INET" not in trace.read_text()
