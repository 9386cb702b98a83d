"""``taut new``: every template works as it is, and what cannot be written is one sentence and no file."""

import importlib
import importlib.util
import itertools
import os

import pytest
from hydra import compose, initialize_config_dir
from pieces import CONF

from taut.commands.new.command import KINDS, main
from taut.config.instantiate import instantiate
from taut.training.build import build_data, build_model

NEEDS = {
    "prior": [],
    "q": [],
    "likelihood": ["data=faithful"],
    "objective": ["k=5", "data=faithful", "likelihood=gaussian"],
    "data": ["likelihood=gaussian"],
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def _files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _run_tests(path):
    """Call every test of a generated file, with every choice of its parameters; how many there were."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    calls = 0
    for name, test in vars(module).items():
        if name.startswith("test_"):
            marks = [mark.args for mark in getattr(test, "pytestmark", [])]
            for values in itertools.product(*(choices for _, choices in marks)):
                test(**dict(zip((key for key, _ in marks), values, strict=True)))
                calls += 1
    return calls


@pytest.mark.parametrize("group", KINDS)
def test_a_new_piece_keeps_its_contract_and_makes_a_model(group, here, capsys):
    """A template with a fault, a yaml that fits no constructor, a name that was not replaced."""
    package = f"lab_{group}"
    assert main([group, "my_own", f"to={package}"]) == 0
    written = ["__init__.py", f"conf/{group}/my_own.yaml", "my_own.py", "tests/test_my_own.py"]
    assert _files(here / package) == written
    out = capsys.readouterr().out
    assert f"python -m pytest {package}" in out
    assert f"trust={package} --config-dir {package}/conf" in out
    assert f"{group}=my_own" in out
    text = "".join((here / package / name).read_text() for name in written)
    assert "Mine" not in text
    assert "PACKAGE" not in text
    assert _run_tests(here / package / "tests" / "test_my_own.py") >= 1
    own = importlib.import_module(f"{package}.my_own").MyOwn
    command = "evaluate" if group == "evidence" else "train"
    places = f"hydra.searchpath=[file://{here}/{package}/conf]"
    words = [places, f"{group}=my_own", *NEEDS.get(group, ["run=x"])]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(command, words)
    if group == "evidence":
        piece = instantiate(cfg.evidence.my_own)
    else:
        data = build_data(cfg)
        model = build_model(cfg, data)
        piece = data if group == "data" else getattr(model, group, None) or getattr(model.joint, group)
    assert type(piece) is own
    assert getattr(piece, "name", "my_own") in ("my_own", "myown")


def test_several_pieces_share_a_package(here, capsys):
    assert main(["prior", "mine"]) == 0
    before = (here / "mylab" / "__init__.py").stat().st_mtime_ns
    assert main(["q", "broad", "to=mylab"]) == 0
    assert (here / "mylab" / "__init__.py").stat().st_mtime_ns == before
    assert "cd " not in capsys.readouterr().out
    assert main(["data", "ring", "to=work/other"]) == 0
    assert "  cd work\n  python -m pytest other\n" in capsys.readouterr().out


REFUSED = {
    "nothing": ([], "taut new takes a group, a name and, if you like, a folder, as in 'taut new prior mine to=mylab'"),
    "a group": (["priors", "mine"], "taut new makes no 'priors'; did you mean prior?"),
    "a keyword": (["prior", "lambda"], "The name 'lambda' must be a name in Python"),
    "letters": (["prior", "Mine"], "The name 'Mine' must be a name in Python, of small letters"),
    "a path": (["prior", "../mine"], "The name '../mine' must be a name in Python"),
    "a name of taut": (["prior", "mixture"], "prior=mixture is taut's own; choose another name."),
    "a folder of the package": (["prior", "tests"], "The name 'tests' is that of a folder of the package"),
    "a package of Python": (["prior", "mine", "to=json"], "'json' is a package of Python or an installed one already"),
    "an installed package": (["prior", "mine", "to=torch"], "'torch' is a package of Python or an installed one"),
    "a package that is none": (["prior", "mine", "to=my-lab"], "The package 'my-lab' must be a name in Python"),
    "no folder": (["prior", "mine", "to="], "taut new takes a group, a name and, if you like, a folder"),
}


@pytest.mark.parametrize(("words", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_one_sentence_and_no_file(words, sentence, here, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(sentence)
    assert error.count("\n") == 1
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("taken", ["mylab/mine.py", "mylab/conf/prior/mine.yaml", "mylab/tests/test_mine.py"])
def test_nothing_is_overwritten(taken, here, capsys):
    (here / taken).parent.mkdir(parents=True)
    (here / taken).write_text("mine")
    assert main(["prior", "mine"]) == 2
    assert capsys.readouterr().err == f"{taken} is there already; choose another name, or move it away.\n"
    assert _files(here) == [taken]
    assert (here / taken).read_text() == "mine"


def test_a_disk_that_refuses_half_way_leaves_nothing(here, monkeypatch, capsys):
    """Half a package, which the next try would take for files of the user's own."""
    from taut.commands.new import command

    write = command.write_atomically

    def refuse_the_test(path, text):
        if path.name.startswith("test_"):
            raise OSError(28, "No space left on device", str(path))
        write(path, text)

    monkeypatch.setattr(command, "write_atomically", refuse_the_test)
    assert main(["prior", "mine", "to=deep/mylab"]) == 2
    assert capsys.readouterr().err == (
        "deep/mylab/tests/test_mine.py cannot be written: it fails with 'No space left on device'.\n"
    )
    assert os.listdir(here) == []


def test_help_names_every_group(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(group in out for group in KINDS)
