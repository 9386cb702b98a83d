"""W&B sweep files: read by its own loader, judged by its schema, run as its agent would."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from sweeps.config import schema_violations_from_proposed_config

from taut.config import compose as _resolvers  # noqa: F401
from taut.config.check import check, check_overrides

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "sweeps").glob("wandb_*.yaml"))
METHODS = {"grid", "random", "bayes"}
SHORT = ["trainer.max_epochs=1", "k_eval=4", "k_test=4", "network.hidden=[4]", "threads=1"]


def loaded(path: Path) -> dict:
    """W&B's own loader, whose import takes seconds that a process without these tests need not spend."""
    from wandb.sdk.launch.sweeps import utils

    return utils.load_sweep_config(str(path))


def test_there_is_one_for_each_method():
    assert {path.stem.removeprefix("wandb_") for path in FILES} == METHODS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_schema_of_wandb_has_nothing_to_say(path):
    sweep = loaded(path)
    assert schema_violations_from_proposed_config(sweep) == []
    assert schema_violations_from_proposed_config({**sweep, "method": "guess"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_is_whole_and_documented(path):
    text, sweep = path.read_text(), loaded(path)
    assert f"#   wandb sweep sweeps/{path.name}" in text
    assert "#   wandb agent " in text
    assert sweep["method"] == path.stem.removeprefix("wandb_")
    assert set(sweep) == {"project", "program", "method", "metric", "parameters", "command"}
    assert sweep["metric"] in (
        {"name": "val/bound.max", "goal": "maximize"},
        {"name": "test/gap", "goal": "minimize"},
    )
    for parameter in sweep["parameters"].values():
        kind = {"value", "values", "distribution"} & set(parameter)
        assert len(kind) == 1
        assert set(parameter) == kind | ({"min", "max"} if "distribution" in kind else set())
    if sweep["method"] == "bayes":
        assert "value" in sweep["parameters"]["k"], "bounds of several K are not compared"


def corners(path: Path) -> list[dict]:
    """For every parameter, its first and last values, the others at their first."""
    ends = {}
    for name, parameter in loaded(path)["parameters"].items():
        values = parameter.get("values") or [parameter.get("value", parameter.get("min")), parameter.get("max")]
        ends[name] = [value for value in (values[0], values[-1]) if value is not None]
    first = {name: values[0] for name, values in ends.items()}
    return [first, *({**first, name: values[-1]} for name, values in ends.items())]


def commanded(path: Path, values: dict, folder: Path, monkeypatch) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment that W&B's agent gives a run of a sweep."""
    from wandb import wandb_agent

    started = {}
    monkeypatch.chdir(folder)
    monkeypatch.setattr(wandb_agent, "AgentProcess", lambda **about: started.update(about) or SimpleNamespace())
    for name, value in {"WANDB_SWEEP_ID": "s1", "WANDB_DIR": str(folder), "WANDB_PROJECT": "theirs"}.items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # what the agent sets is undone with the rest
    sweep = loaded(path)
    agent = object.__new__(wandb_agent.Agent)
    vars(agent).update(_sweep_command=sweep["command"], _in_jupyter=False, _function=None, _run_processes={})
    agent._forward_signals = False
    args = {name: {"value": value} for name, value in values.items()}
    agent._command_run({"run_id": "agents1run", "program": sweep["program"], "args": args})
    return started["command"], started["env"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_command_of_the_agent_composes_what_the_sweep_chose(path, tmp_path, monkeypatch):
    for values in corners(path):
        command, _ = commanded(path, values, tmp_path, monkeypatch)
        assert command[:3] == ["/usr/bin/env", "taut", "train"]
        words = command[3:]
        assert words[-1] == "logger.wandb.mode=online"
        check_overrides(words)
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose("train", words, return_hydra_config=True)
        chosen = OmegaConf.to_container(cfg.hydra.runtime.choices)
        del cfg._content["hydra"]
        check(cfg)
        for name, value in values.items():
            found = chosen[name] if name in ("model", "prior", "q") else OmegaConf.select(cfg, name)
            assert found == value, name


def test_a_run_of_an_agent_is_the_agents(commands, programs, tmp_path, monkeypatch):
    """Its id, in the run folder too, its values and its project; not a word about ours."""
    values = {"model": "iwae", "k": 5, "optimizer.lr": 0.01, "seed": 3}
    command, env = commanded(ROOT / "sweeps" / "wandb_grid.yaml", values, tmp_path, monkeypatch)
    words = [word.replace("online", "offline") for word in command[3:]]
    monkeypatch.undo()
    done = commands.run(
        ROOT / "train.py",
        *words,
        *SHORT,
        cwd=tmp_path,
        env={**env, "WANDB_SILENT": "false", "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "wandb" not in (done.stdout + done.stderr).lower().replace("outputs/wandb", "")
    (record,) = (tmp_path / "outputs" / "wandb").glob("offline-run-*")
    assert record.name.endswith("-agents1run")
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    assert (run / "wandb" / "id").read_text().strip() == "agents1run"
    shown = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", record],
        env={**os.environ, "WANDB_ERROR_REPORTING": "false"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(shown.stdout)
    assert {name: found["config"][name] for name in values} == values
    assert found["config"]["choices"]["model"] == "iwae"
    assert found["config"]["latent_dim"] == 10
    assert found["project"] == "theirs"
    assert found["exit_code"] == 0
    assert found["summary"]["val/bound"]["max"] <= 0
