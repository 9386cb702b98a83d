"""``taut schema to=<folder>``: JSON schemas, by which an editor completes and checks what a user writes."""

import json
from collections.abc import Sequence
from pathlib import Path

from taut.config.program import REFUSED, conf, ended
from taut.errors import UserError, nearest
from taut.files import atomic_folder

KEYS = ("to",)
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
        if name not in KEYS or not equals:
            raise UserError(f"There is no word {word} of taut schema; {nearest(name, KEYS)}")
        if not value:
            raise UserError("to= is empty; name a new folder: taut schema to=<folder>.")
    to = Path(words[-1].partition("=")[2]).expanduser()
    if to.exists() or to.is_symlink():
        raise UserError(f"to={to} exists; choose a folder that does not.")
    # here: pydantic, and the classes whose arguments are described
    from taut.config.schema import schemas

    made = schemas(conf())
    with atomic_folder(to) as folder:
        for name, schema in made.items():
            (folder / f"{name}.json").write_text(json.dumps(schema) + "\n", encoding="utf-8")
    print(f"{len(made)} schemas; the first line of a file names its own, e.g. of an experiment or of a prior:")
    for name in ("train", "prior"):
        print(f"# yaml-language-server: $schema={to.absolute() / name}.json")
    return 0
