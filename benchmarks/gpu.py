"""One GPU: training steps against their matrix products, and L_5000 of a test split: ``python -m benchmarks.gpu``.

784-200-200-50, tanh, Bernoulli, Adam, batch 100, dynamically binarised MNIST. ``floor`` is the products of a step,
forward and backward, as one CUDA graph; the others are ``python train.py strategy=gpu_recorded``, with its data,
its checkpoints and Lightning: the rate of the last of a few epochs, data and binarisation included.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from benchmarks.candidates.floor import training_products
from taut.commands.train import train
from taut.config import compose as _resolvers  # noqa: F401
from taut.evidence import Importance, Target
from taut.functional.precision import exact_arithmetic
from taut.training.stored_run import Run

ROOT = Path(__file__).resolve().parents[1]
WORDS = [
    *["model=iwae", "data=mnist", "latent_dim=50", "k_eval=50", "k_test=50", "logger=csv", "callbacks=[none,speed]"],
    *["callbacks.recent=null", "strategy=gpu_recorded", "trainer.enable_progress_bar=false"],
]
VARIANTS = {
    "taut, IEEE": [],
    "taut, TF32": ["matmul=high"],
    "taut, bf16": ["trainer.precision=bf16-mixed"],
    "taut, kernel by kernel": ["strategy=gpu"],
}


def floor(k: int, precision: str) -> float:
    """Seconds of the products of one step."""
    torch.set_float32_matmul_precision(precision)
    products = [[factor.cuda() for factor in product] for product in training_products(k)]

    def step() -> None:
        for a, b, result in products:
            torch.mm(a, b, out=result)

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    graph.replay()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(200):
        graph.replay()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / 200


def command(folder: Path, *words: str) -> float:
    """Seconds of one training step of the command, in its last epoch."""
    folder.mkdir(parents=True)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [*WORDS, *words, f"hydra.run.dir={folder}"], return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(folder)
        HydraConfig.instance().set_config(cfg)
        del cfg["hydra"]
    train(cfg)
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return 100 / float(list(csv.DictReader(file))[-1]["speed/rows_per_second"])


def score(run: Path, k: int = 5000) -> None:
    """L_5000 of the test split of a run: value, seconds, memory."""
    model, data, _ = Run.open(run).load()
    target = Target.of(model.joint.cuda(), model.q.cuda())
    x = data.rows_of("test")[:].cuda()
    Importance(k)(target, x[:100])
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    with exact_arithmetic(x.device):
        value = torch.cat([Importance(k)(target, part).value for part in x.split(1000)]).mean().item()
    seconds, memory = time.perf_counter() - started, torch.cuda.max_memory_allocated() / 2**20
    print(f"L_{k} of {len(x):,} images: {value:.3f} nats, {seconds:.1f} s, {memory:.0f} MiB at most")


def main(epochs: int = 6, k: str = "50,5,1", run: str | None = None) -> None:
    """A table on the terminal."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as place:
        for samples in map(int, k.split(",") if k else []):
            floors = {"IEEE": floor(samples, "highest"), "TF32": floor(samples, "high")}
            print(f"K = {samples}: floor {floors['IEEE'] * 1e6:.0f} us IEEE, {floors['TF32'] * 1e6:.0f} us TF32")
            for name, words in VARIANTS.items():
                some = [f"trainer.max_epochs={epochs}", f"trainer.check_val_every_n_epoch={epochs}", f"k={samples}"]
                seconds = command(Path(place) / f"{samples}-{name.split()[-1]}", *some, *words)
                rate = f"{60 / (500 * seconds):.0f} epochs a minute"
                print(f"{name:24} {seconds * 1e6:6.0f} us   {seconds / floors['IEEE']:.2f} x IEEE floor   {rate}")
        if run:
            score(Path(run))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6, help="epochs of each run, default 6")
    parser.add_argument("--k", default="50,5,1", help="importance samples, default 50,5,1")
    parser.add_argument("--run", help="folder of a trained run whose test split is scored")
    main(**vars(parser.parse_args()))
