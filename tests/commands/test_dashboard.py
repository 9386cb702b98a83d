"""The dashboard as code: what is saved is what was reviewed, and what goes wrong is one sentence."""

import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jsonschema
import pytest
from wandb_workspaces.reports.v2.interface import Report
from wandb_workspaces.reports.v2.internal import ReportViewspec
from wandb_workspaces.workspaces import Workspace
from wandb_workspaces.workspaces.internal import View

from taut.commands.dashboard.charts import TITLE, Chart, GapAgainstK, Stacked
from taut.commands.dashboard.command import _add_chart, main, parsed
from taut.commands.dashboard.pages import as_json
from taut.commands.dashboard.sections import SECTIONS
from taut.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("pages.json")
WORDS = ["entity=me", "project=taut", "sweep=outputs/sweeps/k_grid"]
DUMMY = "0123456789" * 4


@pytest.fixture
def offline(monkeypatch):
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")  # what the command sets is undone with the rest


@pytest.fixture
def written(tmp_path, offline):
    assert main([*WORDS, f"out={tmp_path / 'pages.json'}"]) == 0
    return tmp_path / "pages.json"


def test_the_pages_are_those_that_were_reviewed(written):
    renew = f"python dashboard.py {' '.join(WORDS)} out={SNAPSHOT.relative_to(ROOT)}"
    assert written.read_text() == SNAPSHOT.read_text(), f"look at the difference; if it is meant: {renew}"


def panels_of(page: dict) -> list[dict]:
    """Every panel of a workspace, in order."""
    return [panel for section in sections_of(page) for panel in section["panels"]]


def sections_of(page: dict) -> list[dict]:
    return page["spec"]["section"]["panelBankConfig"]["sections"]


def test_each_section_is_a_question_that_starts_with_how_to_read_it(written):
    sections = sections_of(json.loads(written.read_text())["workspace"])
    assert [section["name"] for section in sections] == [
        "Is the bound tight?",
        "Where does the gap come from?",
        "Does K help?",
        "Which run is better?",
        "Did anything go wrong?",
    ]
    assert sections[0]["isOpen"]
    for section in sections:
        first, *answers = section["panels"]
        assert first["viewType"] == "Markdown Panel"
        assert len(first["config"]["value"]) > 100
        assert "{" not in first["config"]["value"]
        assert len(answers) >= 4
        boxes = [panel["layout"] for panel in section["panels"]]
        cells = [(x, y) for box in boxes for x in range(box["x"], box["x"] + box["w"]) for y in rows_of(box)]
        assert len(set(cells)) == len(cells), "panels lie on one another"
        assert max(x for x, _ in cells) < 24


def rows_of(box: dict) -> range:
    return range(box["y"], box["y"] + box["h"])


def test_nothing_is_averaged_over_k(written):
    """A group of runs by model alone, whose mean W&B would draw; seeds are joined by the chart, at one K each."""
    found = json.loads(written.read_text())
    assert not [panel["config"]["groupBy"] for panel in panels_of(found["workspace"]) if panel["config"].get("groupBy")]
    assert "aggregate" not in json.dumps(found["workspace"])
    assert found["workspace"]["spec"]["section"]["runSets"][0]["grouping"] == []
    specification = GapAgainstK("gap against K", "tables/gap").specification
    line, _, points = specification["layer"]
    assert specification["encoding"]["x"]["field"] == "${field:k}"
    assert line["encoding"]["y"]["aggregate"] == "mean"
    assert "aggregate" not in points["encoding"]["y"]


def test_wandbs_own_reader_reads_the_pages_back_whole(written):
    """A panel, a field or a setting that W&B's models do not know, and so drop or refuse."""
    found = json.loads(written.read_text())
    assert as_json(Workspace._from_model(View.model_validate(found["workspace"]))) == found["workspace"]
    back = as_json(Report._from_model(ReportViewspec.model_validate(found["report"])))
    kinds = [[panel["viewType"] for panel in grid["panels"]] for grid in grids_of(back)]
    assert kinds == [[panel["viewType"] for panel in grid["panels"]] for grid in grids_of(found["report"])]
    unknown = {"layout": {}, "config": {}}
    assert not [panel for panel in panels_of(found["workspace"]) if panel.keys() == unknown.keys()]


def grids_of(report: dict) -> list[dict]:
    blocks = [block["metadata"] for block in report["spec"]["blocks"] if block["type"] == "panel-grid"]
    return [block["panelBankSectionConfig"] for block in blocks]


CHARTS = [panel for section in SECTIONS for panel in section.panels if isinstance(panel, Chart)]


def filled(chart: Chart) -> dict:
    """The specification of a chart with the columns of its table, as W&B fills it in."""
    text = json.dumps(chart.specification).replace(TITLE, chart.title)
    for name, column in chart.fields.items():
        text = text.replace(f"${{field:{name}}}", column)
    return json.loads(text)


def test_a_chart_is_a_specification_of_vega_lite_and_needs_no_network():
    altair = pytest.importorskip("altair")
    schema = json.loads((Path(altair.__file__).parent / "vegalite/v6/schema/vega-lite-schema.json").read_text())
    checker = jsonschema.validators.validator_for(schema)(schema)
    assert len(CHARTS) > 5
    for chart in CHARTS:
        assert [error.message for error in checker.iter_errors(filled(chart))] == []
        assert filled(chart)["data"] == {"name": "wandb"}
        assert filled(chart)["title"] == chart.title
        assert "${" not in json.dumps(filled(chart))
        assert "url" not in json.dumps(
            filled(chart)["layer"] if "layer" in filled(chart) else filled(chart)["encoding"]
        )


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.title)
def test_a_chart_is_given_every_column_it_asks_for_and_no_other(chart):
    asked = set(re.findall(r"\$\{field:(\w+)\}", json.dumps(chart.specification)))
    assert asked == set(chart.fields)


def test_the_charts_that_panels_use_are_saved_with_them(written):
    found = json.loads(written.read_text())
    used = {panel["config"]["panelDefId"] for panel in panels_of(found["workspace"]) if panel["viewType"] == "Vega2"}
    assert used == {f"me/{name}" for name in found["charts"]}
    assert all(name.startswith("taut-") for name in found["charts"])


def test_a_chart_that_is_there_is_kept_and_another_failure_is_not_hidden(monkeypatch):
    """A second save that ends in an error; a panel whose chart W&B has refused."""
    asked = []

    class Server:
        def create_custom_chart(self, **words):
            asked.append(words)
            raise ValueError(said)

    monkeypatch.setattr("wandb.Api", Server)
    said = "a chart of this name already exists"
    _add_chart("me", "taut-stacked", Stacked("parts", "tables/parts").specification)
    assert asked[0]["entity"] == "me"
    assert asked[0]["spec"]["data"] == {"name": "wandb"}
    said = "permission denied"
    with pytest.raises(ValueError, match="permission denied"):
        _add_chart("me", "taut-stacked", Stacked("parts", "tables/parts").specification)


def test_a_file_of_pages_is_read_back_for_another_user(written, tmp_path):
    theirs, back = tmp_path / "theirs.json", tmp_path / "back.json"
    assert main(["entity=you", "project=mine", f"pages={written}", f"out={theirs}"]) == 0
    found = json.loads(theirs.read_text())
    assert (found["workspace"]["entity"], found["workspace"]["project"]) == ("you", "mine")
    assert found["report"]["project"] == {"name": "mine", "entityName": "you"}
    assert '"me/' not in theirs.read_text()
    assert main(["entity=me", "project=taut", f"pages={theirs}", f"out={back}"]) == 0
    assert back.read_text() == written.read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "holds no pages that W&B can read"),
        ("[]", "holds no pages that W&B can read"),
        ('{"workspace": {"entity": "a"}, "charts": {}}', "holds no pages that W&B can read"),
        (None, "cannot be read"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_a_file_that_holds_no_pages_is_one_sentence_and_nothing_is_sent(tmp_path, capsys, monkeypatch, content, said):
    path = tmp_path / "pages.json"
    if content is not None:
        path.write_text(content)
    assert main([f"pages={path}", f"out={tmp_path / 'out.json'}"]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert said in sentence
    assert "write one with out=<file>.json" in sentence
    assert not (tmp_path / "out.json").exists()
    monkeypatch.setattr("taut.runtime.connection.has_key", lambda: pytest.fail("W&B was asked first"))
    assert main(["entity=me", f"pages={path}"]) == 2
    assert capsys.readouterr().err == f"{sentence}\n"


def test_a_panel_that_wandb_does_not_know_is_refused(written, tmp_path, capsys):
    path = tmp_path / "other.json"
    path.write_text(written.read_text().replace('"Scatter Plot"', '"Scattered Plot"'))
    assert main([f"pages={path}", "--dry-run"]) == 2
    assert "a panel of a kind that W&B does not know" in capsys.readouterr().err


def test_a_sweep_shows_its_own_runs_alone(written):
    found = json.loads(written.read_text())
    grids = [block["metadata"] for block in found["report"]["spec"]["blocks"] if block["type"] == "panel-grid"]
    sets = [found["workspace"]["spec"]["section"]["runSets"][0], *(grid["runSets"][0] for grid in grids)]
    assert len(sets) > 5
    for runs in sets:
        (only,) = runs["filters"]["filters"]
        assert (only["key"], only["op"], only["value"]) == ({"section": "run", "name": "group"}, "=", "k_grid")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["entty=me"], "There is no key entty; did you mean entity?"),
        (["--dryrun"], "There is no flag --dryrun; did you mean --dry-run?"),
        (["entity"], "There is no key entity"),
        (["entity="], "entity= has no value"),
        (["project=taut"], "add entity=<name>"),
        (["entity=me", "sweep=a'b"], "sweep=a'b cannot be a name"),
        (["--dry-run", "out=a.json"], "out and --dry-run are two ways to look at the pages"),
        (["preview=a.jpg"], "preview=a.jpg is no name of a picture"),
        (["--dry-run", "records=outputs/wandb"], "records= says what preview=<file>.png draws"),
        (["--dry-run", "pages=a.json", "sweep=a"], "pages= holds finished pages, which sweep= does not change"),
    ],
)
def test_a_wrong_word_is_one_sentence(words, said):
    with pytest.raises(UserError, match=re.escape(said)):
        parsed(words)


def test_a_dry_run_names_every_section_and_panel_on_one_screen(capsys, offline):
    assert main(["--dry-run", "sweep=a", "project=mine"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == 'workspace "taut: a" of project mine'
    assert len(lines) < 45
    assert sum(line.startswith("    ") for line in lines) == sum(len(section.panels) for section in SECTIONS) >= 25
    for section in SECTIONS:
        assert f"  {section.question}" in lines
        assert {f"    {panel.title}" for panel in section.panels} <= set(lines)


def test_nothing_half_written_is_left(tmp_path, capsys, offline):
    assert main([f"out={tmp_path / 'none' / 'pages.json'}"]) == 2
    assert "name a file in a folder that exists" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def asked(*words: str, **env: str) -> tuple[subprocess.CompletedProcess, float]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, ROOT / "dashboard.py", *words],
        env={**clean, "HOME": "/nowhere", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done, time.monotonic() - started


def refused(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    return sentence


def test_without_a_key_or_a_server_it_is_one_sentence_at_once(programs):
    """A prompt on the terminal; an attempt that goes on for minutes."""
    done, _ = asked("entity=me")
    assert "needs a W&B API key" in refused(done)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (9, silent.getsockname()[1]):
            address = f"http://127.0.0.1:{port}"
            done, seconds = asked("entity=me", WANDB_API_KEY=DUMMY, WANDB_BASE_URL=address)
            assert "server does not answer" in refused(done)
            assert seconds < 30, "1 and 5 s on an idle machine; W&B itself would try for minutes"


class Refusing(http.server.BaseHTTPRequestHandler):
    """A server that answers, but does not know the user."""

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"errors": [{"message": "user is not logged in"}]}')

    def log_message(self, *_):
        pass


def test_a_server_that_refuses_is_one_sentence(programs):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    done, _ = asked("entity=me", WANDB_API_KEY=DUMMY, WANDB_BASE_URL=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    assert "W&B did not take the page" in refused(done)


PROJECT = {"__typename": "Project", "id": "p", "internalId": "UHJvamVjdDox", "name": "taut", "entityName": "me"}
PROJECT |= {"createdAt": "2026-01-01T00:00:00", "isBenchmark": False, "user": None}


class Taking(Refusing):
    """A server that takes charts and pages of a project that is there, or is not."""

    project: dict | None
    taken: list[tuple[str, dict]]

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(body) if self.path == "/graphql" else {"query": ""}
        given = asked.get("variables") or {}
        mutation = re.search(r"mutation.*?\b(createCustomChart|upsertView)\(", asked["query"], re.DOTALL)
        if mutation:
            self.taken.append((mutation[1], given))
        me = {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}
        end = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        view = {**given, "id": "Vmlldzox", "project": self.project, "updatedAt": "2026-01-01T00:00:00"}
        data = {
            "viewer": me,
            "serverInfo": {"features": []},
            "project": self.project,
            "models": {"edges": [{"node": self.project}], "pageInfo": end},
            "createCustomChart": {"chart": {"id": f"me/{given.get('chartName')}"}},
            "upsertView": {"view": view, "inserted": True},
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"data": data}).encode())


def saved(project: dict | None) -> tuple[subprocess.CompletedProcess, list[tuple[str, dict]]]:
    """What the command says of saving the pages of a sweep, and what a server was given."""
    handler = type("Handler", (Taking,), {"project": project, "taken": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    done, _ = asked(*WORDS, WANDB_API_KEY=DUMMY, WANDB_BASE_URL=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    return done, handler.taken


def test_what_is_saved_is_what_was_reviewed(programs):
    """W&B's own client and its mutations: a page that is sent before its charts, to another user, without a panel."""
    done, taken = saved(PROJECT)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["workspace", "report"]
    reviewed = json.loads(SNAPSHOT.read_text())
    *charts, (_, workspace), (_, report) = taken
    assert {name for name, _ in charts} == {"createCustomChart"}
    sent = {given["chartName"]: (given["entity"], given["access"], json.loads(given["spec"])) for _, given in charts}
    assert sent == {name: ("me", "PRIVATE", one) for name, one in reviewed["charts"].items()}
    for given, page, kind in ((workspace, "workspace", "project-view"), (report, "report", "runs")):
        assert (given["entityName"], given["projectName"], given["type"]) == ("me", "taut", kind)
        assert given["displayName"] == reviewed[page]["displayName"]
    assert json.loads(workspace["spec"]) == reviewed["workspace"]["spec"]
    assert grids_of({"spec": json.loads(report["spec"])}) == grids_of(reviewed["report"])


def test_of_a_project_that_is_not_there_nothing_is_saved(programs):
    """A workspace that is left behind by a report that could not be made."""
    done, taken = saved(None)
    assert "project 'me/taut' not found" in refused(done)
    assert taken == []


def test_help_imports_nothing_heavy_and_shows_four_examples(programs):
    code = (
        "import sys; from taut.commands.dashboard.command import main; main(['--help']); "
        "print([n for n in ('torch', 'lightning', 'wandb', 'numpy', 'hydra') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    *text, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert sum(line.startswith("  python dashboard.py") for line in text) == 4


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_look_at_the_pages_opens_no_connection(programs, tmp_path):
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=socket,connect", "-o", trace, sys.executable, ROOT / "dashboard.py"]
    subprocess.run([*command, "sweep=a", "out=pages.json"], cwd=tmp_path, timeout=60, check=True)
    assert json.loads((tmp_path / "pages.json").read_text())["report"]
    assert "AF_INET" not in trace.read_text()
