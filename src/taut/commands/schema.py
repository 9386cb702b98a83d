"""``taut schema to=<folder>``: JSON schemas, by which an editor completes and checks what a user writes.

They are made of the definitions by which a config is checked. A key means the same wherever it stands
(``config/ranges.py``), an argument is of the type that its constructor is annotated with
(``config/argument_types.py``), and a description is the comment behind the key in its file of ``conf/``: refusals,
``--help`` and schemas read the same. A schema takes what the checks take, but for what cannot be said in one: a whole
number may be written ``1.0`` there, and NaN passes for a number.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taut.config import argument_types, descriptions
from taut.config.check import GROUPS_OF_KEYS, GROUPS_OF_OBJECTS, KEYS, OBJECTS, OPTIONAL_OBJECTS, ranges_of
from taut.config.instantiate import arguments, nodes
from taut.config.plain_yaml import read_values
from taut.config.program import REFUSED, conf, ended
from taut.config.ranges import Range
from taut.errors import UserError, nearest
from taut.files import atomic_folder

Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The newest that editors know through and through."""
VALUE, OPEN = {"$ref": "#/definitions/value"}, {"$ref": "#/definitions/open"}
SETTINGS = ("_partial_", "_convert_", "_recursive_", "_args_", "_target_")
SKIPPED = ("hydra", "sweep")
"""Groups whose files name nothing to build: Hydra's own, and studies, some of which are W&B's."""
WORDS = ("to",)
HELP = """\
Write JSON schemas of the configs, by which an editor completes keys and choices, says what each is, and marks what
would be refused.

  taut schema to=<folder>

There is one for the configs of each command (train.json, for an experiment or a study, too), and one for the files of
each group (prior.json). The folder must be new. A file names its schema in its first line:

  # yaml-language-server: $schema=<folder>/prior.json
"""


def main(words: Sequence[str]) -> int:
    """The exit code: 0, or 2 for a mistake in the command."""
    return ended(lambda: _write(words))


def _write(words: Sequence[str]) -> int:
    if not words or words[0] in ("--help", "-h"):
        print(HELP, end="")
        return 0 if words else REFUSED
    for word in words:
        name, equals, value = word.partition("=")
        if name not in WORDS or not equals:
            raise UserError(f"There is no word {word} of taut schema; {nearest(name, WORDS)}")
        if not value:
            raise UserError("to= is empty; name a new folder: taut schema to=<folder>.")
    to = Path(words[-1].partition("=")[2]).expanduser()
    if to.exists() or to.is_symlink():
        raise UserError(f"to={to} exists; choose a folder that does not.")
    made = schemas(conf())
    with atomic_folder(to) as folder:
        for name, schema in made.items():
            (folder / f"{name}.json").write_text(json.dumps(schema) + "\n", encoding="utf-8")
    print(f"{len(made)} schemas; the first line of a file names its own, e.g. of an experiment or of a prior:")
    for name in ("train", "prior"):
        print(f"# yaml-language-server: $schema={to.absolute() / name}.json")
    return 0


def schemas(conf: Path) -> dict[str, Schema]:
    """The schemas of all commands and of all groups of a folder of configs, by name.

    Args:
        conf: The folder.

    Raises:
        UserError: If one of its files cannot be read, or names a class that does not exist.
    """
    folders = sorted(folder for folder in conf.iterdir() if folder.is_dir())
    # from each folder by itself: rglob does not go into one that is a link
    files = {folder: {p: p.read_text(encoding="utf-8") for p in sorted(folder.rglob("*.yaml"))} for folder in folders}
    targets = _targets(
        {p: text for folder in folders if folder.name not in SKIPPED for p, text in files[folder].items()}
    )
    choices = {folder.name: _choices(folder, files[folder]) for folder in folders if folder.name != "hydra"}
    groups = choices.keys() - {*SKIPPED}
    made = {
        command: _of_command(command, (conf / f"{command}.yaml").read_text(encoding="utf-8"), choices, targets)
        for command in KEYS
    }
    return made | {group: _of_group(group, choices) for group in sorted(groups)}


def _of_command(command: str, text: str, choices: Mapping[str, Mapping[str, str]], targets: Schema) -> Schema:
    said = descriptions.of_keys(text)
    ranges = ranges_of(command)
    properties = {key: _key(said.get(key, ""), ranges.get(key), key) for key in sorted(KEYS[command])}
    return {
        "$schema": DRAFT,
        "title": f"What taut {command} composes, or an experiment for it",
        "type": "object",
        "properties": properties | {"defaults": _defaults(choices), "hydra": {}},
        "additionalProperties": False,
        "definitions": _definitions(command, targets),
    }


def _of_group(group: str, choices: Mapping[str, Mapping[str, str]]) -> Schema:
    command = "evaluate" if group == "evidence" else "train"
    return {
        "$schema": DRAFT,
        "title": f"A choice of {group}",
        "type": "object",
        "properties": {"defaults": _defaults(choices)},
        # in the file beside it, since what a key or a class takes is the same in all groups
        "allOf": [{"$ref": f"{command}.json{VALUE['$ref']}"}],
    }


def _key(comment: str, allowed: Range | None, key: str) -> Schema:
    """A key of a command; what it may hold is said of all keys of its name."""
    value: list[Schema] = [VALUE if allowed is None else {"$ref": f"{VALUE['$ref']}/properties/{key}"}]
    words = ": ".join(part for part in (comment, "" if allowed is None else allowed[1]) if part)
    group: Schema = {"anyOf": [{"type": ["object", "null"]}, OPEN]}
    if key in GROUPS_OF_OBJECTS:
        value.append({"additionalProperties": group})
    if key in (*GROUPS_OF_KEYS, *OBJECTS, *OPTIONAL_OBJECTS):
        value.append(group)
    return {**({"description": words} if words else {}), "allOf": value}


def _definitions(command: str, targets: Schema) -> Schema:
    return {
        "open": {"type": "string", "pattern": r"\$\{|^\?\?\?$", "description": "an interpolation, or ???"},
        "value": {
            "properties": {name: _range(adapter, words) for name, (adapter, words) in ranges_of(command).items()},
            "additionalProperties": VALUE,
            "items": VALUE,
            # asked first: most values are no objects to build, and there are a hundred classes to compare with
            "if": {"type": "object", "required": ["_target_"]},
            "then": {
                "allOf": [
                    {"if": {"properties": {"_target_": {"const": name}}}, "then": schema}
                    for name, schema in targets.items()
                ]
            },
        },
    }


def _range(adapter: Any, words: str) -> Schema:
    return {"description": words, "anyOf": [_inlined(adapter.json_schema()), OPEN], "allOf": [VALUE]}


def _inlined(schema: Schema) -> Schema:
    """A schema of pydantic's in the words of the older draft, without definitions, which are looked for at the root."""
    defined = schema.pop("$defs", {})

    def replaced(part: Any) -> Any:
        if isinstance(part, list):
            return [replaced(each) for each in part]
        if not isinstance(part, dict) or part == {"anyOf": []}:
            # of objects alone, which a config describes by their _target_: anything
            return {} if isinstance(part, dict) else part
        if "$ref" in part:
            return replaced(defined[part["$ref"].rpartition("/")[2]])
        return {"items" if key == "prefixItems" else key: replaced(value) for key, value in part.items()}

    return replaced(schema)


def _targets(files: Mapping[Path, str]) -> Schema:
    """What the arguments of every class are that a file of conf/ builds, by its name."""
    comments: dict[str, dict[str, str]] = {}
    for path, text in files.items():
        said = descriptions.of_keys(text)
        for key, node in nodes(read_values(path)):
            prefix = f"{key}." if key else ""
            own = {name: said[f"{prefix}{name}"] for name in node if f"{prefix}{name}" in said}
            comments[node["_target_"]] = own | comments.get(node["_target_"], {})
    return {target: _arguments(target, said) for target, said in sorted(comments.items())}


def _arguments(target: str, said: Mapping[str, str]) -> Schema:
    known, others = arguments(target)
    properties = {name: _argument(name, annotation, said.get(name, "")) for name, annotation in sorted(known.items())}
    closed = {} if others else {"propertyNames": {"enum": [*properties, *SETTINGS]}}
    return {"properties": properties, **closed}


def _argument(name: str, annotation: Any, comment: str) -> Schema:
    words = ": ".join(part for part in (comment, argument_types.expected(annotation)) if part)
    schema = _inlined(argument_types.json_schema(annotation))
    described = {"description": words} if words else {}
    if not schema:
        return described
    # an object is built by its own _target_, and judged there; a null shape is filled in from the data
    filled_in = [{"type": "null"}] if name == "x_shape" else []
    built = {"type": "object", "required": ["_target_"]}
    return {**described, "anyOf": [schema, OPEN, built, {"type": "array", "contains": built}, *filled_in]}


def _choices(folder: Path, files: Mapping[Path, str]) -> dict[str, str]:
    """What each choice of a group says of itself, by its name: ``families/q_flow`` where it stands in a folder."""
    names = {path: path.relative_to(folder).with_suffix("").as_posix() for path in files}
    return {names[path]: descriptions.of_choice(text) for path, text in files.items()}


def _defaults(choices: Mapping[str, Mapping[str, str]]) -> Schema:
    """The list of choices at the head of a file; a choice of the user's own is any word."""
    return {
        "type": "array",
        "items": {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "maxProperties": 1,
                    "minProperties": 1,
                    "patternProperties": dict(_pattern(group, names) for group, names in choices.items()),
                    "additionalProperties": {},
                },
            ]
        },
    }


def _pattern(group: str, names: Mapping[str, str]) -> tuple[str, Schema]:
    known = [{"const": name, "description": said} for name, said in names.items()]
    one = {"anyOf": [*known, {"type": "string"}]}
    return rf"^(override +)?/?{group}(@\S+)?$", {"anyOf": [one, {"type": "null"}, {"type": "array", "items": one}]}
