"""Bracket log p(x) of a model that taut did not train: ``python audit.py --help``."""

from taut.cli import run

if __name__ == "__main__":
    run("audit", "taut.commands.audit:audit")
