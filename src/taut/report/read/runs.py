"""Runs in the folders a user names, and each as its folder tells it: state, scores, history, config, pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from taut.config.aliases import current_target
from taut.config.run_folder import (
    CHECKPOINTS,
    CONFIG,
    FIGURES,
    FORMAT_FILE,
    LOCK,
    LOG,
    METRICS,
    OVERRIDES,
    PLAN,
    RESULT,
    RESUMED_CONFIG,
    STATUS,
    choice_of,
    jobs_of,
)
from taut.config.secrets import redacted_by_name
from taut.errors import UserError
from taut.files import is_held
from taut.report.read.configs import differing, flat, keys_given
from taut.report.read.files import Reader, legible, number, part, whole, word
from taut.report.read.scores import Scores, void_of

STATES = ("failed", "interrupted", "running", "unfinished", "queued", "unknown", "pruned", "debug", "finished")
CHOICES = ("model", "data", "prior", "q", "likelihood", "objective")
LONGEST_REASON = 500
MOST_FOLDERS = 20
"""Evaluations and completions that are read of one run."""
DEEPEST = 3
"""Levels of folders that are searched for runs."""
SIGNS = (OVERRIDES, RESULT, STATUS, METRICS)
"""What a run may have left, in whatever state it is; to continue or to evaluate one takes its ``OVERRIDES``."""
SKIPPED = ("wandb", "mlartifacts", CHECKPOINTS, FIGURES, "evaluations")

Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it.

    Args:
        folder: Its folder.
        state: One of ``STATES``; ``unfinished`` is a run outside a sweep without a result: running, or stopped;
            ``debug`` is one whose numbers are no results.
        reason: Why it failed or waits; empty where nothing is known.
        log: The file in its folder with what it said; empty where there is none.
        about: Its choices, ``binarisation``, ``mask``, ``k``, ``seed`` and the words it was given, by key.
        config: Its config with flat keys, unresolved, secrets hidden.
        validation: The best validation bound, nats.
        seconds: Of the training and its tests, or of the process.
        tested: The test at its end.
        evaluations: By folder, what ``evaluate.py`` found.
        history: The rows of ``metrics.csv``.
        epochs: Epochs done.
        versions: Of the libraries, and the digest of the data.
        pictures: By kind, the files.
        problems: Files that could not be read.
    """

    folder: Path
    state: str
    reason: str = ""
    log: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    validation: float | None = None
    seconds: float | None = None
    tested: Scores | None = None
    evaluations: Mapping[str, Scores] = field(default_factory=dict)
    history: Rows = ()
    epochs: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    problems: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Name of its folder."""
        return legible(self.folder.name)

    @property
    def scored(self) -> bool:
        """Tell whether it was tested or evaluated."""
        return self.tested is not None or bool(self.evaluations)

    @property
    def problem(self) -> str:
        """Data and likelihood its bounds are of, as far as its config says."""
        about = self.about
        words = [about.get("data"), about.get("binarisation"), about.get("likelihood")]
        masked = about.get("mask", "none") not in ("none", "null")
        return ", ".join([word for word in words if word] + ([f"mask {about['mask']}"] if masked else []))

    @cached_property
    def k(self) -> int | None:
        """Importance samples of the training objective."""
        return whole(self.about.get("k"))


def read_run(folder: Path, words: Sequence[str] = (), *, job: bool = False) -> Run:
    """Everything a report says of one run; what cannot be read is listed among its problems.

    A run that was made to find faults, by ``debug=``, has no scores here: its numbers are no results.

    Args:
        folder: Its folder, which need not exist for a job that waits.
        words: What a sweep started it with, where it has no config of its own yet.
        job: Whether it belongs to a sweep: without a status it then waits.
    """
    reader = Reader(folder)
    result, status = reader.mapping(RESULT), reader.mapping(STATUS)
    config = flat(reader.yaml(RESUMED_CONFIG) or reader.yaml(CONFIG))
    config |= {key: current_target(name) for key, name in config.items() if key.endswith("._target_")}
    given = keys_given(reader.yaml(OVERRIDES) or list(words))
    history = reader.rows(METRICS)
    below = _below(reader, result)
    debug = word(reader.mapping(FORMAT_FILE).get("debug")) or word(result.get("debug"))
    state = "debug" if debug else _state(folder, result, status, job)
    log = word(status.get("log")) or LOG
    return Run(
        folder,
        state,
        f"debug={debug} looks for faults: its numbers are no results, and are not ranked"
        if debug
        else _reason(status, state),
        # a status that others wrote may not name a file outside of the folder
        log if log == Path(log).name and (folder / log).is_file() else "",
        _about(result, config, given),
        config,
        None if debug else _validation(result, status, history),
        _seconds(result, status),
        None if debug else Scores.tested(result),
        {place: found for place, found in below.items() if found is not None and not debug},
        history,
        whole(result.get("epochs")) or (int(history[-1].get("epoch", -1)) + 1 if history else None),
        _versions(result),
        _pictures(folder),
        reader.problems,
    )


def _below(reader: Reader, tested: Mapping[str, Any]) -> dict[str, Scores | None]:
    """Evaluations below a run, in folders of any name; doubted where they are of other weights than the test."""
    found = {}
    # a dot in front: a folder that is being written, or that a kill left
    for path in sorted(reader.folder.glob(f"[!.]*/{RESULT}"))[:MOST_FOLDERS]:
        place = path.parent.name
        result = reader.mapping(f"{place}/{RESULT}")
        if "evidence" in result:
            scores = Scores.evaluated(result, f"{place}/data.csv")
            found[place] = scores and _of_other_weights(scores, _step(result), _step(tested))
    return found


def _step(result: Mapping[str, Any]) -> int | None:
    """The training step of the weights that were scored."""
    return whole(part(result, "checkpoint").get("step"))


def _of_other_weights(scores: Scores, evaluated: int | None, tested: int | None) -> Scores:
    if evaluated is None or tested is None or evaluated == tested:
        return scores
    sentence = (
        f"evaluated with the weights of step {evaluated:,}, and the run now ends with those of step {tested:,}; "
        "evaluate it again."
    )
    return replace(scores, reliability_warnings=(sentence, *scores.reliability_warnings))


def _state(folder: Path, result: Mapping[str, Any], status: Mapping[str, Any], job: bool) -> str:
    said = word(status.get("state"))
    if said == "running":
        return "running" if is_held(folder / LOCK) else "interrupted"
    if said in ("queued", "finished", "failed", "pruned"):
        return said
    if (folder / STATUS).exists():
        return "unknown"
    if job:
        return "queued"
    return "finished" if result.get("status") == "finished" else "unfinished"


def _reason(status: Mapping[str, Any], state: str) -> str:
    said = redacted_by_name(word(status.get("reason"), LONGEST_REASON))
    return said or ("its process is gone; the same command goes on with it" if state == "interrupted" else "")


def _about(result: Mapping[str, Any], config: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Choices of a run in the words of the command line: from the result, else the config, else its overrides."""
    targets = {name: config.get(f"{name}._target_", "") for name in (*CHOICES, "mask")}
    chosen = {name: choice_of(target) for name, target in targets.items() if "." in target}
    scalars = {name: config[key] for name, key in SCALARS.items() if key in config}
    told = {name: word(result.get(name)) for name in (*CHOICES, "binarisation", "mask", "k", "seed")}
    return {**given, **{name: config[name] for name in given if name in config}, **chosen, **scalars} | {
        name: value for name, value in told.items() if value
    }


SCALARS = {"k": "k", "seed": "seed", "binarisation": "data.binarisation"}


def _validation(result: Mapping[str, Any], status: Mapping[str, Any], history: Rows) -> float | None:
    if void_of(part(result, "validation")):
        return None
    bounds = [row["val/bound"] for row in history if "val/bound" in row]
    known = number(part(result, "validation").get("bound"))
    known = number(status.get("score")) if known is None else known
    return max(bounds, default=None) if known is None else known


def _seconds(result: Mapping[str, Any], status: Mapping[str, Any]) -> float | None:
    said = number(status.get("seconds"))
    parts = [number(value) for value in part(result, "seconds").values()]
    return said if said is not None else sum(one for one in parts if one is not None) if parts else None


def _versions(result: Mapping[str, Any]) -> dict[str, str]:
    found = {word(name): word(value) for name, value in part(result, "versions").items()}
    data = f"{word(result.get('data'))}, {word(result.get('binarisation'))}"
    return found | ({"data digest": f"{word(result['data_digest'])} ({data})"} if result.get("data_digest") else {})


def _pictures(folder: Path) -> dict[str, Path]:
    """Pictures by kind: the name of the file and, for evaluations and completions, that of the folder."""
    found = {path.stem: path for path in sorted(folder.glob(f"{FIGURES}/*.png"))}
    for path in sorted(folder.glob(f"[!.]*/{FIGURES}/*.png")):
        place = path.parent.parent.name
        found[f"{place}: {path.stem}"] = path
    return found


VALUE_ALONE = (*CHOICES, "binarisation")
"""Words whose value says what they are."""
LONGEST = 56
"""Letters of a name; where what tells the runs apart takes more, the names of their folders are better ones."""
REPEATS = ("seed", "data.seed")
"""What runs differ in that are the same run again."""


@dataclass(frozen=True)
class Names:
    """Short names of runs.

    Args:
        labels: One short name for each run, all different.
        series: For each run, what it shares with its repetitions and with runs of another k.
        varied: What they differ in: for each key, the word of every run; empty where a run has none.
    """

    labels: Sequence[str]
    series: Sequence[str]
    varied: Mapping[str, Sequence[str]]


def names_of(runs: Sequence[Run]) -> Names:
    """Short names for some runs."""
    varied = _without_repeats(differing([run.about for run in runs]))
    order = sorted(varied, key=lambda name: (*_place(name), name))
    varied = {name: varied[name] for name in order}
    told = _without_pieces_of_models(varied)
    labels = [_words(told, index, ()) or described(run) for index, run in enumerate(runs)]
    if max(map(len, labels), default=0) > LONGEST:
        labels = [run.name for run in runs]
    labels = [run.name if labels.count(label) > 1 else label for run, label in zip(runs, labels, strict=True)]
    tails = _tails([run.folder for run in runs])
    labels = [tail if labels.count(label) > 1 else label for tail, label in zip(tails, labels, strict=True)]
    series = [
        _words(varied, index, ("k", *REPEATS)) or run.about.get("model", "runs") for index, run in enumerate(runs)
    ]
    return Names(labels, series, varied)


def described(run: Run) -> str:
    """Model, data, k and seed of a run, as far as they are known; else the name of its folder."""
    words = [_word(key, run.about[key]) for key in ("model", "data", "k", "seed") if run.about.get(key)]
    return " ".join(words) or run.name


def _tails(folders: Sequence[Path]) -> list[str]:
    """The ends of paths that tell them apart, and no more of the machine they lie on."""
    for parts in range(2, max((len(folder.parts) for folder in folders), default=0)):
        tails = ["/".join(folder.parts[-parts:]) for folder in folders]
        if len(set(tails)) == len(tails):
            return [legible(tail) for tail in tails]
    return [legible(folder) for folder in folders]


def shared_words(names: Names, runs: Sequence[int], without: Sequence[str]) -> list[str]:
    """Words of the command line that some of the runs share and others lack.

    Args:
        names: What all runs are called.
        runs: The places of some of them.
        without: Keys to leave out.
    """
    kept = {name: {values[run] for run in runs} for name, values in names.varied.items() if name not in without}
    return [_word(name, *found) for name, found in kept.items() if len(found) == 1 and found != {""}]


def _place(name: str) -> tuple[int, int]:
    order = ("data", "binarisation", "mask", "model", "prior", "q", "likelihood", "objective")
    if name in order:
        return 0, order.index(name)
    return (2, ("k", *REPEATS).index(name)) if name in ("k", *REPEATS) else (1, 0)


def _without_repeats(varied: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Without the objective where the model settles it, and without keys that only say a choice again."""
    kept = dict(varied)
    if "objective" in kept and "model" in kept and _settled(kept["model"], kept["objective"]):
        del kept["objective"]
    for name in [name for name in kept if "." in name and name.split(".")[0] in kept]:
        if _settled(kept[name.split(".")[0]], kept[name]):
            del kept[name]
    kept.pop("data.binarisation", None)
    return kept


def _without_pieces_of_models(varied: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Without the prior, q and likelihood where the model settles them: a mixture of Gaussians needs no more words."""
    models = varied.get("model")
    if models is None:
        return dict(varied)
    pieces = ("prior", "q", "likelihood")
    return {name: values for name, values in varied.items() if name not in pieces or not _settled(models, values)}


def _settled(by: Sequence[str], values: Sequence[str]) -> bool:
    return len(set(zip(by, values, strict=True))) == len(set(by))


def _words(varied: Mapping[str, Sequence[str]], index: int, without: Sequence[str]) -> str:
    words = []
    for name, values in varied.items():
        value = values[index]
        if value and name not in without:
            words.append(_word(name, value))
    return " ".join(words)


def _word(name: str, value: str) -> str:
    return value if name in VALUE_ALONE else f"{name.rpartition('.')[2]}={value}"


@dataclass(frozen=True)
class Place:
    """Place of a run.

    Args:
        folder: Its folder.
        sweep: Name of the sweep it belongs to; empty for none.
        words: What the sweep starts it with.
    """

    folder: Path
    sweep: str = ""
    words: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """Runs and sweeps found in the folders a user named.

    Args:
        runs: Where the runs lie.
        sweeps: Folders of the sweeps.
        problems: Plans that could not be read.
    """

    runs: Sequence[Place]
    sweeps: Sequence[Path]
    problems: Sequence[str]


def find(folders: Sequence[Path]) -> Found:
    """Every run in some folders: runs, sweeps, and folders of either.

    Raises:
        UserError: If one of the folders is missing, or holds neither a run nor a sweep.
    """
    runs: dict[Path, Place] = {}
    sweeps: list[Path] = []
    problems: list[str] = []
    for folder in folders:
        sources = list(_sources(folder))
        if not sources:
            _refuse(folder)
        for one in dict.fromkeys(sources):
            if _is_sweep(one):
                sweeps.append(one)
            for place in _jobs(one, problems) if _is_sweep(one) else [Place(one)]:
                runs.setdefault(place.folder.resolve(), place)
    return Found(list(runs.values()), list(dict.fromkeys(sweeps)), list(dict.fromkeys(problems)))


def holds_run(folder: Path) -> bool:
    """Tell whether a run has left something in a folder."""
    return any((folder / sign).is_file() for sign in SIGNS)


def _refuse(folder: Path) -> NoReturn:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a directory; name the folder of a run, of a sweep, or of several runs.")
    raise UserError(
        f"{folder} is neither a run nor a sweep, and contains none; name a folder such as outputs/runs/<run>, "
        "outputs/sweeps/<sweep> or outputs/runs."
    )


def _is_sweep(folder: Path) -> bool:
    return (folder / PLAN).is_file()


def _sources(folder: Path, deepest: int = DEEPEST) -> Iterator[Path]:
    if _is_sweep(folder) or holds_run(folder):
        yield folder
    elif deepest:
        for child in _children(folder):
            yield from _sources(child, deepest - 1)


def _children(folder: Path) -> list[Path]:
    try:
        found = [one for one in folder.iterdir() if one.is_dir() and one.name not in SKIPPED and one.name[0] != "."]
    except OSError:
        return []
    return sorted(found)


def _jobs(sweep: Path, problems: list[str]) -> list[Place]:
    """The jobs of a plan in its order; where it cannot be read, the folders that hold runs."""
    reader = Reader(sweep)
    listed = jobs_of(reader.mapping(PLAN))
    jobs = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    named = {word(one.get("folder")): one.get("words") for one in jobs if word(one.get("folder"))}
    # a plan that others wrote may not lead out of the folder of its sweep
    inside = {name: words for name, words in named.items() if Path(name).name == name and name != ".."}
    problems += [f"{sweep.name}/{problem}" for problem in reader.problems]
    if not inside:
        return [Place(child, sweep.name) for child in _children(sweep) if holds_run(child)]
    return [Place(sweep / name, sweep.name, words if isinstance(words, list) else []) for name, words in inside.items()]
