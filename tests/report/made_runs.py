"""Made-up runs and sweeps: the files a real one leaves, with numbers one can predict."""

import csv
import json
import random
from pathlib import Path

import yaml
from PIL import Image

DIGEST = "ab12" * 16


def score(value, error=0.2, noise=0.01, kind="lower", k=500):
    return {"value": value, "standard_error": error, "monte_carlo_error": noise, "kind": kind, "k": k}


def result(log_px=-24.5, gap=0.5, **changes):
    """What a run writes at its end; log p(x) is bounded from below."""
    made = {
        "status": "finished",
        "name": "vae digits",
        "model": "vae",
        "data": "digits",
        "prior": "normal",
        "q": "diagonal",
        "likelihood": "bernoulli",
        "objective": "elbo",
        "binarisation": "dynamic",
        "mask": "none",
        "cells": "all",
        "k": 1,
        "k_test": 500,
        "seed": 0,
        "split": "test",
        "n": 360,
        "held_out": True,
        "scores": {
            "elbo": score(log_px - gap, k=1),
            "bound": score(log_px - gap / 2, k=changes.get("k", 1)),
            "log_px": score(log_px),
            "gap": score(gap, 0.01, 0.002),
            "kl": {"value": 2.25, "standard_error": 0.04, "monte_carlo_error": 0.004},
            "ess": {"value": 51.6, "standard_error": 1.3, "monte_carlo_error": None},
            "active_units": {"value": 10.0},
        },
        "validation": {"bound": log_px - gap / 3},
        "epochs": 6,
        "precision": "32-true",
        "data_digest": DIGEST,
        "seconds": {"fit": 4.5, "test": 1.5},
        "versions": {"taut": "0.1.0", "torch": "2.13.0"},
    }
    return made | changes


def evaluation(values, gaps, width=0.02, **changes):
    """What an evaluation found, whose means are those of its table: ``values`` are log p(x), ``gaps`` their gaps."""
    n = len(values)
    low = {"value": sum(gaps) / n, "standard_error": 0.3, "monte_carlo_error": 0.01}
    made = {key: result()[key] for key in ("data", "likelihood", "binarisation", "mask", "cells", "held_out", "split")}
    made |= {
        "status": "finished",
        "n": n,
        "data_digest": DIGEST,
        "precision": "float32",
        "k": 1000,
        "estimators": {"importance": {"k": 1000}, "struski": {"k": 1000, "blocks": None}},
        "evidence": {
            "elbo": score(sum(values) / n - sum(gaps) / n, 0.5, k=None) | {"doubts": []},
            "importance": score(sum(values) / n, 0.5, k=1000) | {"doubts": []},
            "struski": score(sum(values) / n + width, 0.5, kind="upper", k=1000) | {"doubts": []},
        },
        "gap": {
            "exact": False,
            "lower": "importance",
            "upper": "struski",
            "low": low,
            "high": low | {"value": low["value"] + width},
        },
        "apart": {
            "test": {
                "n": n,
                "exact": False,
                "amortisation": score(0.4 * low["value"], 0.05),
                "approximation": {
                    "low": score(0.6 * low["value"], 0.05),
                    "high": score(0.6 * low["value"] + width, 0.05),
                    "lower": "importance",
                    "upper": "struski",
                },
                "settled": 1.0,
            }
        },
        "warnings": [],
        "gap_warnings": [],
    }
    return made | changes


def config(k=1, seed=0, **changes):
    return {
        "k": k,
        "seed": seed,
        "latent_dim": 10,
        "data": {"_target_": "taut.data.digits.Digits", "binarisation": "dynamic", "seed": "${seed}"},
        "trainer": {"max_epochs": 6},
        "prior": {"_target_": "taut.model.prior.normal.Normal", "dim": "${latent_dim}"},
        "q": {"_target_": "taut.model.q.diagonal.Diagonal"},
        "likelihood": {"_target_": "taut.model.likelihood.bernoulli.Bernoulli"},
        "objective": {"_target_": "taut.objective.elbo.Elbo"},
        "model": {"_target_": "taut.training.models.VAE", "k": "${k}"},
        "network": {"hidden": [200, 200]},
    } | changes


def write_run(folder: Path, made=None, *, words=("k=1",), cfg=None, epochs=6, found=None, picture=False) -> Path:
    """A run folder; ``made`` is its result (None for a run without one), ``found`` its evaluation and table."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(cfg or config()))
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(words)))
    if made is not None:
        (folder / "result.json").write_text(json.dumps(made))
    if epochs:
        rows = [
            {"epoch": e, "step": 11 * e, "val/bound": -30 + e / 10, "val/gap": 1 + 1 / (e + 1)} for e in range(epochs)
        ]
        _csv(folder / "metrics.csv", rows)
    if found is not None:
        (folder / "evaluation").mkdir()
        (folder / "evaluation" / "result.json").write_text(json.dumps(found[0]))
        _csv(folder / "evaluation" / "data.csv", found[1])
    if picture:
        (folder / "figures").mkdir()
        Image.new("RGB", (60, 20), "navy").save(folder / "figures" / "images_test.png")
    return folder


def table(values, gaps, width=0.02):
    """The table of every datum that belongs to an evaluation."""
    return [
        {"row": i, "elbo": v - g, "importance": v, "struski": v + width, "gap_low": g, "gap_high": g + width}
        for i, (v, g) in enumerate(zip(values, gaps, strict=True))
    ]


def status(state="finished", **changes):
    known = {"state": state, "reason": None, "exit_code": 0, "seconds": 42.0, "score": -25.0, "attempts": 1}
    return known | {"host": "here", "pid": 1, "log": "log.txt"} | changes


def write_sweep(folder: Path, jobs) -> Path:
    """A sweep: ``jobs`` maps folder names to what ``write_run`` takes and ``status``; None for one that waits."""
    folder.mkdir(parents=True)
    planned = []
    for number, (name, made) in enumerate(jobs.items()):
        words = list((made or {}).get("words", [f"k={number}"]))
        planned.append({"number": number, "folder": name, "words": words, "config": ""})
        if made is None:
            continue
        known = made.pop("status", status())
        write_run(folder / name, made.pop("made", None), **made)
        (folder / name / "status.json").write_text(json.dumps(known))
        (folder / name / ".lock").touch()
    plan = {"name": folder.name, "command": ["+sweep=k_grid"], "jobs": planned}
    (folder / "sweep.json").write_text(json.dumps(plan))
    return folder


def large_sweep(folder: Path, n=200, *, epochs=300, rows=100, picture=False) -> Path:
    """A sweep of many finished and evaluated jobs that differ a little."""
    noise = random.Random(0)
    jobs = {}
    for i in range(n):
        k, seed, model = (1, 5, 25, 50)[i % 4], i // 8, ("vae", "iwae")[(i // 4) % 2]
        log_px, gap = -24.5 - noise.random(), 0.3 + 0.02 * k + noise.random() / 10
        made = result(log_px, gap, k=k, seed=seed, model=model)
        values = [log_px + noise.gauss(0, 3) for _ in range(rows)]
        gaps = [gap + noise.gauss(0, 0.1) for _ in range(rows)]
        jobs[f"{i:03d}_{model}-k{k}-seed{seed}"] = {
            "words": [f"model={model}", f"k={k}", f"seed={seed}"],
            "made": made,
            "cfg": config(k, seed, latent_dim=10 + i % 3),
            "epochs": epochs,
            "found": (evaluation(values, gaps), table(values, gaps)),
            "picture": picture,
        }
    return write_sweep(folder, jobs)


def _csv(path: Path, rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
