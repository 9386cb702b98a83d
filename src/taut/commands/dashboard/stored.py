"""The pages as a file that is reviewed in git, and read back to be saved."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb_workspaces.workspaces as ws
from pydantic import ValidationError
from wandb_workspaces.reports.v2 import interface as wr
from wandb_workspaces.reports.v2.internal import ReportViewspec
from wandb_workspaces.workspaces.internal import View

from taut.commands.dashboard.charts import Chart
from taut.commands.dashboard.pages import as_json, report, workspace
from taut.commands.dashboard.sections import SECTIONS
from taut.errors import UserError
from taut.files import read_regular, reason

OWNER = re.compile(r'(?<="panelDefId": ")[^"/]*(?=/taut-)')
"""Whose charts the panels of a file are drawn by."""


@dataclass(frozen=True)
class Pages:
    """Pages that are saved at W&B, and the charts they use.

    Args:
        workspace: The workspace.
        report: The report on one sweep, or None.
        charts: Vega-Lite specifications that the panels use, by their names.
    """

    workspace: ws.Workspace
    report: wr.Report | None
    charts: Mapping[str, Any]

    @classmethod
    def made(cls, entity: str, project: str, sweep: str | None, online: bool) -> "Pages":
        """The pages of a project.

        Args:
            entity: W&B user or team.
            project: W&B project.
            sweep: W&B group of the runs of a sweep; without one there is no report.
            online: Whether W&B's server may be asked for the project.
        """
        panels = [panel for section in SECTIONS for panel in section.panels]
        charts = {panel.chart_name: panel.specification for panel in panels if isinstance(panel, Chart)}
        about = None if sweep is None else report(entity, project, sweep, online)
        return cls(workspace(entity, project, sweep), about, charts)

    @classmethod
    def read(cls, path: Path, entity: str, project: str) -> "Pages":
        """The pages in a file, for another user and project than they were made for.

        Raises:
            UserError: If it cannot be read, or W&B's reader refuses it, or a panel of it is of no kind that it knows.
        """
        try:
            content = json.loads(OWNER.sub(entity, json.dumps(json.loads(read_regular(path)))))
            found = ws.Workspace._from_model(View.model_validate(content["workspace"]))
            page = _report_of(content["report"]) if "report" in content else None
            charts = dict(content["charts"])
        except OSError as error:
            raise UserError(
                f"pages={path} cannot be read ({reason(error)}); write one with out=<file>.json."
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            raise UserError(
                f"pages={path} holds no pages that W&B can read; write one with out=<file>.json."
            ) from error
        unknown = [
            type(panel) for section in found.sections for panel in section.panels if isinstance(panel, wr.UnknownPanel)
        ]
        if unknown:
            raise UserError(
                f"pages={path} has a panel of a kind that W&B does not know; write one with out=<file>.json."
            )
        for one in (found, page):
            if one is not None:
                one.entity, one.project = entity, project
        return cls(found, page, charts)

    def as_json(self) -> dict[str, Any]:
        """Content of a file that :meth:`read` reads."""
        pages: dict[str, Any] = {"workspace": as_json(self.workspace), "charts": dict(self.charts)}
        return pages if self.report is None else {**pages, "report": as_json(self.report)}

    def outline(self) -> str:
        """Outline of the pages: every section, and its panels by their titles."""
        lines = [f'workspace "{self.workspace.name}" of project {self.workspace.project}']
        for section in self.workspace.sections:
            titles = [_title(panel) for panel in section.panels if not isinstance(panel, wr.MarkdownPanel)]
            lines += [f"  {section.name}", *(f"    {title}" for title in titles)]
        report_too = [] if self.report is None else [f'report "{self.report.title}": the same sections']
        return "\n".join([*lines, *report_too, "out=<file>.json writes all of it, preview=<file>.png draws it."])


def _report_of(content: Mapping[str, Any]) -> wr.Report:
    page = wr.Report._from_model(ReportViewspec.model_validate(content))
    # which W&B's reader leaves out
    page.width = content["spec"]["width"]
    return page


def _title(panel: Any) -> str:
    if isinstance(panel, wr.CustomChart):
        return panel.chart_strings["title"]
    return getattr(panel, "title", None) or "settings that differ"
