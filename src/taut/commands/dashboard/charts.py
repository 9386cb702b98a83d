"""Vega-Lite specifications of the charts that W&B has no panel for: intervals, stacked parts, means over seeds.

A specification draws the rows of one table of all runs; ``${field:<name>}`` stands for the column that a panel gives,
and ``${string:title}`` for its title.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from taut.commands.dashboard.panels import NATS, SERIES, TRUSTED_KHAT, Chart

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Schema that a specification names; nothing is read from there."""
TITLE = "${string:title}"
RUN = {"title": None, "sort": None, "axis": {"labelLimit": 220}}
"""Names of runs on an axis, in the order of the runs and not of the alphabet."""
RULE = {"mark": {"type": "rule", "color": "#D55E00", "strokeDash": [5, 3]}}


def specification(kind: str) -> dict[str, Any]:
    """The Vega-Lite specification of a kind of chart."""
    return {"$schema": SCHEMA, "data": {"name": "wandb"}, "title": TITLE, "width": "container", **KINDS[kind]}


def chart_name(kind: str) -> str:
    """The name of a chart among those of a user at W&B, another one whenever its specification changes."""
    digest = hashlib.sha256(json.dumps(specification(kind), sort_keys=True).encode()).hexdigest()[:8]
    return f"taut-{kind.replace('_', '-')}-{digest}"


def filled(chart: Chart) -> dict[str, Any]:
    """The specification of a chart with the columns of its table, as W&B fills it in."""
    text = json.dumps(specification(chart.kind)).replace(TITLE, chart.title)
    for name, column in chart.fields.items():
        text = text.replace(f"${{field:{name}}}", column)
    return json.loads(text)


def _column(name: str, kind: str = "quantitative", **more: Any) -> dict[str, Any]:
    return {"field": f"${{field:{name}}}", "type": kind, **more}


def _value(name: str) -> str:
    return f"datum['${{field:{name}}}']"


def _ends(name: str) -> dict[str, Any]:
    """A whisker of one standard error to both sides."""
    value, error = _value(name), _value(f"{name}_error")
    return {
        "transform": [
            {"filter": f"isValid({value}) && isValid({error})"},
            {"calculate": f"{value} - {error}", "as": "from"},
            {"calculate": f"{value} + {error}", "as": "to"},
        ],
        "mark": {"type": "rule", "strokeWidth": 1.5},
        "encoding": {"x": {"field": "from", "type": "quantitative"}, "x2": {"field": "to"}},
    }


def _interval() -> dict[str, Any]:
    """A bar from the lower to the upper end, and an arrow where there is no upper one."""
    open_above = f"isValid({_value('low')}) && !isValid({_value('high')})"
    axis = {"title": NATS, "scale": {"zero": False}}
    return {
        "encoding": {"y": _column("run", "nominal", **RUN), "color": _column("run", "nominal", legend=None)},
        "layer": [
            {
                "transform": [{"filter": f"isValid({_value('high')})"}],
                "mark": {"type": "bar", "height": 10, "opacity": 0.55},
                "encoding": {"x": _column("low", **axis), "x2": {"field": "${field:high}"}},
            },
            {
                "transform": [{"filter": open_above}],
                "mark": {"type": "point", "shape": "triangle-right", "filled": True, "size": 90},
                "encoding": {"x": _column("low", **axis)},
            },
            _ends("low"),
            _ends("high"),
        ],
    }


def _stacked() -> dict[str, Any]:
    """The mean of every part over the rows of a run, on top of one another."""
    return {
        "mark": {"type": "bar"},
        "encoding": {
            "y": _column("run", "nominal", **RUN),
            "x": _column("value", aggregate="mean", stack="zero", title=NATS),
            "color": _column("part", "nominal", title=None, legend={"orient": "bottom"}),
        },
    }


def _gap_against_k() -> dict[str, Any]:
    """Means over the seeds of one K, and every run as a point; a line never joins what differs but in K."""
    series = " + ' ' + ".join(_value(name) for name in SERIES)
    x = _column("k", scale={"type": "log"}, title="K", axis={"format": "d"})
    y = {"title": f"gap, {NATS}", "scale": {"zero": False}}
    colour = {"field": "series", "type": "nominal", "title": None, "legend": {"orient": "bottom"}}
    return {
        "transform": [{"calculate": series, "as": "series"}],
        "encoding": {"x": x, "color": colour},
        "layer": [
            {"mark": {"type": "line"}, "encoding": {"y": _column("gap", aggregate="mean", **y)}},
            {"mark": {"type": "errorbar", "extent": "stderr"}, "encoding": {"y": _column("gap", **y)}},
            {"mark": {"type": "point", "filled": True}, "encoding": {"y": _column("gap", **y)}},
        ],
    }


def _khat_histogram() -> dict[str, Any]:
    """Numbers of data by their k-hat, and a line where trust ends."""
    series = f"{_value('model')} + ' k=' + {_value('k')}"
    colour = {"field": "series", "type": "nominal", "title": None, "legend": {"orient": "bottom"}}
    return {
        "transform": [{"calculate": series, "as": "series"}],
        "layer": [
            {
                "mark": {"type": "bar", "opacity": 0.5},
                "encoding": {
                    "x": _column("khat", bin={"step": 0.1}, title="k-hat"),
                    "y": {"aggregate": "count", "type": "quantitative", "stack": None, "title": "number of data"},
                    "color": colour,
                },
            },
            {**RULE, "encoding": {"x": {"datum": TRUSTED_KHAT, "type": "quantitative"}}},
        ],
    }


KINDS: Mapping[str, Mapping[str, Any]] = {
    "interval": _interval(),
    "stacked": _stacked(),
    "gap_against_k": _gap_against_k(),
    "khat_histogram": _khat_histogram(),
}
