"""Ten secrets around a training, a sweep, a crash, an evaluation, a report: none is in any byte that was written."""

import base64
import gzip
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest
from helpers.forkserver import ForkServer

ROOT = Path(__file__).resolve().parents[2]
CANARIES = {
    name: f"canary-{name}-5f81b6a7" for name in ("netrc", "hf", "aws", "path", "note", "proxy", "pip", "remote")
}
CANARIES |= {name: f"canary-{name}-5f81b6a7" for name in ("line", "url", "remote")}
CANARIES["key"] = "c0ffee" + "4711" * 8 + "ab"
TINY = ["trainer.max_epochs=2", "k_eval=4", "k_test=4", "network.hidden=[4]", "latent_dim=2", "threads=1"]
WORDS = ["experiment=mine", "likelihood=gaussian", *TINY]


def environment(root: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "HTTP", "http"))}
    return clean | {
        "HOME": str(root / "home"),
        "WANDB_API_KEY": CANARIES["key"],
        "HF_TOKEN": CANARIES["hf"],
        "AWS_SECRET_ACCESS_KEY": CANARIES["aws"],
        "HTTPS_PROXY": f"http://me:{CANARIES['proxy']}@localhost:1",
        "PIP_INDEX_URL": f"https://me:{CANARIES['pip']}@localhost/simple",
        "TABLES": str(root / CANARIES["path"]),
        "NOTE": CANARIES["note"],
    }


def said(commands: ForkServer, root: Path, script: Path, *words: str) -> subprocess.CompletedProcess:
    """A command that gets all secrets; what it says lands in a file, as in a cluster."""
    given = {"cwd": root / "work", "env": environment(root)}
    done = commands.run(script, *words, **given, capture_output=True, text=True)
    log = root / "work" / f"said-{len(list((root / 'work').glob('said-*')))}.txt"
    log.write_text(f"{script.name} {words[-1].partition('=')[0]} {done.returncode}\n{done.stdout}{done.stderr}")
    return done


@pytest.fixture(scope="module")
def written(commands, programs, tmp_path_factory):
    """The folder of everything that was written, and what each command came to."""
    root = tmp_path_factory.mktemp("secrets")
    (root / "home").mkdir()
    (root / "home" / ".netrc").write_text(f"machine api.wandb.ai login user password {CANARIES['netrc']}\n")
    (root / CANARIES["path"]).mkdir()
    (root / CANARIES["path"] / "t.csv").write_text("a,b\n" + "".join(f"{i},{i % 7}\n" for i in range(60)))
    (root / "conf" / "experiment").mkdir(parents=True)
    mine = "# @package _global_\ndefaults: [{override /data: table}]\n"
    mine += "data: {path: '${oc.env:TABLES}/t.csv'}\n"
    (root / "conf" / "experiment" / "mine.yaml").write_text(mine)
    (root / "work").mkdir()
    if shutil.which("git"):
        subprocess.run(["git", "init", "-q"], cwd=root / "work", check=True)
        remote = f"https://me:{CANARIES['remote']}@localhost/x.git"
        subprocess.run(["git", "remote", "add", "origin", remote], cwd=root / "work", check=True)
    extra = ["--config-dir", str(root / "conf")]
    crash = Path(__file__).with_name("crash.py")
    done = {
        "train": said(commands, root, ROOT / "train.py", *extra, *WORDS, "hydra.run.dir=outputs/runs/a"),
        "sweep": said(commands, root, crash, *extra, "-m", *WORDS, "seed=0,1,${oc.env:NOTE}", "sweep.rehearse=false"),
        "crash": said(commands, root, crash, *extra, *WORDS, "seed=1", "hydra.run.dir=outputs/runs/b"),
        "number": said(commands, root, ROOT / "train.py", "k=${oc.env:NOTE}"),
        "missing": said(commands, root, ROOT / "train.py", "data=table", "data.path=${oc.env:TABLES}/none.csv", *TINY),
        "evaluate": said(commands, root, ROOT / "evaluate.py", "run=outputs/runs/a", "k=20", "limit=4", "threads=1"),
        "line": said(commands, root, ROOT / "train.py", *TINY, f"+data.token={CANARIES['line']}"),
        "url": said(
            commands, root, ROOT / "train.py", "data=table", f"data.path=https://me:{CANARIES['url']}@localhost/t.csv"
        ),
        "dashboard": said(commands, root, ROOT / "dashboard.py", "sweep=k_grid", "out=pages.json"),
        "report": said(commands, root, ROOT / "report.py", "outputs"),
    }
    return root / "work", {name: (one.returncode, one.stdout + one.stderr) for name, one in done.items()}


def unpacked(content: bytes) -> list[bytes]:
    """What a file holds, and what the files in it hold."""
    if content[:2] == b"\x1f\x8b":
        return [content, *unpacked(gzip.decompress(content))]
    if content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [content, *(part for name in archive.namelist() for part in unpacked(archive.read(name)))]
    return [content]


def read_by_wandb(record: Path) -> bytes:
    """A W&B record in its own reader's words: in the file, long values are cut by block headers."""
    return subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", record],
        env={**os.environ, "WANDB_ERROR_REPORTING": "false"},
        capture_output=True,
        check=True,
    ).stdout


def test_every_command_did_what_it_was_there_for(written):
    """A search of nothing finds nothing."""
    work, done = written
    codes = {name: code for name, (code, _) in done.items()}
    refused = dict.fromkeys(("number", "missing", "line", "url"), 2)
    ended = {"train": 0, "sweep": 1, "crash": 1, "evaluate": 0, "dashboard": 0, "report": 0}
    assert codes == ended | refused, done
    assert "Traceback" in done["crash"][1]
    assert len(list(work.glob("outputs/wandb/offline-run-*/*.wandb"))) >= 3
    assert "seed must be an integer from 0 to 4294967295, got '${oc.env:NOTE}'" in done["sweep"][1]
    assert "RuntimeError" in (work / "outputs" / "report.html").read_text()
    assert "RuntimeError" in next(work.glob("outputs/sweeps/*/*seed1/log.txt")).read_text()


def test_the_user_is_told_what_to_do_instead(written):
    _, done = written
    assert "give it in the environment instead" in done["line"][1]
    assert "${oc.env:" in done["url"][1]
    assert "k must be an integer >= 1, got '${oc.env:NOTE}'" in done["number"][1]
    assert "${oc.env:TABLES}/none.csv" in done["missing"][1]
    assert (
        "no answer from ${oc.env:TABLES}/t.csv with ${oc.env:HF_TOKEN}, http://hidden@localhost:1" in done["crash"][1]
    )


def test_no_byte_of_a_secret_is_written(written):
    work, _ = written
    files = [path for path in work.rglob("*") if path.is_file() and ".git" not in path.relative_to(work).parts]
    contents = {path: unpacked(path.read_bytes()) for path in files}
    contents |= {path: [*contents[path], read_by_wandb(path.parent)] for path in files if path.suffix == ".wandb"}
    assert len(files) > 50
    found = []
    for name, canary in CANARIES.items():
        forms = {canary.encode(), quote(canary, safe="").encode(), base64.b64encode(canary.encode()).rstrip(b"=")[:-1]}
        for path, parts in contents.items():
            found += [(name, str(path.relative_to(work))) for part in parts if any(form in part for form in forms)]
    assert sorted(set(found)) == []
