"""Train a latent-variable model and measure how tight its bound is: ``python train.py --help``."""

from taut.cli import run

if __name__ == "__main__":
    run("train", "taut.commands.train:train")
