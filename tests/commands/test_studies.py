"""Every study of sweeps/ composes, builds and says what it is; the smallest one runs."""

import itertools
import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.taut.launcher import combinations
from taut.commands.sweep.configs import Config, Shared, rehearse
from taut.commands.sweep.search.space import Space
from taut.config import compose as _resolvers  # noqa: F401
from taut.config.check import check

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted(path for path in (ROOT / "sweeps").glob("*.yaml") if not path.name.startswith("wandb_"))
ELSEWHERE = ("gap_table",)
"""Studies whose data are not in the package."""


def grid(path: Path) -> list[DictConfig]:
    sweeper = OmegaConf.load(path).hydra.sweeper
    words = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in sweeper.params.items()])
    jobs = combinations(words) if "_target_" not in sweeper else _tried(Space.of(words))
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return [compose("train", [f"+sweep={path.stem}", *job]) for job in jobs]


def _tried(space: Space) -> list[list[str]]:
    """Points of a search at which every choice of every axis is met."""
    return [space.words(point) for point in space.probes()]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_job_of_a_study_can_be_built(commands, path):
    text = path.read_text()
    assert text.startswith("# @package _global_\n# "), "a study begins with what it asks"
    assert f"#   python train.py +sweep={path.stem}" in text
    configs = grid(path)
    assert len({OmegaConf.to_yaml(cfg) for cfg in configs}) == len(configs) > 1
    for cfg in configs:
        check(cfg)
        assert cfg.sweep.timeout
    if path.stem not in ELSEWHERE:
        few = configs[:: max(1, len(configs) // 6)]
        with commands.replacing():
            assert rehearse([Config(Shared(cfg), {}) for cfg in few]) == [None] * len(few)


def test_the_smallest_study_runs(commands, tmp_path):
    words = ["+sweep=smoke", "launcher=joblib", "sweep.evaluate='k=20 limit=4'"]
    done = commands.run(ROOT / "train.py", *words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert folder.name == "smoke"
    assert done.stdout.startswith("sweep folder: outputs/sweeps/smoke\n")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    expected = [f"{i:03d}_{m}-seed{s}" for i, (m, s) in enumerate(itertools.product(["vae", "iwae"], [0, 1]))]
    assert names == expected
    for name in names:
        assert json.loads((folder / name / "status.json").read_text())["state"] == "finished"
        assert json.loads((folder / name / "evaluation" / "result.json").read_text())["n"] == 4
    again = commands.run(ROOT / "train.py", *words, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0
    assert "4 of 4 jobs need not run" in again.stdout
