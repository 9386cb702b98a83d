"""Pages of W&B made of the panels: a workspace over all runs of a project, and a report on one sweep."""

import hashlib
from typing import Any

import wandb_workspaces.workspaces as ws
from wandb_workspaces.reports.v2 import interface as wr

from taut.commands.dashboard.sections import COLUMNS, EVALUATED, PER_ROW, SECTIONS, Section

WIDTH, HEIGHT, TEXT_HEIGHT = 6, 7, 4
"""Of a panel of width 1, and of the text above the panels, in W&B's grid of 24 columns."""
OPEN = 3
"""Sections that are unfolded at the start."""
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
        name=title_of(sweep),
        sections=[
            ws.Section(name=section.question, panels=drawn(section, entity), is_open=place < OPEN, pinned=place == 0)
            for place, section in enumerate(SECTIONS)
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch", group_by_prefix="first", max_runs=50),
        runset_settings=ws.RunsetSettings(
            filters="" if sweep is None else _of(sweep),
            order=[ws.Ordering(ws.Summary("test/gap"), ascending=True)],
            pinned_columns=list(COLUMNS),
        ),
    )


def report(entity: str, project: str, sweep: str, online: bool) -> wr.Report:
    """A page on one sweep with the same sections.

    Args:
        entity: W&B user or team.
        project: W&B project.
        sweep: W&B group of the runs of the sweep.
        online: Whether W&B's server may be asked for the project; the runs are the report's own project's otherwise.
    """
    place = (entity, project) if online else ("", "")
    blocks: list[Any] = [wr.TableOfContents()]
    for section in SECTIONS:
        runs = wr.Runset(*place, name=sweep, filters=_of(sweep))
        runs._id = _digest("runs", section.question)
        blocks += [wr.H2(section.question), wr.P(section.reading)]
        blocks.append(wr.PanelGrid(runsets=[runs], panels=_answers(section, entity, 0)))
    return wr.Report(
        entity=entity,
        project=project,
        title=f"{sweep}: how tight are the bounds?",
        description=ABOUT,
        blocks=blocks,
        width="fluid",
    )


def title_of(sweep: str | None) -> str:
    """Title of the workspace."""
    return f"taut: {sweep or 'how tight are the bounds?'}"


def as_json(page: ws.Workspace | wr.Report) -> dict[str, Any]:
    """JSON that W&B would be sent; no connection is made."""
    # no public method gives the page without a server to save it to
    return page._to_model().model_dump(by_alias=True, mode="json", exclude_none=True)


def drawn(section: Section, entity: str) -> list[Any]:
    """Panels of W&B: the text on how to read a section, and its answers.

    Args:
        section: The section.
        entity: W&B user or team whose charts are used.
    """
    text = wr.MarkdownPanel(markdown=section.reading, layout=wr.Layout(x=0, y=0, w=PER_ROW * WIDTH, h=TEXT_HEIGHT))
    text._id = _digest("reading", section.question)
    return [text, *_answers(section, entity, TEXT_HEIGHT)]


def _answers(section: Section, entity: str, top: int) -> list[Any]:
    """Panels of W&B from ``top`` on, row by row."""
    made = []
    for row in section.rows:
        x = 0
        for panel in row:
            one = panel.for_wandb(entity)
            # else a random word, and no two files of the same pages would be alike
            one._id = _digest(section.question, panel.title)
            one.layout = wr.Layout(x=x, y=top, w=panel.width * WIDTH, h=HEIGHT)
            made.append(one)
            x += panel.width * WIDTH
        top += HEIGHT
    return made


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def _of(sweep: str) -> str:
    return f"Metric('Group') == '{sweep}'"
