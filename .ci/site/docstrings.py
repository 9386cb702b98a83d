"""Docstrings as the site reads them: an example that begins with ``>>>`` is a block of code, a role a name."""

import re

from griffe import Extension, GriffeLoader, Object

EXAMPLE = re.compile(r"(?:^>>> .*\n?(?:^(?!\s*$).*\n?)*)(?:\n*^>>> .*\n?(?:^(?!\s*$).*\n?)*)*", re.MULTILINE)
ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")


class Examples(Extension):
    """Puts fences around examples, and takes the roles of reStructuredText off."""

    def on_object(self, *, obj: Object, loader: GriffeLoader, **kwargs: object) -> None:
        del loader, kwargs
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(_fenced, ROLE.sub(r"`\1`", obj.docstring.value))


def _fenced(example: re.Match[str]) -> str:
    return f"```pycon\n{example[0].rstrip()}\n```\n"
