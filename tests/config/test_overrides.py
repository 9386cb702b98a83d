"""Words are taken as the shell hands them over, or the quoting that works is shown."""

import pytest

from taut.config.overrides import parsed, parsed_word, quoted, understood
from taut.errors import UserError

NAMES = ["a=b.csv", "é.csv", "[x].csv", "it's.csv", 's"p".csv', "{z}.csv", "a b.csv", "back\\slash.csv", "(1), (2).csv"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["data.path", "mask.path", "data.dir", "run", "resume", "out", "hydra.run.dir"])
def test_a_path_needs_no_second_quotes(name, key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    override = parsed_word(understood(f"{key}={name}"))
    assert (override.key_or_group, override.value()) == (key, name)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("data.path=~/x.csv", "/home/me/x.csv"),
        ("data.path='~/x y.csv'", "/home/me/x y.csv"),
        ("run=~/a=b", "/home/me/a=b"),
        ("hydra.run.dir=new/c,d", "new/c,d"),
        ("data.path=null", None),
        ("resume=true", True),
    ],
)
def test_a_tilde_is_the_home_and_what_is_no_path_stays(typed, meant, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert parsed_word(understood(typed)).value() == meant


def test_a_comma_separates_jobs_where_several_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert understood("run=a,b") == "run=a,b"
    assert understood("run=~/a,~/b", several=True) == "run='/home/me/a','/home/me/b'"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b").touch()
    assert understood("run=a,b") == "run='a,b'"


@pytest.mark.parametrize(
    ("typed", "words", "several"),
    [
        ("run=[a,~/b]", ["run='/home/me/a','/home/me/b'"], True),
        ("run=[a]", ["run=a"], False),
        ("run=[there]", ["run='[there]'"], False),
        ("data.columns=[a,b]", ["data.columns=[a,b]"], False),
    ],
)
def test_a_list_of_runs_is_one_job_for_each(typed, words, several, tmp_path, monkeypatch):
    """A folder whose name reads as a list is one run, and no other key has jobs in brackets."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("[there]", "a", "b"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("sys.argv", ["evaluate.py", typed.replace("[a,~", "[~/a,~")])
    args = parsed()
    assert (args.overrides, args.multirun) == ([word.replace("/home/me", str(tmp_path)) for word in words], several)


@pytest.mark.parametrize("typed", ["run=[true,false]", "run=[null]", "run=[]", "run=[1,2]", "run=[{a:1}]", "run=[[a]]"])
def test_a_list_of_other_things_is_no_list_of_runs(typed, monkeypatch):
    monkeypatch.setattr("sys.argv", ["evaluate.py", typed])
    args = parsed()
    assert (args.overrides, args.multirun) == ([typed], False)


def test_a_list_with_a_folder_that_is_not_there_starts_no_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    monkeypatch.setattr("sys.argv", ["evaluate.py", "run=[a,b]"])
    with pytest.raises(UserError, match=r"^run=b is not the folder of a run: there is no such folder\.$"):
        parsed()


def test_a_list_of_runs_is_not_one_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.setattr("sys.argv", ["evaluate.py", "--run", "run=[a,b]"])
    with pytest.raises(
        UserError, match=r"^--run starts one job, and a list of runs is one for each; leave --run out\.$"
    ):
        parsed()


@pytest.mark.parametrize("text", ["a", "it's", 'say "x"', "back\\slash", "end\\", "a\\'b", "\\\\'", "é=,[(", "${x}"])
@pytest.mark.parametrize("mark", ["'", '"'])
def test_what_is_quoted_is_read_as_it_was(text, mark):
    assert parsed_word(f"k={quoted(text, mark)}").value() == text


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("k", "k is not of the form key=value."),
        ("/", "/ is not of the form key=value; type run=/, or resume=/ in a training."),
        ("k=[1", "k=[1 cannot be read; if it is meant as a text, quote it: 'k=\"[1\"'."),
        ("k=é", "k=é cannot be read; if it is meant as a text, quote it: 'k=\"é\"'."),
    ],
)
def test_what_cannot_be_read_is_told_with_the_quoting_that_can(typed, said):
    with pytest.raises(UserError) as caught:
        understood(typed)
    assert str(caught.value) == said


def test_a_plus_sign_is_no_promise_that_a_key_is_new():
    assert understood("+trainer.max_steps=1") == "++trainer.max_steps=1"
    assert understood("+sweep=k_grid") == "+sweep=k_grid"
