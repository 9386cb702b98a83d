"""What the pages of the site say is typed is composed: a group, a choice or a key that is gone is found."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from taut.config import compose as _resolvers  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("index", "lecture", "search", "cluster", "publish", "estimators", "questions")
COMMAND = re.compile(r"^(?:\$ )?python (train|evaluate|complete)\.py\b *(.*)$", re.MULTILINE)
ELSEWHERE = ("run=", "resume=", "trust=", "--", "hydra", "-m")
"""Words that name what only a real command has: a run, a package, a sweeper."""


def _commands() -> list[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for page in PAGES:
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        for said in re.findall(r"```bash\n(.*?)```|(?<!`)`(python [^`]*)`", text, re.DOTALL):
            block = said[0] or said[1].replace("\n", " ")
            for name, words in COMMAND.findall(block):
                split = shlex.split(re.sub(r"<.*?>", "x", words))
                kept = [word for word in split if "=" in word and not word.startswith(ELSEWHERE)]
                found.add((name, *kept))
    return sorted(found)


def _first(word: str) -> str:
    """One job of a sweep: the first of the choices."""
    override = OverridesParser.create().parse_override(word)
    if not override.is_sweep_override():
        return word
    values = override.value()
    first = next(iter(values.list), "x") if hasattr(values, "list") else getattr(values, "start", 0)
    return f"{override.get_key_element()}={first}"


COMMANDS = _commands()


def test_the_pages_have_their_commands():
    assert len(COMMANDS) >= 25


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_a_page_says_is_typed_composes(words):
    name, *words = words
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert compose(name, [_first(word) for word in words])
