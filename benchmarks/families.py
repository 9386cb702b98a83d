"""Costs of a training step with each q and each prior, as multiples: ``python -m benchmarks.families``.

784-200-200-d, tanh, Bernoulli, Adam, batches of 100, MNIST where ``TAUT_DATA`` names a folder that has it. Models are
built as ``python train.py`` builds them and take turns in one process, on one thread; it is processor time that counts,
so that others may use the machine meanwhile. The unit is a step with ``q=diagonal prior=normal``, which is made without
autograd; the same step ``by autograd`` stands beside it, as all other pairs are trained.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from itertools import count
from time import process_time

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from benchmarks import report, work
from benchmarks.candidates.command import CONF
from taut.data.batches import Batches
from taut.data.binarise import Scale, bernoulli
from taut.functional import seeding
from taut.runtime.launch import keep_freed_pages
from taut.training.build import build_model
from taut.training.fused_step import fused_step
from taut.training.module import LatentVariableModel

IMAGE = (1, 28, 28)
REFERENCE = "diagonal, normal"
AUTOGRAD = "the same, by autograd"
PAIRS = {
    REFERENCE: [],
    AUTOGRAD: [],
    **{f"{q}, normal": [f"q={q}"] for q in ("student_t", "low_rank", "mixture", "full", "flow")},
    **{f"diagonal, {prior}": [f"prior={prior}"] for prior in ("mixture", "vamp", "flow")},
    **{f"{q}, layers": ["prior=layers", "prior.sizes=[100,50]", f"q={q}"] for q in ("layers", "ladder")},
}
"""q and prior, and the words that choose them."""


class Rows:
    """As much of a data module as a model is built from.

    Args:
        x: Binary images.
    """

    def __init__(self, x: torch.Tensor) -> None:
        self.stored, self._x = argparse.Namespace(train=x), x

    def starting_rows(self) -> torch.Tensor:
        """The rows that pieces start from."""
        return self._x

    def rows_of(self, split: str) -> torch.Tensor:
        """The rows of a split."""
        del split
        return self._x


def composed(words: Sequence[str]) -> DictConfig:
    """The config of ``python train.py`` with these words, for images."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", list(words))
    with open_dict(cfg):
        cfg.x_shape = list(IMAGE)
    return cfg


def steps(model: LatentVariableModel, pixels: torch.Tensor, fused: bool) -> Iterator[None]:
    """The training steps of a model, one after another, as its module makes them, without Lightning."""
    optimizer = model.make_optimizer(model.parameters())
    step = fused_step(model.joint, model.q, model.objective) if fused else None
    scale, number = Scale(levels=255), count()
    loader = Batches(
        lambda epoch: bernoulli(pixels, scale, 0, "train", epoch), len(pixels), batch_size=work.BATCH, shuffle=True
    )
    for epoch in count():
        loader.set_epoch(epoch)
        for batch in loader:
            seeding.seed(seeding.key(0, "train", next(number)), torch.device("cpu"))
            if step is not None and (made := step(batch.x, model.k, 1.0)) is not None:
                for parameter, gradient in made.gradients.items():
                    parameter.grad = gradient
            else:
                optimizer.zero_grad()
                draws = model.objective.draw(model.joint, model.q, batch.x, model.k, 1.0)
                model.objective.surrogate(draws).backward()
            optimizer.step()
            yield


def measured(words: Sequence[str], names: Sequence[str], rounds: int, block: int) -> dict[str, list[float]]:
    """Milliseconds of processor time of a step, round by round, the first round of all left out."""
    pixels = (255 * torch.from_numpy(work.grey())).round().byte().unflatten(1, IMAGE)
    rows = Rows((pixels[:5000] > 127).float())
    running = {}
    for name in names:
        model = build_model(composed([*words, *PAIRS[name]]), rows)  # pyright: ignore[reportArgumentType]
        running[name] = steps(model, pixels, fused=name != AUTOGRAD)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds + 1):
        for name, run in running.items():
            start = process_time()
            for _ in range(block):
                next(run)
            times[name].append(1e3 * (process_time() - start) / block)
    return {name: own[1:] for name, own in times.items()}


def main(words: Sequence[str], names: Sequence[str], rounds: int, block: int) -> dict[str, float]:
    """Print the table, and give the median ratio of each pair to the reference."""
    keep_freed_pages()
    torch.set_num_threads(1)
    times = measured(words, names, rounds, block)
    ratios = {name: [a / b for a, b in zip(own, times[REFERENCE], strict=True)] for name, own in times.items()}
    medians = {name: statistics.median(own) for name, own in ratios.items()}
    print(f"A training step, {' '.join(words)}\n\n{report.header(1)}")
    lines = [
        [name, f"{statistics.median(times[name]):.2f}", f"{medians[name]:.2f}", f"{min(own):.2f} - {max(own):.2f}"]
        for name, own in ratios.items()
    ]
    print(report.table(["q, prior", "ms of processor time, median", f"x {REFERENCE}", "least - most"], lines))
    return medians


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("words", nargs="*", default=["model=vae", "latent_dim=20"], help="words for python train.py")
    found.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS), help="those to measure; default all")
    found.add_argument("--rounds", type=int, default=7, help="default 7")
    found.add_argument("--block", type=int, default=20, help="steps of each in a round, default 20")
    return found


if __name__ == "__main__":
    asked = parser().parse_args()
    main(asked.words, list(dict.fromkeys([REFERENCE, *asked.pairs])), asked.rounds, asked.block)
