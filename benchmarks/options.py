"""The options that the benchmarks share."""

import argparse
from pathlib import Path


def parser(description: str | None, *, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """A parser with the options of interleaved runs."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--rounds", type=int, default=rounds, help=f"blocks of every candidate, default {rounds}")
    found.add_argument("--seconds", type=float, default=seconds, help=f"length of a block, default {seconds}")
    found.add_argument("--retries", type=int, default=2, help="tries more for a disturbed block, default 2")
    found.add_argument("--threads", type=int, default=2, help="cores and threads of each candidate, default 2")
    found.add_argument("--out", type=Path, default=Path("outputs/benchmarks"), help="folder of the figures")
    return found
