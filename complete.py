"""Fill in missing pixels and empty cells with a trained model: ``python complete.py --help``."""

from taut.cli import run

if __name__ == "__main__":
    run("complete", "taut.commands.complete:complete")
