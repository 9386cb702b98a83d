"""No single wrong value of any key that ``--help`` lists ends in a traceback, or in more than one sentence."""

import os
import random
import shutil
import sys
import tempfile
import traceback
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from taut.api import measurement
from taut.cli import main

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "tests" / "stored_runs"
DRAWS, SEED, WORKERS = 500, 14, 2
BASES = [
    ("train", ""),
    ("train", "model=mog data=faithful logger=csv"),
    ("train", "model=ppca data=synthetic logger=csv callbacks=none"),
    ("train", "model=fa data=table data.path=table.csv logger=csv callbacks=none"),
    ("train", "prior=vamp q=full likelihood=gaussian data=synthetic logger=csv"),
    ("train", "prior=mixture mask=random scheduler=exponential optimizer=sgd logger=csv"),
    ("train", "network=conv mask=quadrants q=masked scheduler=cosine logger=csv"),
    (
        "train",
        "mask=file mask.path=mask.npy callbacks=[default,early_stopping,warmup] prior=uniform q=uniform logger=csv",
    ),
    ("train", "model=iwae k=3 objective=dreg strategy=ddp_cpu logger=csv callbacks=none"),
    ("train", "model=mog likelihood=bernoulli q=categorical objective=vimco k=3 logger=csv"),
    ("evaluate", "run=runs/vae limit=4 k=20 experiment=gap"),
    ("evaluate", "run=runs/mog limit=4 k=20 evidence=[exact,sumo,struski] unfit=skip"),
    ("complete", "run=runs/vae limit=4 k=20 mask=quadrants"),
    ("complete", "run=runs/mog limit=4 k=20 mask=random"),
]
VALUES = [
    *("nan", "inf", "-inf", "-1", "0", "1", "2", "-0.5", "0.5", "1.5", "1e400", "-1e400", "1e-320", "1e9", "100000"),
    *("1000000000", "10000000000000000000000", "true", "false", "null", "yes", "off", "none", "auto", "abc", "xy"),
    *("''", "' '", "'3'", "'../../x'", "/dev/null", "/", "é", "'ü=1'", "x=y", "1,2", "~", "?", "???", "'???'", "3:4"),
    *("[]", "[1]", "[-1,2]", "[a,b]", "[[1,2],[3]]", "[null]", "[nan]", "[true,false]", "[0.9,0.999]", "[1000000000]"),
    *("{}", "{a:1}", "{a:{b:[1]}}", "[{a:1}]", "{_target_:os.system}", "${nope}", "${k}", "[1", "{a:1", "it's", "0x10"),
]


def keys(cfg: DictConfig, prefix: str = ""):
    for name in map(str, cfg):
        yield f"{prefix}{name}"
        if not OmegaConf.is_interpolation(cfg, name) and isinstance(node := cfg.get(name), DictConfig):
            yield from keys(node, f"{prefix}{name}.")


def drawn() -> list[tuple[str, list[str]]]:
    rng, known = random.Random(SEED), {}
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for command, words in BASES:
            known[command, words] = list(keys(compose(command, words.split())))
    draws = []
    for _ in range(DRAWS):
        command, words = rng.choice(BASES)
        draws.append((command, [*words.split(), f"{rng.choice(known[command, words])}={rng.choice(VALUES)}"]))
    return draws


def files(place: Path) -> None:
    rng = np.random.default_rng(0)
    (place / "table.csv").write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in rng.normal(size=(60, 2))))
    np.save(place / "mask.npy", rng.random((1, 8, 8)) > 0.3)
    shutil.copytree(RUNS, place / "runs")


def stopped(*_: Any, **__: Any) -> None:
    raise SystemExit(0)


def outcomes(draws: list[tuple[int, str, list[str]]], place: Path, told: Any) -> None:
    """In a process of its own: run commands up to where training or measuring begins, and tell what came of each."""
    os.chdir(place)
    files(place)
    lightning.Trainer.fit = measurement.measure = stopped  # type: ignore[assignment]
    said = place / "said"
    os.dup2(os.open(said, os.O_RDWR | os.O_CREAT), 1)
    os.dup2(1, 2)
    # pytest's own streams, which this process has inherited, lead elsewhere
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    for number, command, words in draws:
        told.send((number, None, ""))
        said.write_bytes(b"")
        os.lseek(1, 0, os.SEEK_SET)
        if command == "train":
            words = [f"hydra.run.dir=outputs/{number}", *words]
        sys.argv = [str(ROOT / f"{command}.py"), *words]
        try:
            code = main(command, ROOT / "conf", f"taut.commands.{command}:{command}")
        except BaseException:
            code, _ = 99, traceback.print_exc()
        sys.stdout.flush()
        told.send((number, code, said.read_text(errors="replace")))
    told.close()


def test_a_wrong_value_is_one_sentence_or_it_is_right(trainings):
    """The bug that would make it fail: any value that reaches Hydra, torch or Lightning unchecked."""
    draws, context = drawn(), get_context("fork")
    numbered = [(number, *draw) for number, draw in enumerate(draws)]
    results: dict[int, tuple[int | None, str]] = {}
    with tempfile.TemporaryDirectory() as place:
        workers = []
        for start in range(WORKERS):
            hear, tell = context.Pipe(duplex=False)
            folder = Path(place, str(start))
            folder.mkdir()
            worker = context.Process(target=outcomes, args=(numbered[start::WORKERS], folder, tell))
            worker.start()
            tell.close()
            workers.append((worker, hear))
        for worker, hear in workers:
            try:
                while True:
                    number, code, text = hear.recv()
                    results[number] = code, text
            except EOFError:
                worker.join()
    assert len(results) == DRAWS
    faults = [(" ".join(draws[n][1]), code, text[-500:]) for n, (code, text) in results.items() if not fine(code, text)]
    assert not faults, "\n".join(map(str, faults))
    assert sum(code == 2 for code, _ in results.values()) > DRAWS / 2


def fine(code: int | None, text: str) -> bool:
    if code != 2:
        return code == 0 and "Traceback" not in text
    sentences = [
        line for line in text.splitlines() if line and not line.startswith("parameters: ") and "srun" not in line
    ]
    return len(sentences) == 1 and sentences[0].endswith((".", "?"))
