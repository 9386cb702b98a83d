"""The schemas take what the checks take and refuse what they refuse, for they are made of them."""

import json
import re
import shlex
from functools import cache
from inspect import Parameter

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from omegaconf import OmegaConf
from pieces import CONF, EXPERIMENTS
from referencing import Registry, Resource
from reliability.test_cli import MISTAKES

from taut.__main__ import main
from taut.commands.schema import schemas
from taut.config.argument_types import check_type
from taut.config.check import check, check_range, ranges_of
from taut.config.descriptions import of_choice, of_keys
from taut.config.instantiate import arguments
from taut.config.plain_yaml import read_values
from taut.errors import UserError

COMMANDS = ("train", "evaluate", "complete", "audit")


PAGES = [(CONF.parent / name).read_text(encoding="utf-8") for name in ("README.md", "docs/commands.md")]
TYPED = dict.fromkeys(line for page in PAGES for line in re.findall(r"^python train\.py(.*)$", page, re.MULTILINE))
SINGLE = [
    words for words in map(lambda line: shlex.split(line, comments=True), TYPED) if not {"-m", "--help"} & {*words}
]
SINGLE = [words for words in SINGLE if not any(word.startswith(("trust=", "+sweep=", "resume=")) for word in words)]


def composed(*words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(words))


@cache
def validators():
    """Validators by name, with the definitions that files beside them hold."""
    named = {name: schema | {"$id": f"{name}.json"} for name, schema in schemas(CONF).items()}
    files = Registry().with_resources([(f"{name}.json", Resource.from_contents(each)) for name, each in named.items()])
    for schema in named.values():
        Draft7Validator.check_schema(schema)
    return {name: Draft7Validator(schema, registry=files) for name, schema in named.items()}


@pytest.fixture
def made():
    return validators()


def test_every_file_of_conf_is_valid(made):
    """A key that a schema lacks, or a class whose arguments it reads otherwise than the check, would be marked."""
    faults = []
    for path in sorted(CONF.rglob("*.yaml")):
        # an experiment may stand in a folder of its own
        group = "experiment" if "experiment" in path.parts else path.parent.name
        if group in ("help", "sweeper", "job_logging") or path.stem.startswith("wandb_"):
            continue
        whole = path.stem if group == "conf" else EXPERIMENTS.get(path.stem, "train")
        schema = made[whole if group in ("conf", "experiment", "debug", "sweep") else group]
        faults += [(path.name, error.message[:200]) for error in schema.iter_errors(read_values(path))]
    assert not faults


@pytest.mark.parametrize("words", SINGLE, ids=" ".join)
def test_every_config_of_the_readme_is_valid(words, made):
    cfg = composed(*words)
    errors = made["train"].iter_errors(OmegaConf.to_container(cfg, resolve=True))
    assert [(list(error.absolute_path), error.message[:200]) for error in errors] == []


def nested(word):
    """The value of a word at its place, as a file would hold it."""
    parsed = OverridesParser.create().parse_override(word)
    content = parsed.value()
    for name in reversed(parsed.key_or_group.split(".")):
        content = {name: content}
    return content


RANGES = [
    word
    for command, said in MISTAKES.items()
    for word in shlex.split(command)
    if " must be " in f" {said} " or said.startswith(("an integer", "above", "between", "0 to", "all,", "a number"))
    if "=" in word
    and "." in word.partition("=")[0] + "."
    and not word.startswith(("-", "model=", "mask=", "likelihood="))
]


@pytest.mark.parametrize(
    "word", [word for word in RANGES if "nan" not in word and "inf" not in word and "{" not in word]
)
def test_a_value_out_of_its_range_is_marked(word, made):
    assert not made["train"].is_valid(nested(word))


@pytest.mark.parametrize(
    "content",
    [
        {"kk": 5},
        {"prior": 3},
        {"optimizer": {"_target_": "torch.optim.Adam", "learning_rate": 1}},
        {"prior": {"_target_": "taut.model.prior.mixture.Mixture", "learn_weights": "yes"}},
        {"optimizer": {"_target_": "torch.optim.Adam", "betas": ["a", "b"]}},
        {"trainer": {"accelerator": "mps"}},
        {"defaults": "mog"},
    ],
)
def test_what_a_command_refuses_is_marked(content, made):
    assert not made["train"].is_valid(content)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**33)
    | st.floats(-2, 3)
    | st.sampled_from(
        ["auto", "all", "test", "train", "00:01:00:00", "simple", "32-true", "evaluation2", "", "x", "warn", "mps"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["hours", "x"]), inner, max_size=2),
    max_leaves=3,
)


def agrees(schema, value, refused):
    """Whether a schema takes just what a check takes; 1.0 is an integer in a schema alone."""
    accepted = schema.is_valid(value)
    return accepted != refused or (accepted and "." in json.dumps(value))


def is_refused(judge, *asked):
    try:
        judge(*asked)
    except UserError:
        return True
    return False


@cache
def ranges():
    """A schema and the range it is made of, of every key of every command; once where several keys share both."""
    made = {}
    for command in COMMANDS:
        root = validators()[command]
        for name, allowed in ranges_of(command).items():
            schema = root.schema["definitions"]["value"]["properties"][name]["anyOf"][0]
            alone = (command, name, allowed, root.evolve(schema=schema))
            made.setdefault((id(allowed), json.dumps(schema)), alone)
    return list(made.values())


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_ranges_and_schemas_take_the_same_values(value):
    """For every key of every command: one range that is written twice would drift apart."""
    for command, name, allowed, alone in ranges():
        assert agrees(alone, value, is_refused(check_range, name, allowed, value)), (command, name, value)


@cache
def types_of_arguments():
    """A schema and the type it is made of, of every argument of every class; once where several share both."""
    root, made = validators()["train"], {}
    for each in root.schema["definitions"]["value"]["then"]["allOf"]:
        target = each["if"]["properties"]["_target_"]["const"]
        if target.startswith(("lightning.", "taut.training.strategies.")):  # whose types are of classes, mostly
            continue
        known, _ = arguments(target)
        for name, annotation in known.items():
            described = each["then"]["properties"][name].get("anyOf")
            if described is not None and described[0] and annotation is not Parameter.empty:
                alone = (target, name, annotation, root.evolve(schema=described[0]))
                made.setdefault((repr(annotation), json.dumps(described[0])), alone)
    return list(made.values())


@settings(max_examples=40, deadline=None)
@given(VALUES)
def test_a_schema_takes_no_argument_that_is_refused(value):
    """It may take fewer: of a type some of whose values only a program can make, pydantic leaves those out."""
    for target, name, annotation, alone in types_of_arguments():
        taken = alone.is_valid(value) and "." not in json.dumps(value)
        assert not (taken and is_refused(check_type, name, value, annotation)), (target, name, value)


def test_descriptions_are_the_comments_of_the_files(made):
    """Written once more for the schema, they would say something else one day."""
    comments = of_keys((CONF / "train.yaml").read_text(encoding="utf-8"))
    root = made["train"].schema
    for key in ("k", "seed", "threads", "lr_find"):
        assert root["properties"][key]["description"].startswith(comments[key])
        assert root["properties"][key]["description"].endswith(ranges_of("train")[key][1])
    (pattern,) = [
        name for name in root["properties"]["defaults"]["items"]["anyOf"][1]["patternProperties"] if "objective" in name
    ]
    choices = root["properties"]["defaults"]["items"]["anyOf"][1]["patternProperties"][pattern]["anyOf"][0]["anyOf"]
    said = {choice["const"]: choice["description"] for choice in choices if "const" in choice}
    assert said["stl"] == of_choice((CONF / "objective" / "stl.yaml").read_text(encoding="utf-8"))


def test_choices_within_a_folder_of_a_group_are_offered_by_their_whole_names(made):
    """An editor would else complete half of the experiments, and not know a class that only these name."""
    patterns = made["train"].schema["properties"]["defaults"]["items"]["anyOf"][1]["patternProperties"]
    offered = {
        choice["const"]
        for pattern, each in patterns.items()
        if "?experiment(" in pattern
        for choice in each["anyOf"][0]["anyOf"]
        if "const" in choice
    }
    folder = CONF / "experiment"
    assert offered == {str(path.relative_to(folder))[: -len(".yaml")] for path in folder.rglob("*.yaml")}
    assert "families/q_flow" in offered


def test_what_the_schema_takes_is_taken(made):
    """Whole configs, with a value at the end of each range of numbers."""
    for word in ("k=1", "seed=4294967295", "optimizer.lr=1e-9", "data.batch_size=1", "trainer.max_time={hours: 2}"):
        assert made["train"].is_valid(nested(word))
        check(composed(word))


def test_the_command_writes_them_once(command_in_process, tmp_path, capsys):
    assert main(["schema", "to=mine"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1] == f"# yaml-language-server: $schema={tmp_path}/mine/train.json"
    assert json.loads((tmp_path / "mine" / "prior.json").read_text())["title"] == "A choice of prior"
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for words, sentence in {
        "to=mine": "to=mine exists; choose a folder that does not.",
        "too=x": "There is no word too=x of taut schema; did you mean to?",
        "to=": "to= is empty; name a new folder: taut schema to=<folder>.",
    }.items():
        assert main(["schema", words]) == 2
        assert capsys.readouterr().err == f"{sentence}\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
