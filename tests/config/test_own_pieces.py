"""Whose classes a config may build: packages that the user names, by what is typed, set or installed, and no others."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from evaluations import command
from omegaconf import OmegaConf

from taut.config import pieces
from taut.config.check import check
from taut.config.instantiate import check_targets, check_targets_resolved, instance
from taut.config.pieces import NeedsTrust
from taut.config.trust import check_words
from taut.errors import UserError
from taut.model.likelihood.base import Likelihood
from taut.model.prior.base import Prior

STUDENT = """
import os
from os import system
from subprocess import Popen, run
from pathlib import Path
from torch.distributions import Independent, StudentT
import torch
from taut.model.prior.base import Prior

open("canary", "w").close()


class Student(Prior):
    def __init__(self, dim: int, df: float = 5.0) -> None:
        super().__init__()
        self.z_shape, self.df = (dim,), df
        self.register_buffer("zeros", torch.zeros(dim), persistent=False)

    def forward(self):
        return Independent(StudentT(self.df, self.zeros, validate_args=False), 1, validate_args=False)

    def method(self):
        pass


def make(dim: int) -> Student:
    return Student(dim)
"""
MINE = {"_target_": "mylab.Student", "dim": 3}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with a module of the user's own, whose import leaves a file, and nothing of it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(pieces.VARIABLE, "")  # as what the words name goes there, it is undone
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(pieces._Here, "names", frozenset())
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "mylab.py").write_text(STUDENT)
    (tmp_path / "theirs" / "prior").mkdir(parents=True)
    (tmp_path / "theirs" / "prior" / "mine.yaml").write_text("_target_: mylab.Student\ndim: ${latent_dim}\n")
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mylab", "other", "helper")]:
        del sys.modules[name]


def imported(folder: Path) -> bool:
    return (folder / "canary").exists()


def said(*words: str, name: str = "train") -> str:
    """What a command says that is refused, having imported nothing of the user's."""
    done = command(name, *words)
    assert done.code == 2, done.out + done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert not Path("canary").exists()
    assert not Path("outputs").exists()
    return done.err.strip()


ASKED = "prior._target_=mylab.Student needs classes of mylab; add trust=[mylab] if you know it."
MINE_WORDS = ["--config-dir", "theirs", "prior=mine"]
WRONG_K = "k must be an integer"


@pytest.mark.parametrize(
    "word", ["trust=[mylab]", "trust=mylab", "+trust=[mylab,other]", '++trust=["mylab"]', "trust=['mylab', 'other']"]
)
def test_what_is_typed_is_trusted_by_every_spelling(word, here):
    (here / "other.py").write_text("")
    assert said(*MINE_WORDS) == ASKED
    # refused for its k, and so not for its classes, which come first
    assert said(*MINE_WORDS, word, "k=0").startswith(WRONG_K)


def test_so_is_what_the_environment_names_and_what_the_users_file_does(here, monkeypatch):
    monkeypatch.setenv(pieces.VARIABLE, "other,mylab")
    assert said(*MINE_WORDS, "k=0").startswith(WRONG_K)
    monkeypatch.delenv(pieces.VARIABLE)
    (here / "home" / "taut").mkdir(parents=True)
    (here / "home" / "taut" / "config.yaml").write_text("trust: [mylab]\n")
    assert said(*MINE_WORDS, "k=0").startswith(WRONG_K)
    # trusted in every folder, and so not looked for in this one
    with pytest.raises(UserError, match=r"the package mylab is not installed; install it, or add trust=\[mylab\] in"):
        judged(MINE)
    monkeypatch.setenv("XDG_CONFIG_HOME", "home")  # relative, and so none
    monkeypatch.setenv("HOME", str(here / "nowhere"))
    assert said(*MINE_WORDS) == ASKED


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("trsut: [mylab]", "there is no key trsut; did you mean trust?"),
        ("trust: [1]", "trust must be a list of packages, such as [mylab], got [1]."),
        ("trust: {a: b}", "trust must be a list of packages, such as [mylab], got {'a': 'b'}."),
        ("trust: [os]", "os is part of Python"),
        ("- mylab", "should hold one key, trust: [mylab], got ['mylab']."),
        ("trust: !!python/name:os.system", "holds the tag"),
    ],
)
def test_the_users_file_says_whom_to_trust_and_nothing_else(text, sentence, here):
    path = here / "home" / "taut" / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert sentence in (answer := said(*MINE_WORDS))
    assert answer.startswith(str(path))


NO_PACKAGES = {
    "trust=[mylab.sub]": "trust is of whole packages; write mylab for mylab.sub.",
    "trust=['']": "'' is not the name of a package",
    "trust=": "'' is not the name of a package",
    "trust=[]": "'' is not the name of a package",
    "trust=null": "'null' is not the name of a package",
    "trust=true": "'true' is not the name of a package",
    "trust=[mylab,]": "'' is not the name of a package",
    "trust=[class]": "'class' is not the name of a package",
    "trust=../mylab": "'../mylab' is not the name of a package",
    "trust=*": "'*' is not the name of a package",
    "trust=[mylаb]": r"'myl\u0430b' is not the name of a package",  # noqa: RUF001 (Cyrillic)
    "trust=[ｍylab]": r"'\uff4dylab' is not the name of a package",  # noqa: RUF001 (full width: Python reads it as m)
    "trust=__main__": "'__main__' is not the name of a package",
    "trust=[[mylab]]": "'[mylab]' is not the name of a package",
    "trust=[os]": "os is part of Python, and a config that builds what it holds can do anything; trust a package of",
    "trust=[mylab,subprocess]": "subprocess is part of Python",
    "trust=posix": "posix is part of Python",
    "trust=torch": "torch is a part of taut or of what it is built on, and which of those a config may build is fixed",
    "trust=taut": "taut is a part of taut",
    "trust=yaml": "yaml is a part of taut",
    "trust=functorch": "functorch is a part of taut",
    "trust=hydra_plugins": "hydra_plugins installs or starts other packages",
    "trust=pip": "pip installs or starts other packages",
    "~trust": "~trust names no package",
    "trust.mylab=true": "trust.mylab=true names no package",
    "trust@_global_=mylab": "trust@_global_=mylab names no package",
    "trust=nolab": "trust=[nolab]: there is no package nolab, neither installed nor in",
}


@pytest.mark.parametrize("word", NO_PACKAGES)
def test_what_names_no_package_of_the_users_is_refused(word):
    with pytest.raises(UserError) as caught:
        pieces.taken(["k=3", word])
    assert NO_PACKAGES[word] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_trust_is_judged_before_all_else_and_in_no_file(here):
    assert said(*MINE_WORDS, "trust=[os]", "k=0").startswith("trust=[os]: os is part of Python")
    words, named = pieces.taken(["k=3", "trust=mylab", "seed=1", "+trust=mylab"])
    assert (words, named) == (["k=3", "seed=1"], ["mylab", "mylab"])
    assert pieces.environment() == {pieces.VARIABLE: "mylab"}


GLOBAL = "# @package _global_\n"
IN_A_CONFIG = "trust comes from a config, and only you can say whom you trust"
PROCESS = "which may say what a run computes and nothing of the process"
GRANTS = {
    "a key": (GLOBAL + "trust: [mylab]", [], IN_A_CONFIG),
    "a list of defaults": (GLOBAL + "defaults: [{override /prior: mine}]\ntrust: mylab", [], IN_A_CONFIG),
    "a package": ("# @package trust\nmylab: true", [], IN_A_CONFIG),
    "the environment": (
        GLOBAL + "hydra: {job: {env_set: {TAUT_TRUST: mylab}}}",
        [],
        "hydra.job.env_set.TAUT_TRUST comes",
    ),
    "the words": (GLOBAL + "hydra: {overrides: {task: ['trust=[mylab]']}}", [], "hydra.overrides.task comes from"),
    "axes": (GLOBAL + "hydra: {sweeper: {params: {trust: mylab}}}", [], "hydra.sweeper.params.trust comes from"),
    "axes with a plus": (
        GLOBAL + "hydra: {sweeper: {params: {+trust: mylab}}}",
        [],
        "hydra.sweeper.params.+trust comes",
    ),
    "evaluations": (
        GLOBAL + "sweep: {evaluate: 'limit=3 trust=[mylab]'}",
        ["-m", "k=1,2"],
        f"trust comes from FILE, {PROCESS}",
    ),
    "a cluster": (
        GLOBAL + "launcher: {slurm: {setup: [export TAUT_TRUST=mylab]}}",
        ["-m", "k=1,2", "launcher=slurm"],
        "launcher.slurm.setup comes from FILE",
    ),
    "an interpolation": (GLOBAL + "prior: {_target_: '${oc.env:TAUT_X,mylab}.Student'}", [], "prior._target_=mylab."),
}


@pytest.mark.parametrize("way", GRANTS)
def test_no_config_grants_trust(way, here):
    text, words, sentence = GRANTS[way]
    path = here / "theirs" / "experiment" / "x.yaml"
    path.parent.mkdir()
    path.write_text(text)
    words = [*MINE_WORDS, "experiment=x", *words]
    assert sentence in said(*words).replace(str(path), "FILE")


@pytest.mark.parametrize("word", ["trust=[mylab]", "+trust=mylab", "~trust", " trust=mylab", "trust.a=b"])
def test_no_word_of_a_run_folder_does(word):
    with pytest.raises(UserError, match=f"trust.*comes from FILE, {PROCESS}"):
        check_words(["k=3", word], "FILE")
    check_words(["data.path=trust", "+sweep=trust"], "FILE")


def test_nor_does_what_lies_in_the_working_directory(here, monkeypatch):
    # as where train.py is started in its own folder, or Python with -m
    monkeypatch.setattr(sys, "path", ["", str(here), f"{here}/theirs/..", *sys.path])
    (here / ".env").write_text("TAUT_TRUST=mylab\n")
    (here / "config.yaml").write_text("trust: [mylab]\n")
    for name in ("mylab-1.0.dist-info", "mylab.egg-info"):
        registered(here, "mylab", name=name)
    assert said(*MINE_WORDS) == ASKED


def test_the_agent_of_wandb_has_its_words_from_a_file(here, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    assert said(*MINE_WORDS, "trust=mylab") == (
        "trust=mylab comes from the file of a W&B sweep, which trusts nothing; start the agent with "
        "TAUT_TRUST=<package> in its environment."
    )
    monkeypatch.setenv(pieces.VARIABLE, "mylab")
    assert said(*MINE_WORDS, "k=0").startswith(WRONG_K)


def judged(prior: dict) -> None:
    """Judge a config as a command does, once mylab is trusted and found."""
    pieces.look_here()
    check_targets({"prior": prior})
    check_targets_resolved(OmegaConf.create({"prior": prior}))


@pytest.mark.parametrize(
    "name",
    ["system", "os.system", "run", "Popen", "Path", "torch.load", "Student.method", "Student.__init__", "_os.system"],
)
def test_trust_is_of_what_a_package_defines_and_not_of_what_it_imports(name, here, monkeypatch):
    monkeypatch.setenv(pieces.VARIABLE, "mylab")
    with pytest.raises(UserError) as caught:
        judged({"_target_": f"mylab.{name}", "_args_": ["touch other-canary"]})
    assert "\n" not in str(caught.value)
    assert not (here / "other-canary").exists()


@pytest.mark.parametrize("name", ["Student", "make"])
def test_classes_and_functions_of_a_trusted_package_are_built(name, here, monkeypatch):
    monkeypatch.setenv(pieces.VARIABLE, "mylab")
    judged({**MINE, "_target_": f"mylab.{name}"})
    assert imported(here)
    with pytest.raises(UserError, match=r"prior.dimension is not an argument of mylab.\w+; it takes "):
        judged({"_target_": f"mylab.{name}", "dimension": 3})
    with pytest.raises(UserError, match=r"prior.dim must be an integer, got 'x'"):
        judged({"_target_": f"mylab.{name}", "dim": "x"})


def test_a_module_that_cannot_be_imported_says_what_is_missing(here, monkeypatch):
    monkeypatch.setenv(pieces.VARIABLE, "other,mylab")
    (here / "other").mkdir()
    (here / "other" / "__init__.py").write_text("")
    (here / "other" / "priors.py").write_text("import not_there\n")
    with pytest.raises(UserError, match=r"other.priors.Mine cannot be imported: No module named 'not_there'"):
        judged({"_target_": "other.priors.Mine"})
    with pytest.raises(UserError, match=r"other.prior.Mine does not exist: other.prior has no Mine"):
        judged({"_target_": "other.prior.Mine"})
    with pytest.raises(UserError, match=r"mylab.Studnet does not exist: mylab has no Studnet"):
        judged({"_target_": "mylab.Studnet"})


def test_only_trusted_names_are_looked_for_in_the_working_directory(here, monkeypatch):
    monkeypatch.setenv(pieces.VARIABLE, "mylab,other")
    (here / "helper.py").write_text("")
    site = here / "site"
    site.mkdir()
    (site / "other.py").write_text("PLACE = 'installed'")
    (here / "other.py").write_text("PLACE = 'here'")
    monkeypatch.syspath_prepend(site)
    pieces.look_here()
    with pytest.raises(ImportError):
        __import__("helper")
    assert __import__("other").PLACE == "installed"
    monkeypatch.chdir(site)  # a job may run elsewhere: the folder is that of the command
    assert __import__("mylab").Student
    assert str(here) not in sys.path


def test_several_packages_are_asked_for_at_once_and_what_no_trust_covers_first():
    both = {"prior": MINE, "q": {"_target_": "other.Q"}, "objective": {"_target_": "mylab.Objective"}}
    with pytest.raises(NeedsTrust, match=r"needs classes of mylab, other; add trust=\[mylab,other\] if you know them"):
        check_targets(both)
    with pytest.raises(UserError, match=r"model: 'os.system' may not be built from a config"):
        check_targets({**both, "model": {"_target_": "os.system"}})


def test_in_python_trust_ends_with_its_block(here):
    with pieces.trusting("mylab"):
        check_targets({"prior": MINE})
        with pieces.trusting(["other"]):
            check_targets({"prior": MINE, "q": {"_target_": "other.Q"}})
    with pytest.raises(NeedsTrust):
        check_targets({"prior": MINE})
    with pytest.raises(UserError, match=r"trust=\['os'\]: os is part of Python"), pieces.trusting(["os"]):
        pass


def registered(site: Path, package: str, *, value: str | None = None, name: str = "mylab-1.0.dist-info") -> None:
    """The files by which pip knows a distribution that registers a package."""
    about = site / name
    about.mkdir(parents=True, exist_ok=True)
    for file in ("METADATA", "PKG-INFO"):
        (about / file).write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[taut.pieces]\n{package} = {value or package}\n")


@pytest.fixture
def site(here, monkeypatch):
    """A folder into which packages are installed."""
    folder = here / "site"
    (folder / "mylab" / "conf" / "prior").mkdir(parents=True)
    (folder / "mylab" / "__init__.py").write_text(STUDENT)
    student = "# Heavy tails.\n_target_: mylab.Student\ndim: ${latent_dim}\n"
    (folder / "mylab" / "conf" / "prior" / "student.yaml").write_text(student)
    (folder / "mylab" / "conf" / "prior" / "normal.yaml").write_text("_target_: mylab.Student\ndim: 77\n")
    (here / "mylab.py").unlink()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_an_installed_package_is_trusted_and_its_choices_are_there(site):
    unknown = said("prior=student")
    assert unknown.startswith("prior=student is not known")
    registered(site, "mylab")
    pieces._registered.cache_clear()
    assert said("prior=student", "k=0").startswith(WRONG_K)
    shown = command("train", "--help").out
    assert re.search(r"^ +normal +Standard normal\n +student +Heavy tails\n", shown, re.MULTILINE)
    # a choice that taut has is taut's
    config = yaml.safe_load(command("train", "--cfg", "job", "latent_dim=4").out)
    assert config["prior"] == {"_target_": "taut.model.prior.normal.Normal", "dim": "${latent_dim}"}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("not_there", "and there is no such package; correct its pyproject.toml, or pip uninstall my-lab."),
        ("mylab:Student", "which must be the name of a package; correct"),
        ("os", "which is part of Python, and a config that builds what it holds can do anything; correct"),
    ],
)
def test_a_broken_entry_point_names_its_distribution(value, sentence, site):
    registered(site, "mylab", value=value)
    pieces._registered.cache_clear()
    assert said("k=0").startswith(f"The distribution my-lab registers {value} for taut.pieces, {sentence}")


def test_a_config_of_the_command_is_still_checked(here):
    """A key ``trust`` is named as what it is, in whatever command."""
    for name in ("train", "evaluate", "complete", "audit"):
        with pytest.raises(UserError, match=IN_A_CONFIG):
            check(OmegaConf.create({"trust": ["mylab"]}), name)


def test_a_class_of_another_kind_is_no_piece():
    cfg = OmegaConf.create({"likelihood": {"_target_": "taut.model.prior.normal.Normal", "dim": 2}})
    sentence = (
        "taut.model.prior.normal.Normal builds a Normal and no Likelihood; derive it from "
        "taut.model.likelihood.base.Likelihood."
    )
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        instance(cfg.likelihood, Likelihood)
    assert instance(cfg.likelihood, Prior).z_shape == (2,)
