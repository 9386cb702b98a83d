"""The command and its page: the numbers are those of the files, nothing of the files is code, nothing is fetched."""

import base64
import hashlib
import html
import itertools
import json
import re
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from made_runs import config, evaluation, large_sweep, result, status, table, write_run, write_sweep
from PIL import Image

from taut.commands.report import main
from taut.report.page.plots import thinned

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 1_500_000
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"&{{1237*1237}}</title>"


def _page(*words) -> str:
    assert main([str(word) for word in words]) == 0
    out = Path(words[words.index("--out") + 1]) if "--out" in words else Path(words[0]) / "report.html"
    return out.read_text(encoding="utf-8")


def _data(page, name="data"):
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)[1])


def _tables(page):
    """The words of every cell, by table and row."""
    clean = [
        re.findall(r"<tr data-run.*?</tr>", one, re.DOTALL)
        for one in re.findall(r"<table class=\"runs\".*?</table>", page, re.DOTALL)
    ]
    strip = lambda cell: " ".join(html.unescape(re.sub(r"<[^>]*>", " ", cell)).replace("\u2212", "-").split())  # noqa: E731
    return [
        [[strip(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in rows] for rows in clean
    ]


@pytest.fixture
def sweep(tmp_path):
    values, gaps = [-24.0, -25.25, -26.5], [0.5, 0.625, 0.75]
    return write_sweep(
        tmp_path / "k_grid",
        {
            "000_k1": {
                "words": ["k=1"],
                "made": result(-24.5, 0.5),
                "found": (evaluation(values, gaps), table(values, gaps)),
                "picture": True,
            },
            "001_k5": {"words": ["k=5"], "made": result(-24.25, 1.375, k=5), "cfg": config(5)},
            "002_k25": {"words": ["k=25"], "status": status("failed", reason="RuntimeError: out of luck"), "epochs": 2},
            "003_k50": None,
        },
    )


def test_the_numbers_on_the_page_are_those_of_the_files(sweep, capsys):
    page = _page(sweep)
    rows = _data(page)["sets"][0]["rows"]
    for row, name in zip(rows, ("000_k1", "001_k5"), strict=True):
        scores = json.loads((sweep / name / "result.json").read_text())["scores"]
        pair = lambda key, scores=scores: [scores[key]["value"], scores[key]["standard_error"]]  # noqa: E731
        assert (row["elbo"], row["bound"], row["log_px"]["low"], row["gap"]["low"]) == tuple(
            pair(key) for key in ("elbo", "bound", "log_px", "gap")
        )
        assert (row["log_px"]["high"], row["gap"]["exact"]) == (None, False)
    evaluated = json.loads((sweep / "000_k1" / "evaluation" / "result.json").read_text())
    (row,) = _data(page)["sets"][1]["rows"]
    assert row["gap"]["low"][0] == evaluated["gap"]["low"]["value"]
    assert row["gap"]["high"][0] == evaluated["gap"]["high"]["value"]
    assert row["log_px"]["high"][0] == evaluated["evidence"]["struski"]["value"]
    assert row["apart"]["test"]["amortisation"][0] == evaluated["apart"]["test"]["amortisation"]["value"]
    tested, measured, *waiting = _tables(page)
    assert tested[1][2:7] == [
        "-24.708 k=5",
        "-25.625 ○ ± 0.200",
        "-24.938 ± 0.200 k=5",
        "≥ -24.250 ● ± 0.200",
        "≥ 1.375 ± 0.010",
    ]
    assert measured[0][1:4] == ["-25.875 ± 0.500", "-25.250 ± 0.500", "[-25.250, -25.230]"]
    assert [row[1] for rows in waiting for row in rows] == ["failed", "queued"]
    printed = capsys.readouterr().out
    for words in ("4 runs: 2 finished, 1 queued, 1 failed", "≥ -24.250", "≥ 1.375", "RuntimeError: out of luck"):
        assert words in printed
    assert printed.rstrip().endswith("report.html")


def test_the_history_is_that_of_the_metrics(sweep):
    history = _data(_page(sweep))["runs"][0]["history"]
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert history["gap"] == pytest.approx([1 + 1 / (epoch + 1) for epoch in range(6)], rel=1e-5)


@pytest.mark.parametrize("n", [1, 59, 60, 61, 1000])
def test_long_histories_keep_both_ends(n):
    kept = thinned(n)
    assert (kept[0], kept[-1], len(kept)) == (0, n - 1, min(n, 60))


def test_other_binarisations_have_tables_of_their_own(tmp_path):
    for i, name in enumerate(("dynamic", "threshold", "dynamic")):
        write_run(tmp_path / "runs" / f"r{i}", result(-24 + i, binarisation=name))
    page = _page(tmp_path / "runs", "--out", tmp_path / "all.html")
    assert [len(rows) for rows in _tables(page)] == [2, 1]
    assert [len(one["rows"]) for one in _data(page)["sets"]] == [2, 1]


def test_sets_are_told_apart_by_their_links_and_by_what_their_runs_share(tmp_path, capsys):
    """A short name inside a set leaves out what all of its runs share."""
    for i, (k, many) in enumerate(((1, 20), (5, 20), (50, 100))):
        write_run(tmp_path / "runs" / f"r{i}", result(k=k, k_test=many), cfg=config(k))
    page = _page(tmp_path / "runs", "--out", tmp_path / "all.html")
    assert re.findall(r'<a href="#set-\d">(Test.*?)</a>', page.split("<main>")[0]) == [
        "Test · K = 20",
        "Test · K = 100",
    ]
    details = re.findall(r'<p class="quiet">(test split, .*?)</p>', page)
    assert [("k=50 throughout" in one, "throughout" in one) for one in details[:2]] == [(False, False), (True, True)]
    assert details[0].endswith("2 runs")
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("k=50 throughout") == 1


def test_bounds_so_far_of_other_data_stand_apart(tmp_path):
    for i, name in enumerate(("dynamic", "threshold", "dynamic")):
        data = {"_target_": "taut.data.digits.Digits", "binarisation": name}
        write_run(tmp_path / "runs" / f"r{i}", cfg=config(data=data))
    page = _page(tmp_path / "runs", "--out", tmp_path / "all.html")
    assert [len(rows) for rows in _tables(page)] == [2, 1]
    assert [[row["run"] for row in one["rows"]] for one in _data(page)["waiting"]] == [[0, 2], [1]]
    assert "digits, threshold, bernoulli" in page


def test_configs_that_differ_and_versions(sweep):
    page = _page(sweep)
    settings = re.search(r'<table class="settings">.*?</table>', page, re.DOTALL)[0]
    keys = re.findall(r'<tr><th scope="row">(.*?)</th>', settings)
    assert "k" in keys
    assert "latent_dim" in keys, "a run without a config has no value"
    assert "seed" in keys
    assert "2.13.0" in page
    assert "ab12" * 16 in page


def test_nothing_that_files_say_becomes_code(tmp_path):
    made = result(name=EVIL, model=EVIL, data=EVIL, precision=EVIL, data_digest=EVIL, versions={EVIL: EVIL})
    found = evaluation([1.0, 2.0], [0.5, 0.5], data=EVIL, estimators={EVIL: {EVIL: EVIL}})
    found["gap"] |= {"lower": EVIL, "upper": EVIL}
    found["apart"] = {EVIL: found["apart"]["test"]}
    folder = "x<b>&'\"{{1237*1237}}"
    sweep = write_sweep(
        tmp_path / "s",
        {
            folder: {
                "made": made,
                "words": [f"model={EVIL}"],
                "cfg": config(**{EVIL: EVIL}),
                "found": (found, [{EVIL: 1}]),
            },
            "failed<i>": {"status": status("failed", reason=EVIL), "words": [f"prior={EVIL}"]},
            "waits<i>": None,
        },
    )
    (sweep / "failed<i>" / "log.txt").write_text(f"\x1b[31m{EVIL}\x1b[0m\n")
    (sweep / "failed<i>" / "result.json").write_text("{")
    (sweep / folder / "figures").mkdir()
    page = _page(sweep)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert re.findall(r"<(?:b|i)[ >]", page.split("<script")[0]) == []
    assert "1530169" not in page.split("<script")[0]
    assert "\x1b" not in page
    assert len(re.findall(r"<script[ >]", page)) == 3
    assert _data(page)["sets"][0]["rows"], "and it still says something"


def test_only_its_own_scripts_may_run_and_nothing_is_fetched(sweep):
    page = _page(sweep)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="(.*?)"', page)[1])
    assert policy.startswith("default-src 'none'; img-src data: blob:;")
    script = re.search(r"<script>(.*?)</script>\n</body>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert "unsafe-inline'; script-src 'sha256-" in policy
    assert "unsafe-eval" not in policy
    assert re.findall(r"(?:src|href)=\"(?!#|data:)", page) == []
    assert "http" not in page.replace("http-equiv", "")


def test_secrets_stay_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "CANARY0")
    cfg = config(logger={"api_key": "CANARY1", "host": "https://me:CANARY2@host"}, prior={"token": "CANARY3", "dim": 3})
    sweep = write_sweep(
        tmp_path / "s",
        {
            "000": {"made": result(), "cfg": cfg, "words": ["+logger.api_key=CANARY4", "+my_password=CANARY8", "k=1"]},
            "001": {"status": status("failed", reason="bad api_key=CANARY5"), "words": ["k=3"]},
        },
    )
    (sweep / "001" / "log.txt").write_text("WANDB_API_KEY: CANARY6\nhttps://u:CANARY7@h\n")
    assert "CANARY" not in _page(sweep)


def test_two_hundred_runs_fit(tmp_path, capsys):
    sweep = large_sweep(tmp_path / "s", 200, rows=20)
    started = time.process_time()
    page = _page(sweep)
    assert time.process_time() - started < 5
    assert len(page.encode()) < MOST_BYTES
    assert len(_data(page)["sets"][0]["rows"]) == 200


def test_the_page_of_fifteen_runs_with_their_pictures_can_be_sent_by_mail(tmp_path):
    """Below 1.5 MB, whatever the pictures weigh: those of the best runs stay."""
    sweep = large_sweep(tmp_path / "s", 15, rows=20, epochs=20, picture=True)
    noise = np.random.default_rng(0)
    for run in sorted(sweep.glob("0*")):
        for name in ("images_test", "images_val", "history", "bound_versus_k_test"):
            # noise is what no format makes small: about 300 kB each
            pixels = noise.integers(0, 255, (350, 300, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(run / "figures" / f"{name}.png")
    page = _page(sweep)
    assert len(page.encode()) < MOST_BYTES
    kinds = _data(page, "uris")
    assert len(kinds) == 3, "those of the validation are left to the folder, where the test has drawn them, too"
    assert all(kinds)


def test_colours_can_be_read_in_both_schemes():
    """Contrast by WCAG 2.2, from the style sheet: 4.5 for text, 3 for what is drawn."""
    css = (files("taut.report") / "page" / "page.css").read_text()
    found = {
        name: (one, other) for name, one, other in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    }
    grounds = ("ground", "raised", "hover")
    assert {*grounds, "ink", "quiet", "series-0", "series-7"} <= set(found)
    for name in found.keys() - {*grounds, "line"}:
        least = 3 if name.startswith("series") else 4.5
        for scheme, ground in itertools.product(range(2), grounds):
            assert _contrast(found[name][scheme], found[ground][scheme]) >= least, (name, scheme, ground)


def _contrast(one, other):
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_page_names_no_path_of_the_machine(tmp_path):
    """Neither of runs nor of logs, and runs with equal names by what tells their folders apart."""
    for place in ("a", "b"):
        write_run(tmp_path / place / "run", result())
    failed = write_sweep(tmp_path / "s", {"000": {"status": status("failed", reason="boom")}})
    (failed / "000" / "log.txt").write_text("the end\n")
    for words in ([tmp_path / "a" / "run"], [tmp_path, "--out", tmp_path / "all.html"]):
        page = _page(*words)
        assert str(tmp_path) not in page
        assert tmp_path.name not in re.sub(r"<(title|h1)>.*?</\1>", "", page)
    assert "a/run" in page
    assert "s/000/log.txt" in page


def test_a_single_run_is_said_to_be_alone_once(tmp_path, capsys):
    page = _page(write_run(tmp_path / "2026-11-30_run", result()))
    said = capsys.readouterr().out
    for text in (page, said):
        assert text.count("the only run that was scored in this way") == 1
        assert "The only one" not in text
    assert "<h1>vae digits k=1 seed=0</h1>" in page
    assert "vae digits k=1 seed=0: the only run" in " ".join(said.split())


def test_pictures_come_on_top_and_are_capped(tmp_path):
    sweep = large_sweep(tmp_path / "s", 30, rows=3, epochs=1, picture=True)
    page = _page(sweep)
    ((*shown,),) = _data(page, "uris")
    assert len(shown) == 24
    assert all(uri.startswith("data:image/png;base64,") for _, uri in shown)
    assert "those of the best runs alone are on this page: images test (24 of 30)." in page
    leader = re.search(r'<span class="who">(.*?)</span>', page)[1]
    setting = re.search(rf'<tr data-runs="([\d ]+)">\s*<th[^>]*>{re.escape(leader)}<', page)[1]
    assert str(shown[0][0]) in setting.split(), "the best setting is shown first"


def test_a_sweep_without_scores_has_a_page(tmp_path, capsys):
    page = _page(write_sweep(tmp_path / "s", {"000": {"status": status("failed", reason="boom")}, "001": None}))
    assert "No run has scores yet" in page
    assert "boom" in page
    assert _page(write_sweep(tmp_path / "empty", {}))


def test_names_that_are_no_unicode(tmp_path, capsys):
    folder = Path(str(tmp_path / "runs") + "/r\udcff")
    write_run(folder, result())
    assert _page(tmp_path / "runs", "--out", tmp_path / "all.html")


@pytest.mark.parametrize(
    "words",
    [
        ["nowhere"],
        ["empty"],
        [],
        ["run", "--out", "page.txt"],
        ["run", "--out", "run"],
        ["run", "--cuda"],
        ["run", "--out", "run/result.json/x.html"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_refused_in_one_sentence(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", result())
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert main(words) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before


def test_where_the_page_goes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = [write_run(tmp_path / "outputs" / "runs" / name, result()) for name in "ab"]
    for words, out in (
        ([runs[0]], runs[0] / "report.html"),
        (runs, tmp_path / "outputs" / "report.html"),
        ([runs[0], "--out", "here.html"], tmp_path / "here.html"),
    ):
        assert main([str(word) for word in words]) == 0
        assert out.is_file()
    out.write_text("old")
    (tmp_path / "outputs" / "report.html").unlink()
    assert main([str(tmp_path / "outputs" / "runs")]) == 0
    assert (tmp_path / "outputs" / "report.html").is_file()
    assert not list(tmp_path.rglob("*.part"))


def test_help_and_reports_load_no_heavy_library(programs, tmp_path):
    for name in ("one/run", "two/a", "two/b"):
        write_run(tmp_path / name, result())
    heavy = ["torch", "lightning", "wandb", "matplotlib", "sklearn", "scipy.stats", "hydra", "omegaconf"]
    for folder, none in (("one", [*heavy, "scipy"]), ("two", heavy)):
        code = (
            "import sys; from taut.commands.report import main; main(sys.argv[1:]); "
            f"print([n for n in {none!r} if n in sys.modules])"
        )
        command = [sys.executable, "-c", code, str(tmp_path / folder), "--out", str(tmp_path / "out.html")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr
    light = "import sys, taut.commands.report; print([n for n in ('rich', 'yaml', 'jinja2') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_command_of_the_readme(programs, tmp_path):
    run = write_run(tmp_path / "run", result())
    command = [sys.executable, str(ROOT / "report.py")]
    done = subprocess.run([*command, str(run)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    told = subprocess.run([*command, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert told.stdout.count("python report.py") >= 3


@pytest.mark.parametrize(("count", "folded"), [(3, False), (4, True)])
def test_many_doubts_are_folded(tmp_path, count, folded):
    """A wall of sentences between the table and its charts."""
    values, gaps = [-24.0, -25.0], [0.5, 0.6]
    found = evaluation(values, gaps)
    found["warnings"] = [f"reason {i}" for i in range(count)]
    run = write_run(tmp_path / "run", result(), found=(found, table(values, gaps)))
    page = _page(run)
    assert page.count("<strong>doubt</strong>") == count
    assert (f"{count} doubts, behind the marks ?</summary>" in page) == folded
