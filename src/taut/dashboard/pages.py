"""The workspace over all runs, and the report page on one sweep, as W&B's own objects."""

from typing import Any

import wandb_workspaces.workspaces as ws
from wandb_workspaces.reports.v2 import interface as wr

from taut.dashboard.panels import EVALUATED, sections

OPEN = 4
"""Sections that are unfolded at the start."""
COLUMNS = ("config:k.value", "config:seed.value", "summary:test/gap", "summary:test/log_px", "summary:val/bound.max")

TEXTS = {
    "Gap against K": "The gap is log p(x) minus the ELBO. Where log p(x) is known by a lower bound alone, so is it.",
    "Bracket of log p(x)": "Runs that `python evaluate.py run=<run folder>` has evaluated. Bounds are compared within "
    "one data set, binarisation and mask only.",
    "Approximation and amortisation gap": "After `python evaluate.py run=<run folder> experiment=gap`: what the best q "
    "of the family for every datum leaves is approximation; what the encoder falls short of it is amortisation.",
    "What buys tightness": "Every run is a line through what it is made of, the bound it reaches and its gap.",
}
ABOUT = f"Nats per datum. Scores are of the test split; those under {EVALUATED} are what evaluate.py found."


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
        name=f"taut: {sweep or 'how tight are the bounds?'}",
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
        blocks += [wr.H2(name), wr.P(TEXTS[name])] if name in TEXTS else [wr.H2(name)]
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


def as_json(page: ws.Workspace | wr.Report) -> dict[str, Any]:
    """What W&B would be sent; no connection is made."""
    return page._to_model().model_dump(by_alias=True, mode="json", exclude_none=True)
