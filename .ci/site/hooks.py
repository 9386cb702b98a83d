"""What the documentation site needs beside its theme: links out of ``docs/``, and mathematics without a script."""

import posixpath
import re
from html import unescape
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
BESIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md", "examples/mylab/README.md")
"""Pages that live beside ``docs/`` and stand under ``repository/`` of the site."""
CODE = re.compile(r"(```.*?\n```|`[^`\n]+`)", re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#\s]+)(?=[)#])")
FORMULA = re.compile(r'<(span|div) class="arithmatex">(?:\\\(|\\\[)(.*?)(?:\\\)|\\\])</\1>', re.DOTALL)

SPACED = {r"\|": r"\,\|\,", r"\sim": r"\;\sim\;", "KL": r"\mathrm{KL}"}
"""What the converter sets too close; it would set log p as logp, too."""
FUNCTION = re.compile(r"(<mi>(?:log|exp)</mi>)(?!<mo)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages beside ``docs/``."""
    for path in BESIDE:
        content = relinked((ROOT / path).read_text(encoding="utf-8"), path)
        files.append(File.generated(config, f"repository/{path}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of a page of ``docs/`` that lead out of it."""
    del config, files
    return markdown if page.file.generated_by else relinked(markdown, f"docs/{page.file.src_uri}")


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """MathML in the place of LaTeX: browsers draw it themselves, offline and without a script."""
    del page, config
    return FORMULA.sub(_mathml, output)


def relinked(markdown: str, path: str) -> str:
    r"""The text of a page of the repository with its relative links as those of the site.

    Code is left alone, but for ``\|``: within a table a repository shows a bar, and the site would show the stroke.
    """
    parts = CODE.split(markdown)
    parts[::2] = [LINK.sub(lambda link: _relinked(link[1], path), part) for part in parts[::2]]
    parts[1::2] = [part if part.startswith("```") else part.replace(r"\|", "|") for part in parts[1::2]]
    return "".join(parts)


def _relinked(link: str, path: str) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    if (ROOT / target).is_dir():
        target = f"{target}/README.md"
    return posixpath.relpath(_on_the_site(target), posixpath.dirname(_on_the_site(path)) or ".")


def _on_the_site(path: str) -> str:
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def _mathml(formula: re.Match[str]) -> str:
    kind, latex = formula.groups()
    latex = unescape(latex).strip()
    for written, set_as in SPACED.items():
        latex = latex.replace(written, set_as)
    drawn = convert(latex, display="block" if kind == "div" else "inline")
    return FUNCTION.sub(r'\1<mspace width="0.17em" />', drawn)
