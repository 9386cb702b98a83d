"""What a file of conf/ says of itself is there, and reaches ``--help`` whole."""

import re
import sys

import pytest
from pieces import CONF

from taut.cli import main
from taut.config.descriptions import laid_out, of_choice, of_keys

FILES = [path for path in CONF.rglob("*.yaml") if path.parent.name not in ("conf", "help")]


def test_every_choice_says_in_a_few_words_what_it_is():
    """A yaml without a comment in front, or with a paragraph, would leave a hole in ``--help``, or fill a screen."""
    said = {path: of_choice(path.read_text(encoding="utf-8")) for path in (*FILES, *(CONF.parent / "sweeps").glob("*"))}
    assert [str(path) for path, words in said.items() if not words] == []
    assert [str(path) for path, words in said.items() if len(words) > 110 and "wandb_" not in path.name] == []
    assert len(said) > 90


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", ["train", "evaluate", "complete"])
def test_help_says_what_every_choice_is_within_the_terminal(command, width, command_in_process, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "argv", [f"{command}.py", "--help"])
    assert main(command, CONF, "none:none") == 0
    table = capsys.readouterr().out.split("Groups and their choices\n\n")[1].split("\n\n")[0]
    assert max(map(len, table.splitlines())) <= width
    said = " ".join(table.split())
    named = {"train": ("objective/dreg", "objective/stl"), "evaluate": ("evidence/sumo", "evidence/u_k")}
    for name in named.get(command, ("evidence/bdmc", "mask/random")):
        assert of_choice((CONF / f"{name}.yaml").read_text()) in said


def test_pieces_of_the_users_own_say_what_they_are(command_in_process, tmp_path, monkeypatch, capsys):
    (tmp_path / "prior").mkdir()
    (tmp_path / "prior" / "mine.yaml").write_text("# A prior of mine, for $5.\n_target_: mylab.Mine\n")
    monkeypatch.setattr(sys, "argv", ["train.py", "--help", "--config-dir", str(tmp_path)])
    assert main("train", CONF, "none:none") == 0
    assert re.search(r"\bmine +A prior of mine, for \$5\n", capsys.readouterr().out)


def test_the_comments_of_a_file_are_those_of_its_keys():
    """A # inside a text is no comment, and a key below another has its whole path."""
    text = "# A head.\na: 1  # one.\nb:\n  c: '#'   # two\n  d: x#y\n# between\ne: [1, 2]   # three: 3\n"
    assert of_keys(text) == {"a": "one", "b.c": "two", "e": "three: 3"}
    assert of_choice("# @package _global_\n# Words.\nk: 1\n") == "Words"
    assert of_choice("k: 1\n# Words.\n") == ""


def test_words_wrap_under_their_column():
    text = laid_out({"q": {"a": "word " * 20, "bb": ""}}, 60)
    assert text.splitlines()[1].startswith("       word")
    assert text.splitlines()[-1] == "   bb"
