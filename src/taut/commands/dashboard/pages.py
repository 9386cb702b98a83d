"""Pages of W&B made of the panels: a workspace over all runs of a project, and a report on one sweep."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import wandb_workspaces.workspaces as ws
from wandb_workspaces.reports.v2 import interface as wr

from taut.commands.dashboard import panels
from taut.commands.dashboard.charts import chart_name
from taut.commands.dashboard.panels import COLUMNS, EVALUATED, SECTIONS, Panel, Section
from taut.config.program import typed

WIDTH, HEIGHT, TEXT_HEIGHT, PER_ROW = 6, 7, 4, 4
WIDE = (panels.Parallel, panels.Differences)
"""Panels that take a row of their own."""
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
        answers = [_made(panel, entity, section.question) for panel in section.panels]
        blocks += [wr.H2(section.question), wr.P(reading(section))]
        blocks.append(wr.PanelGrid(runsets=[runs], panels=_placed(answers, section.panels, 0)))
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


def reading(section: Section) -> str:
    """Text on how to read a section, with the commands as the user types them."""
    return section.reading.format(report=typed("report"))


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
    text = wr.MarkdownPanel(markdown=reading(section), layout=wr.Layout(x=0, y=0, w=PER_ROW * WIDTH, h=TEXT_HEIGHT))
    text._id = _digest("reading", section.question)
    answers = [_made(panel, entity, section.question) for panel in section.panels]
    return [text, *_placed(answers, section.panels, TEXT_HEIGHT)]


def _made(panel: Panel, entity: str, question: str) -> Any:
    made = MADE[type(panel)](panel, entity)
    # else a random word, and no two files of the same pages would be alike
    made._id = _digest(question, panel.title)
    return made


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def _placed(made: Sequence[Any], of: Sequence[Panel], top: int) -> list[Any]:
    """Four panels to a row, and a row for each that is wide."""
    x = 0
    for one, panel in zip(made, of, strict=True):
        width = PER_ROW * WIDTH if isinstance(panel, WIDE) else WIDTH
        if x + width > PER_ROW * WIDTH:
            x, top = 0, top + HEIGHT
        one.layout = wr.Layout(x=x, y=top, w=width, h=HEIGHT)
        x += width
    return list(made)


def _metric(key: str) -> wr.Config | wr.SummaryMetric:
    where, _, name = key.partition(":")
    return wr.Config(name) if where == "config" else wr.SummaryMetric(name)


def _points(panel: panels.Points, _: str) -> Any:
    return wr.ScatterPlot(
        title=panel.title, x=_metric(panel.x), y=_metric(panel.y), log_x=panel.log_x or None, legend_template=LEGEND
    )


def _lines(panel: panels.Lines, _: str) -> Any:
    return wr.LinePlot(
        title=panel.title,
        x=panel.x,
        y=list(panel.names),
        log_x=panel.log_x or None,
        title_x="K" if panel.x == "curve/k" else panel.x,
        title_y=panel.unit,
        legend_template=LEGEND,
    )


def _bars(panel: panels.Bars, _: str) -> Any:
    return wr.BarPlot(title=panel.title, metrics=list(panel.names), title_x=panel.unit, legend_template=LEGEND)


def _chart(panel: panels.Chart, entity: str) -> Any:
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": panel.table}},
        chart_name=f"{entity}/{chart_name(panel.kind)}",
        chart_fields=dict(panel.fields),
        chart_strings={"title": panel.title},
    )


def _picture(panel: panels.Picture, _: str) -> Any:
    return wr.MediaBrowser(title=panel.title, media_keys=[panel.name], num_columns=2)


def _parallel(panel: panels.Parallel, _: str) -> Any:
    columns = [
        wr.ParallelCoordinatesPlotColumn(
            metric=_metric(key), display_name=name, log=True if name in panel.logarithmic else None
        )
        for name, key in panel.columns.items()
    ]
    return wr.ParallelCoordinatesPlot(title=panel.title, columns=columns)


def _differences(*_: Any) -> Any:
    return wr.RunComparer(diff_only="split")


LEGEND = "${run:displayName}"
MADE: Mapping[type[Panel], Callable[[Any, str], Any]] = {
    panels.Points: _points,
    panels.Lines: _lines,
    panels.Bars: _bars,
    panels.Chart: _chart,
    panels.Picture: _picture,
    panels.Parallel: _parallel,
    panels.Differences: _differences,
}


def _of(sweep: str) -> str:
    return f"Metric('Group') == '{sweep}'"
