"""Words of a command line, as Hydra reads them."""


def quoted(text: str) -> str:
    """A value that Hydra's grammar takes as it is."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
