"""Ranges of the values of a config, by the names of their keys."""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

Range = tuple[TypeAdapter, str]
# strict throughout: pydantic would otherwise take true for 1 and the text '3' for 3
Count = Annotated[int, Field(strict=True, ge=1)]
Sizes = Annotated[list[Count], Field(min_length=1)]
Place = Annotated[int, Field(strict=True, ge=0)]
# the largest seed that numpy takes, and Lightning seeds numpy as well
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]
Duration = Annotated[str, Field(pattern=r"^\d+:[0-2]\d:[0-5]\d:[0-5]\d$")]
ValidationScore = Literal["val/bound", "val/elbo", "val/log_px"]
Unit = Literal["weeks", "days", "hours", "minutes", "seconds"]
Amount = Annotated[int, Field(strict=True, ge=0, le=10**6)]
Span = Annotated[dict[Unit, Amount], Field(min_length=1)]
ThreadCount = Annotated[int, Field(strict=True, ge=1, le=1024)]
Part = Annotated[float, Field(strict=True, ge=0, le=1)]
PositivePart = Annotated[float, Field(strict=True, gt=0, le=1)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
AtLeastZero = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Switch = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(min_length=1)]
# W&B refuses longer ones, when the run is opened
Tag = Annotated[str, Field(min_length=1, max_length=64)]
Quadrants = list[Literal["upper_left", "upper_right", "lower_left", "lower_right"]]

A_COUNT = (TypeAdapter(Count), "an integer >= 1")
Few = Annotated[int, Field(strict=True, ge=1, le=10**6)]
A_FEW = (TypeAdapter(Few), "an integer from 1 to 1,000,000")
A_COUNT_OR_NULL = (TypeAdapter(Count | None), "an integer >= 1, or null")
A_SEED = (TypeAdapter(Seed), "an integer from 0 to 4294967295")
A_POSITIVE = (TypeAdapter(Positive), "a finite number above 0")
A_POSITIVE_OR_NULL = (TypeAdapter(Positive | None), "a finite number above 0, or null")
A_PRECISION = (
    TypeAdapter(Literal["32-true", "64-true", "16-mixed", "bf16-mixed"]),
    "32-true, 64-true, 16-mixed or bf16-mixed, which leave scores in full precision",
)
DEVICES = (
    TypeAdapter(Literal["auto", -1] | Count | Annotated[list[Place], Field(min_length=1)]),
    "an integer >= 1, auto, or a list of GPUs",
)
SOME_BATCHES = (
    TypeAdapter(Place | Part | None),
    "a number of batches (an integer >= 0), a part of them (a number from 0.0 to 1.0), or null",
)
A_TEXT_OR_NULL = (TypeAdapter(Text | None), "a text, or null")
A_SHARE = (TypeAdapter(Share), "a number from 0 to below 1")
A_SPLIT = (TypeAdapter(Literal["train", "val", "test"]), "train, val or test")
SPLITS = (TypeAdapter(list[Literal["train", "val", "test"]]), "a list of train, val and test")
A_FOLDER_NAME = (
    TypeAdapter(Annotated[str, Field(pattern=r"^evaluation[\w-]*$")]),
    "a name that begins with evaluation",
)

RANGES = {
    **dict.fromkeys(
        (
            "k",
            "k_eval",
            "k_test",
            "latent_dim",
            "max_epochs",
            "channels",
            "every_n_epochs",
            "n_init",
            "dim",
            "rank",
            "transforms",
            "outer",
        ),
        A_COUNT,
    ),
    **dict.fromkeys(("batch_size", "check_val_every_n_epoch"), A_COUNT_OR_NULL),
    # null is what prior=uniform says of a box; wherever else it is given, the type of the argument refuses it
    "components": (TypeAdapter(Count | None), "an integer >= 1"),
    # with many thousands torch ends the process without a word
    "threads": (
        TypeAdapter(ThreadCount | None),
        "an integer from 1 to 1,024, or null",
    ),
    **dict.fromkeys(("seed", "split_seed"), A_SEED),
    **dict.fromkeys(("lr", "min_variance", "min_scale", "spread", "eps", "scale", "df", "temperature"), A_POSITIVE),
    **dict.fromkeys(("gradient_clip_val",), A_POSITIVE_OR_NULL),
    "tolerance": (
        TypeAdapter(AtLeastZero),
        "a number >= 0",
    ),
    "rate": (TypeAdapter(Annotated[float, Field(strict=True, gt=0, lt=1)]), "a number between 0 and 1"),
    "side": (TypeAdapter(PositivePart), "a number above 0 and at most 1"),
    **dict.fromkeys(("momentum", "min_share", "val_fraction", "test_fraction"), A_SHARE),
    "precision": A_PRECISION,
    "matmul": (TypeAdapter(Literal["highest", "high", "medium"]), "highest, high or medium"),
    **dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches"), SOME_BATCHES),
    "overfit_batches": SOME_BATCHES,
    "val_check_interval": (
        TypeAdapter(Count | PositivePart | None),
        "a number of batches (an integer >= 1), a part of an epoch (a number up to 1.0), or null",
    ),
    "fast_dev_run": (TypeAdapter(Switch | Place), "true, false or a number of batches"),
    "num_sanity_val_steps": (
        TypeAdapter(Annotated[int, Field(strict=True, ge=-1)]),
        "an integer >= 0, or -1 for the whole split",
    ),
    "max_steps": (TypeAdapter(Literal[-1] | Count), "an integer >= 1, or -1 for no limit"),
    "max_time": (
        TypeAdapter(Duration | Span | None),
        "days:hours:minutes:seconds such as 00:02:00:00, a mapping such as {hours: 2}, or null",
    ),
    "profiler": (TypeAdapter(Literal["simple", "advanced", "pytorch"] | None), "simple, advanced, pytorch or null"),
    "deterministic": (TypeAdapter(Switch | Literal["warn"]), "true, false or warn"),
    "accumulate_grad_batches": A_COUNT,
    "log_every_n_steps": A_COUNT,
    "accelerator": (
        TypeAdapter(Literal["auto", "cpu", "gpu", "cuda"]),
        "auto, cpu or gpu (mps has no float64, in which z and its densities are; strategy=cpu uses the CPU)",
    ),
    "devices": DEVICES,
    "num_nodes": A_COUNT,
    **dict.fromkeys(("steps", "chains", "leapfrog", "runs", "samples"), A_FEW),
    "simulated": (TypeAdapter(Few | None), "an integer from 1 to 1,000,000, or null"),
    **dict.fromkeys(("_partial_", "_recursive_"), (TypeAdapter(Switch), "true or false")),
    "_convert_": (TypeAdapter(Literal["none", "partial", "object", "all"]), "none, partial, object or all"),
    "x_levels": (TypeAdapter(dict[str, Any] | None), "null, because it is read from the data"),
    "x_shape": (TypeAdapter(list[Count] | None), "null, because it is read from the data"),
    "tags": (TypeAdapter(list[Tag] | None), "a list of words of 1 to 64 characters such as [paper], or null"),
    "slurm": (TypeAdapter(dict[str, Any] | None), "a mapping such as {partition: gpu}, or null"),
    **dict.fromkeys(("name", "out", "ckpt_path", "load"), A_TEXT_OR_NULL),
    "reported": (
        TypeAdapter(Finite | None),
        "a finite number of nats, or null",
    ),
    "resume": (TypeAdapter(Switch | Text | None), "the folder of a run, or in a sweep true or merge"),
    "run": (TypeAdapter(Annotated[str | None, Field(min_length=1)]), "the folder of a run"),
    "fill": (TypeAdapter(Literal["mean", "most_probable", "draws"]), "mean, most_probable or draws"),
    "draws": A_FEW,
    "repetitions": (TypeAdapter(Annotated[int, Field(strict=True, ge=2)]), "an integer >= 2"),
    **dict.fromkeys(
        ("overwrite", "fresh", "rehearse", "apart", "lr_find", "per_datum"), (TypeAdapter(Switch), "true or false")
    ),
    "refine": (TypeAdapter(Switch | Literal["auto"]), "true, false or auto"),
    **dict.fromkeys(("limit", "blocks", "timeout_min", "cpus_per_task", "gpus_per_node"), A_COUNT_OR_NULL),
    **dict.fromkeys(("timeout", "mem_gb"), A_POSITIVE_OR_NULL),
    "budget": (TypeAdapter(Annotated[int, Field(strict=True, ge=1000, le=10**9)]), "an integer from 1,000 to 10^9"),
    "n_jobs": A_COUNT,
    "trials": A_COUNT,
    "score": (
        TypeAdapter(ValidationScore | Annotated[list[ValidationScore], Field(min_length=1)]),
        "val/bound, val/elbo or val/log_px, or a list of them (the test split chooses nothing)",
    ),
    "sampler": (TypeAdapter(Literal["tpe", "gp", "cmaes", "random", "grid"]), "tpe, gp, cmaes, random or grid"),
    "pruner": (TypeAdapter(Literal["median", "hyperband", "asha", "none"]), "median, hyperband, asha or none"),
    "max_requeues": (TypeAdapter(Place), "an integer >= 0"),
    "gpus": (
        TypeAdapter(list[Annotated[int, Field(strict=True, ge=0)]] | None),
        "a list of numbers of GPUs, or null",
    ),
    "cluster": (TypeAdapter(Literal["slurm", "local"]), "slurm or local"),
    "engine": (TypeAdapter(Literal["joblib", "submitit"]), "joblib or submitit"),
    "categories": (TypeAdapter(Annotated[int, Field(strict=True, ge=2)]), "an integer >= 2"),
    "backward": (TypeAdapter(Count | Literal["all"]), "all, or an integer >= 1"),
    "split": A_SPLIT,
    "splits": SPLITS,
    "confidence": (TypeAdapter(Annotated[float, Field(strict=True, gt=0, lt=1)]), "a number between 0 and 1"),
    "share": (TypeAdapter(Literal["data", "samples"]), "data or samples"),
    "unfit": (TypeAdapter(Literal["refuse", "skip"]), "refuse or skip"),
    "hidden": (TypeAdapter(list[Count]), "a list of integers >= 1"),
    "sizes": (TypeAdapter(Sizes), "a list of one or more integers >= 1"),
    "layers": (
        TypeAdapter(Sizes | None),
        "a list of one or more integers >= 1, or null",
    ),
    "quarters": (
        TypeAdapter(Annotated[Quadrants, Field(min_length=1)]),
        "a list of one or more of upper_left, upper_right, lower_left and lower_right",
    ),
}

OWN_RANGES: dict[str, dict[str, Range]] = {
    "train": {"evaluate": (TypeAdapter(str | None), "words for an evaluation in one string, or null")},
    "evaluate": {"out": A_FOLDER_NAME, "tolerance": A_POSITIVE_OR_NULL},
    "complete": {
        "limit": (TypeAdapter(Count | None | Literal["auto"]), "an integer >= 1, null or auto"),
        **dict.fromkeys(("components", "images", "pixels"), A_FEW),
    },
}
"""Of keys that mean another thing, or allow more, in one command."""
