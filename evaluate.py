"""Bracket log p(x) of a trained model from both sides: ``python evaluate.py --help``."""

from taut.cli import run

if __name__ == "__main__":
    run("evaluate", "taut.commands.evaluate:evaluate", after_sweep="taut.commands.evaluate:compare")
