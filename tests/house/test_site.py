"""The documentation site, without building it: every page is in the menu, links lead somewhere, names are there."""

import importlib.metadata
import posixpath
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import taut
import taut.completion
import taut.evidence
import taut.testing

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BESIDE = [
    ROOT / name
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md", "examples/mylab/README.md")
]
CODE = re.compile(r"```.*?\n```|`[^`\n]*`", re.DOTALL)
FENCED = re.compile(r"```.*?\n```", re.DOTALL)
ITEM = re.compile(r"^\s*(?:[-*]|\d+\.) ", re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")
REFERENCE = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))


def _menu(entry) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in _menu(part)]


def _anchors(path: Path) -> set[str]:
    """Those of the headings, as the site and the pages of a repository both make them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    words = [re.sub(r"[^\w\s-]", "", re.sub(r"\]\([^)]*\)", "]", heading)).strip().lower() for heading in headings]
    return {re.sub(r"[-\s]+", "-", word) for word in words}


def test_every_page_is_in_the_menu_once():
    menu = _menu(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    beside = [f"repository/{path.relative_to(ROOT)}" for path in BESIDE]
    assert sorted(menu) == sorted([*(str(path.relative_to(DOCS)) for path in PAGES), *beside])


@pytest.mark.parametrize("path", [*PAGES, *BESIDE], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_every_anchor_leads_somewhere(path):
    for link in LINK.findall(CODE.sub("", path.read_text(encoding="utf-8"))):
        place, _, anchor = link.partition("#")
        target = Path(posixpath.normpath(path.parent / place)) if place else path
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("path", [*PAGES, *BESIDE], ids=lambda path: str(path.relative_to(ROOT)))
def test_lists_are_lists_on_the_site_as_well(path):
    """It wants an empty line before a list, and four spaces before what else belongs to an item."""
    for paragraph in re.split(r"\n(?:[^\S\n]*\n)+", FENCED.sub("", path.read_text(encoding="utf-8"))):
        assert ITEM.match(paragraph) or not ITEM.search(paragraph), paragraph
        assert not re.match(r" {1,3}\S", paragraph), paragraph


@pytest.mark.parametrize(
    "module", [taut, taut.evidence, taut.completion, taut.testing], ids=lambda module: module.__name__
)
def test_every_public_name_is_in_the_reference(module):
    described = set(re.findall(r"^::: ([\w.]+)$", REFERENCE, re.MULTILINE))
    told = {
        "taut.__version__",
        "taut.evidence",
        "taut.evidence.Kind",
        "taut.completion.Fill",
        "taut.completion.Imputer",
    }
    assert {f"{module.__name__}.{name}" for name in module.__all__} <= described | told


def test_the_page_of_commands_lists_every_choice():
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", (DOCS / "commands.md").read_text(encoding="utf-8"), re.MULTILINE)
    listed = {group: set(re.findall(r"(?<!\[)`(\w+)`", choices)) for group, choices in rows}
    assert listed.keys() >= {"model", "prior", "q", "likelihood", "objective", "data", "evidence", "strategy"}
    for group, choices in listed.items():
        of_wandb = {"wandb_bayes", "wandb_grid", "wandb_random"}  # files of W&B's own program
        files = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")} - {"default"} - of_wandb
        assert choices == files, group


def test_every_symptom_has_something_to_type():
    page = (DOCS / "questions.md").read_text(encoding="utf-8")
    answers = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert len(answers) >= 12
    assert all("`" in answer for answer in answers)


def test_the_citation_is_that_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert [citation[key] for key in ("title", "version", "license")] == [
        project[key] for key in ("name", "version", "license")
    ]
    assert citation["abstract"] == project["description"]
    assert citation["version"] == importlib.metadata.version("taut")
    assert {"message", "authors"} <= citation.keys()
