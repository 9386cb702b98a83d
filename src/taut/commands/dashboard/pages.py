"""Sections and panels of the dashboard: each section one question, each panel one answer to it."""

from typing import Any

import wandb_workspaces.workspaces as ws
from wandb_workspaces.reports.v2 import interface as wr

from taut.config.program import typed

EVALUATED = "evaluation/test"
"""Where the default evaluation of the test split (``evaluate.py``) lies in the summary of a run."""
MODEL, PRIOR, Q, K = (wr.Config(key) for key in ("choices.model", "choices.prior", "choices.q", "k"))
NATS = "nats per datum"
WIDE, HALF, HEIGHT = 24, 12, 8


def sections() -> dict[str, list[Any]]:
    """Panels by the title of their section, in the order of the page."""
    return {
        "Gap against K": gap_against_k(),
        "Bracket of log p(x)": bracket(),
        "Approximation and amortisation gap": apart(),
        "What buys tightness": choices(),
        "Runs side by side": [wr.RunComparer(diff_only="split", layout=_layout(0, WIDE, 2 * HEIGHT))],
        "Pictures": pictures(),
        "History": history(),
        "Speed": speed(),
    }


def gap_against_k() -> list[Any]:
    """Gap between the ELBO and log p(x) on the test split, by K and by model."""
    return _in_rows(
        wr.ScatterPlot(title="gap against K", x=K, y=_score("test/gap"), log_x=True),
        _by_model("gap by model, mean and standard error over runs", "test/gap"),
        wr.ScatterPlot(title="log p(x) against K", x=K, y=_score("test/log_px"), log_x=True),
        _series("gap while training", ["val/gap"], groupby=MODEL),
    )


def bracket() -> list[Any]:
    """The best bounds from below and above, and what they say of the gap."""
    return _in_rows(
        _bars("ELBO, best lower bound and best upper bound", "elbo", "bracket/low", "bracket/high"),
        _bars("the gap lies between", "gap/low", "gap/high"),
        wr.ScatterPlot(
            title="upper against lower bound",
            x=_score(f"{EVALUATED}/bracket/low"),
            y=_score(f"{EVALUATED}/bracket/high"),
        ),
        wr.ScatterPlot(title="Pareto k-hat against K", x=K, y=_score(f"{EVALUATED}/importance/khat"), log_x=True),
    )


def apart() -> list[Any]:
    """Approximation gap, the cost of q's family, and amortisation gap, the cost of its encoder."""
    return _in_rows(
        wr.ScatterPlot(
            title="approximation against amortisation gap",
            x=_score(f"{EVALUATED}/test/amortisation"),
            y=_score(f"{EVALUATED}/test/approximation/low"),
        ),
        _bars("parts of the gap, test", "test/approximation/low", "test/approximation/high", "test/amortisation"),
        _bars("parts of the gap, train", "train/approximation/low", "train/approximation/high", "train/amortisation"),
    )


def choices() -> list[Any]:
    """Every run a line through prior, q, K, bound and gap."""
    columns = {"model": MODEL, "prior": PRIOR, "q": Q, "K": K}
    columns |= {"best validation bound": _score("val/bound.max"), "log p(x)": _score("test/log_px")}
    columns |= {"gap": _score("test/gap")}
    return [
        wr.ParallelCoordinatesPlot(
            title="prior, q, K and the gap",
            columns=[
                wr.ParallelCoordinatesPlotColumn(metric=metric, display_name=name, log=name == "K" or None)
                for name, metric in columns.items()
            ],
            layout=_layout(0, WIDE, 2 * HEIGHT),
        )
    ]


def pictures() -> list[Any]:
    """The last pictures of every run."""
    return _in_rows(
        *(
            wr.MediaBrowser(title=title, media_keys=[f"pictures/{key}"], num_columns=2)
            for title, key in {
                "data, reconstructions and samples": "images_test",
                "the bound against K": "bound_versus_k_test",
                "clusters": "mixture_test",
                "the latent plane": "latent_plane_test",
                "log p(x), bracketed": f"{EVALUATED}/bracket",
                "the gap in two parts": f"{EVALUATED}/gap_apart",
            }.items()
        )
    )


def history() -> list[Any]:
    """Bounds and their tightness against the epoch."""
    return _in_rows(
        _series("bounds on the validation split", ["val/bound", "val/elbo", "val/log_px"]),
        _series("bound while training", ["train/bound"]),
        _series("parts of the ELBO", ["val/reconstruction", "val/kl"]),
        _series("gap, or its lower end where log p(x) is a bound", ["val/gap"]),
        _series("effective sample size", ["val/ess"], unit="samples"),
        _series("active units", ["val/active_units"], unit="latents"),
    )


def speed() -> list[Any]:
    """Seconds, epochs and throughput of every run."""
    return _in_rows(
        _series("training", ["speed/images_per_second"], unit="images per second"),
        _series("validation", ["speed/val_images_per_second"], unit="images per second"),
        wr.BarPlot(title="time", metrics=["seconds/fit", "seconds/test"], title_x="seconds"),
    )


def _score(name: str) -> wr.SummaryMetric:
    return wr.SummaryMetric(name)


def _series(title: str, names: list[str], unit: str = NATS, groupby: wr.Config | None = None) -> wr.LinePlot:
    means = {} if groupby is None else {"groupby": groupby, "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}
    return wr.LinePlot(title=title, x="epoch", y=list(names), title_x="epoch", title_y=unit, **means)


def _bars(title: str, *names: str) -> wr.BarPlot:
    return wr.BarPlot(title=title, metrics=[f"{EVALUATED}/{name}" for name in names], title_x=NATS)


def _by_model(title: str, name: str) -> wr.BarPlot:
    return wr.BarPlot(
        title=title,
        metrics=[name],
        groupby=MODEL,
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        title_x=NATS,
    )


def _in_rows(*panels: Any) -> list[Any]:
    """Two panels to a row."""
    for place, panel in enumerate(panels):
        panel.layout = _layout(place, HALF, HEIGHT)
    return list(panels)


def _layout(place: int, width: int, height: int) -> wr.Layout:
    return wr.Layout(x=place % 2 * HALF, y=place // 2 * HEIGHT, w=width, h=height)


OPEN = 4
"""Sections that are unfolded at the start."""
COLUMNS = ("config:k.value", "config:seed.value", "summary:test/gap", "summary:test/log_px", "summary:val/bound.max")

WORDS = {
    "Gap against K": "The gap is log p(x) minus the ELBO. Where log p(x) is known by a lower bound alone, so is it.",
    "Bracket of log p(x)": "Runs that `{evaluate} run=<run folder>` has evaluated. Bounds are compared within "
    "one data set, binarisation and mask only.",
    "Approximation and amortisation gap": "After `{evaluate} run=<run folder> experiment=gap`: what the best q "
    "of the family for every datum leaves is approximation; what the encoder falls short of it is amortisation.",
    "What buys tightness": "Every run is a line through what it is made of, the bound it reaches and its gap.",
}
ABOUT = f"Nats per datum. Scores are of the test split; those under {EVALUATED} are what an evaluation found."


def workspace(entity: str, project: str, sweep: str | None) -> ws.Workspace:
    """The dashboard of a project; of a sweep alone, if one is named.

    Args:
        entity: W&B user or team.
        project: W&B project.
        sweep: W&B group of the runs of a sweep.
    """
    return ws.Workspace(
        entity=entity,
        project=project,
        name=_title(sweep),
        sections=[
            ws.Section(name=name, panels=panels, is_open=place < OPEN, pinned=place == 0)
            for place, (name, panels) in enumerate(sections().items())
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch", group_by_prefix="first", max_runs=50),
        runset_settings=ws.RunsetSettings(
            filters="" if sweep is None else _of(sweep),
            order=[ws.Ordering(ws.Summary("test/gap"), ascending=True)],
            pinned_columns=list(COLUMNS),
        ),
    )


def report(entity: str, project: str, sweep: str, online: bool) -> wr.Report:
    """A page on one sweep: the gap first, then why.

    Args:
        entity: W&B user or team.
        project: W&B project.
        sweep: W&B group of the runs of the sweep.
        online: Whether W&B's server may be asked for the project; the runs are the report's own project's otherwise.
    """
    place = (entity, project) if online else ("", "")
    blocks: list[Any] = [wr.TableOfContents()]
    for name, panels in sections().items():
        runs = wr.Runset(*place, name=sweep, filters=_of(sweep), groupby=_grouping(name))
        blocks += (
            [wr.H2(name), wr.P(WORDS[name].format(evaluate=typed("evaluate")))] if name in WORDS else [wr.H2(name)]
        )
        blocks.append(wr.PanelGrid(runsets=[runs], panels=panels))
    return wr.Report(
        entity=entity,
        project=project,
        title=f"{sweep}: how tight are the bounds?",
        description=ABOUT,
        blocks=blocks,
        width="fluid",
    )


def _of(sweep: str) -> str:
    return f"Metric('Group') == '{sweep}'"


def _grouping(section: str) -> list[str]:
    """Seeds are put together where means are looked at."""
    return ["config.choices.model", "config.k"] if section == "Gap against K" else []


def outline(project: str, sweep: str | None) -> str:
    """What is on the pages, for a reader: every section, and its panels by their titles."""
    lines = [f'workspace "{_title(sweep)}" of project {project}']
    for name, panels in sections().items():
        titles = [getattr(panel, "title", None) or "settings and scores that differ" for panel in panels]
        lines += [f"  {name}", *(f"    {title}" for title in titles)]
    report_too = [] if sweep is None else [f"report on {sweep}: the same sections, with words"]
    return "\n".join([*lines, *report_too, "out=<file>.json writes all of it."])


def _title(sweep: str | None) -> str:
    return f"taut: {sweep or 'how tight are the bounds?'}"


def as_json(page: ws.Workspace | wr.Report) -> dict[str, Any]:
    """JSON that W&B would be sent; no connection is made."""
    # no public method gives the page without a server to save it to
    return page._to_model().model_dump(by_alias=True, mode="json", exclude_none=True)
