"""Pictures with a sixteenth of their pixels: what they show does not depend on it, and drawing them is a third of a
small run's work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

COARSE = 36  # dots per inch, a quarter of those of a user
_of_a_user: list[tuple[int, ...]] = []


def coarsen() -> None:
    """Have pictures drawn coarsely from here on, if this process draws any."""
    style = sys.modules.get("taut.report.figures.style")
    if style is not None and not _of_a_user:
        _of_a_user.append(style.save.__defaults__)
        style.save.__defaults__ = (COARSE,)


@contextmanager
def fine() -> Iterator[None]:
    """A block in which pictures are drawn as for a user."""
    from taut.report.figures import style

    before = style.save.__defaults__
    style.save.__defaults__ = _of_a_user[0] if _of_a_user else before
    try:
        yield
    finally:
        style.save.__defaults__ = before
