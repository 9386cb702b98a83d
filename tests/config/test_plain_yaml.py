"""YAML of plain values, as a config or a run folder may hold it."""

from pathlib import Path

import pytest

from taut.config.plain_yaml import NotPlain, check_yaml, read_config, read_values, values
from taut.errors import UserError


def test_numbers_are_those_that_omegaconf_wrote(tmp_path):
    """YAML 1.1 reads 1e-3 as a text."""
    path = tmp_path / "a.yaml"
    path.write_text("lr: 1e-3\nname: '1e-3'\nday: 2020-01-01\nlist: [1, x]\n")
    assert dict(read_config(path)) == {"lr": 0.001, "name": "1e-3", "day": "2020-01-01", "list": [1, "x"]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "!!python/object/apply:os.system ['true']",
            "holds the tag 'python/object/apply:os.system'; only plain values",
        ),
        ("a: !mine 3", "holds the tag '!mine'"),
        ("a: !!binary aGk=", "holds the tag 'binary'"),
        ("a: 1\nb: {c: 1, c: 2}", "holds the key 'c' twice, again in line 2"),
        ("? [a]\n: 1", "has a key that is no word or number in line 1"),
        ("a: &a [*a]", "unfolds to inf values"),
        ("a: [1", "is not a readable YAML file: "),
        ("a: {" * 41, "is nested more than 40 deep"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_place(text, reason):
    with pytest.raises(NotPlain) as refusal:
        values(text)
    assert str(refusal.value).startswith(reason)


def test_aliases_are_taken_where_they_are_few():
    assert values("a: &x [1]\nb: *x\nc: !!str 3") == {"a": [1], "b": [1], "c": "3"}
    with pytest.raises(NotPlain, match="aliases"):
        values("a: &x [1]\nb: *x", aliases=False)


def test_a_folder_of_configs_is_checked_file_by_file(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.yaml").write_text("a: 1")
    check_yaml(tmp_path)
    (tmp_path / "b" / "c.yml").write_text("a: 1\na: 2")
    with pytest.raises(UserError, match=r"c\.yml holds the key 'a' twice"):
        check_yaml(tmp_path)


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/null", "."])
def test_only_regular_files_are_read(place):
    with pytest.raises(UserError, match="not a regular file"):
        read_values(Path(place))
