"""Counter-based seeds: noise that depends on what it is for, never on what was drawn before.

A training step is keyed by (seed, step, rank) and an evaluated datum by (seed, row, block of samples), so a resumed
run, a different batch size or another number of processes meets the same noise.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_MASK = 0xFFFFFFFF


def key(seed: int, stream: str, counter: int) -> int:
    """A 32-bit seed; within one (seed, stream) two different counters never share it.

    CPU generators of torch read 32 bits of their seed, so the counter goes through a bijection of 32-bit words (the
    finaliser of MurmurHash3, Appleby 2011) rather than through a hash that could collide.
    """
    # not hash(), which Python salts anew in every process
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=4).digest()
    word = (counter ^ int.from_bytes(digest, "little")) & _MASK
    word = (word ^ (word >> 16)) * 0x85EBCA6B & _MASK
    word = (word ^ (word >> 13)) * 0xC2B2AE35 & _MASK
    return word ^ (word >> 16)


def seed(key: int, device: torch.device) -> None:
    """Seed the default generator of one device; ``torch.manual_seed`` seeds all, and takes most of a millisecond."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(key)
    else:
        torch.default_generator.manual_seed(key)


@contextmanager
def forked(device: torch.device | str = "cpu") -> Iterator[None]:
    """Draw inside without moving the generators outside."""
    device = torch.device(device)
    # by default fork_rng copies the state of every GPU
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


# SeedSequence takes numbers alone; another number would change every split and every noise made with it
_STREAMS = {"order": 0, "cut": 1, "train": 2, "val": 3, "test": 4, "source": 5}


def generator(seed: int, stream: str, *counters: int) -> np.random.Generator:
    """Random numbers that are a pure function of the arguments (PCG of O'Neill 2014, seed hashed)."""
    words = np.random.SeedSequence([seed, _STREAMS[stream], *counters])
    # by name: numpy may change the generator behind default_rng
    return np.random.Generator(np.random.PCG64DXSM(words))
