"""What is void has no place anywhere and is said; floors that bind, missing convergence and criteria are shown."""

import re
from io import StringIO

import pytest
from made_runs import config, evaluation, result, status, table, write_run, write_sweep
from rich.console import Console

from taut.commands.report import main
from taut.report.rank.answers import answers
from taut.report.rank.candidates import score_sets
from taut.report.read.runs import names_of, read_run
from taut.report.read.scores import Scores
from taut.report.tables.evaluation import comparison_tables
from taut.report.tables.jobs import _signed, write_jobs
from taut.report.tables.sections import section

WHY = "importance: the mean log p(x) of masses is 20.5 nats above 0; train in float64"


def _voided(made, name, where="scores", value=None):
    made[where][name] = made[where][name] | {"value": value, "void": WHY}
    return made


def _section(folder, results):
    runs = [read_run(write_run(folder / f"r{i}", made, words=[f"k={i}"])) for i, made in enumerate(results)]
    (scores,) = score_sets(runs)
    return section(scores, {id(run): place for place, run in enumerate(runs)}, names_of(runs))


def _cells(found, row, rows=None):
    heads = [column.label for column in found.columns]
    return dict(zip(heads, (rows or found.rows)[row].cells, strict=True))


def _printed(parts):
    console = Console(width=160, file=StringIO())
    for part in parts:
        console.print(part)
    return console.file.getvalue()


@pytest.mark.parametrize("value", [None, 20.5])
def test_a_void_score_has_no_place_in_a_ranking(value, tmp_path):
    """Whether the number is still in the file or not: it was the best of all."""
    found = _section(tmp_path, [result(-25.0), _voided(result(-24.0), "log_px", value=value), result(-26.0)])
    best = {answer.column: answer for answer in found.found.answers}
    assert best["log p(x)"].first.entries[0].run.name == "r0"
    assert "k=1" not in " ".join([*best["log p(x)"].sentences, best["gap"].run, *best["gap"].sentences])
    cells = _cells(found, 1)
    assert [cells[f"test: {name}"].text for name in ("log p(x)", "gap")] == ["void", "void"]
    assert cells["test: log p(x)"].title == WHY
    assert cells["test: log p(x)"].mark == ""
    assert cells["test: ELBO"].text == "-24.500", "what does not rest on it stands"
    assert [(note.kind, note.text) for note in found.notes] == [("void", WHY)]


def test_a_void_elbo_takes_the_gap_along(tmp_path):
    cells = _cells(_section(tmp_path, [_voided(result(), "elbo")]), 0)
    assert [cells[f"test: {name}"].text for name in ("ELBO", "gap", "log p(x)")] == ["void", "void", "≥ -24.500"]


def test_a_run_of_which_all_is_void_is_still_among_the_scored(tmp_path):
    made = result()
    for name in ("elbo", "bound", "log_px", "gap"):
        _voided(made, name)
    assert Scores.tested(made) is not None
    found = _section(tmp_path, [made, result()])
    assert len(found.rows) == 2


def test_a_void_validation_bound_is_not_looked_up_elsewhere(tmp_path):
    made = result(validation={"bound": None, "void": WHY})
    assert read_run(write_run(tmp_path / "r", made)).validation is None


@pytest.mark.parametrize(
    ("change", "log_px", "gap"),
    [
        (lambda made: _voided(made, "importance", "evidence"), "void", "void"),
        (lambda made: _voided(made, "elbo", "evidence"), "[-24.000, -23.980]", "void"),
        (lambda made: _voided(made, "struski", "evidence"), "≥ -24.000", "≥ 0.500"),
        (lambda made: _voided(made, "importance", "evidence") | {"gap": None}, "void", "void"),
        (lambda made: made | {"gap": made["gap"] | {"void": WHY}}, "[-24.000, -23.980]", "void"),
        (lambda made: made | {"gap": None, "void": [WHY]}, "void", "void"),
    ],
    ids=["lower bound", "ELBO", "upper bound", "no gap at all", "the gap itself", "a sentence alone"],
)
def test_what_rests_on_a_void_score_is_void(change, log_px, gap, tmp_path):
    values, gaps = [-24.0, -24.0], [0.5, 0.5]
    made = change(evaluation(values, gaps, limits=["the floor binds"], run="r0"))
    folder = write_run(tmp_path / "r0", found=(made, table(values, gaps)))
    run = read_run(folder)
    (scores,) = score_sets([run])
    found = section(scores, {id(run): 0}, names_of([run]))
    cells = _cells(found, 0)
    assert (cells["test: log p(x)"].text, cells["test: gap"].text) == (log_px, gap)
    assert {("void", WHY), ("limit", "the floor binds")} <= {(note.kind, note.text) for note in found.notes}
    said = _printed(comparison_tables([made], ["r0"]))
    assert "void: r0: " + WHY in said
    assert "limit: r0: the floor binds" in said
    row = next(line for line in said.splitlines() if line.strip().startswith("r0"))
    assert bool(re.search(r"void +0\.20 ± 0\.05", row)) == (gap == "void")


def test_a_void_part_of_the_gap_is_void(tmp_path):
    values, gaps = [-24.0, -24.0], [0.5, 0.5]
    made = evaluation(values, gaps, run="r0")
    made["apart"]["test"]["amortisation"] |= {"value": None, "void": WHY}
    run = read_run(write_run(tmp_path / "r0", found=(made, table(values, gaps))))
    (scores,) = score_sets([run])
    cells = _cells(section(scores, {id(run): 0}, names_of([run])), 0)
    assert (cells["test: amortisation"].text, cells["test: approximation"].text) == ("void", "void")


def test_floors_and_missing_convergence_are_said_once_for_all_their_runs(tmp_path):
    floor = "the variance floor binds for 1 of 3 components"
    found = _section(tmp_path, [result(limits=[floor], converged=False), result(limits=[floor], converged=True)])
    assert [(note.kind, note.text) for note in found.notes] == [
        ("limit", floor),
        ("limit", "not converged: more epochs may still change its scores"),
    ]
    assert " and " in found.notes[0].who
    assert " and " not in found.notes[1].who


def test_page_and_terminal_say_what_is_void(tmp_path, capsys):
    sweep = write_sweep(
        tmp_path / "s",
        {
            "000": {"made": _voided(result(-20.0), "log_px"), "words": ["k=1"]},
            "001": {
                "made": result(-24.0, k=5, limits=["the cap on log-variance binds"]),
                "words": ["k=5"],
                "cfg": config(5),
            },
        },
    )
    assert main([str(sweep)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    page = (sweep / "report.html").read_text(encoding="utf-8")
    for text in (WHY, "the cap on log-variance binds"):
        assert text in printed
        assert page.count(text) >= 2, "beside the answer, and beside the table"
    assert re.search(r'<td class="number void" title="[^"]*above 0', page)
    assert "-20.000" not in printed


def test_the_table_of_a_sweep_knows_what_is_void(tmp_path):
    scores = _voided(result(), "log_px", value=-20.0)["scores"]
    assert [_signed(scores, name) for name in ("log_px", "gap", "elbo")] == ["void", "void", ">= -25.000"]
    made = _voided(result(), "log_px", value=-20.0)
    folder = write_sweep(tmp_path / "s", {"000": {"made": made}})
    job, known = _Job(), _Status()
    write_jobs(folder, [job], {"000": known})
    header, row = (folder / "jobs.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert (cells["elbo"], cells["log_px"], cells["gap"]) == ("-25.0", "", "")


class _Job:
    folder, words = "000", ["k=1"]


class _Status:
    state, reason, exit_code, seconds, score, log = "finished", None, 0, 1.0, -25.0, "log.txt"


# --- information criteria ---


def _mixture(components, bic, *, seed=0, **changes):
    made = result(-4.2, 0.0, seed=seed)
    for name in ("log_px", "gap"):
        made["scores"][name]["kind"] = "exact"
    criteria = {"bic": bic, "aic": bic - 10.0, "icl": bic + 5.0 * components, "parameters": 6, "n": 272}
    return made | {"criteria": criteria | changes.pop("criteria", {})} | changes


def _swept(folder, made):
    for i, (components, one) in enumerate(made):
        seed = one["seed"]
        cfg = config(seed=seed) | {"model": {"_target_": "taut.training.models.MoG", "components": components}}
        write_run(folder / f"r{i}", one, cfg=cfg, words=[f"model.components={components}", f"seed={seed}"])
    (scores,) = score_sets([read_run(folder / f"r{i}") for i in range(len(made))])
    return scores


def _components(one):
    return one.entries[0].run.about["model.components"]


def _criteria(scores):
    return {one.column: one for one in answers(scores, _components).answers if one.column in ("BIC", "AIC", "ICL")}


def test_settings_are_ranked_by_the_lowest_criterion_of_their_seeds(tmp_path):
    made = [
        (2, _mixture(2, 2320.0, seed=0)),
        (2, _mixture(2, 2290.0, seed=1)),
        (3, _mixture(3, 2291.5)),
        (1, _mixture(1, 2600.0)),
    ]
    found = _criteria(_swept(tmp_path, made))
    bic = found["BIC"]
    assert (bic.rank_key, bic.run, bic.value, bic.verdict) == ("Lowest BIC", "2", "2,290.0", "tie")
    assert bic.sentences == [
        "Then 3 (+1.5), 1 (+310.0).",
        "The next is within 2 of it: not worth more than a bare mention (Kass & Raftery, 1995).",
    ]
    assert bic.error == "of the 272 training rows, the best of 2 seeds; a criterion has no error"
    assert (found["ICL"].run, found["ICL"].verdict) == ("2", "ranked"), "6.5 behind"


@pytest.mark.parametrize(
    "other",
    [{"criteria": {"icl": None}}, {"criteria": {"n": 100}}],
    ids=["one has none", "other rows"],
)
def test_criteria_are_ranked_where_all_have_them_of_the_same_rows(other, tmp_path):
    found = _criteria(_swept(tmp_path, [(2, _mixture(2, 2290.0)), (3, _mixture(3, 2300.0, **other))]))
    assert ("ICL" in found, "BIC" in found) == (False, other == {"criteria": {"icl": None}})


def test_a_void_likelihood_has_no_criterion(tmp_path):
    """A component that collapsed has the lowest BIC of all."""
    scores = _swept(tmp_path, [(2, _mixture(2, 2290.0)), (3, _voided(_mixture(3, -900.0), "log_px"))])
    bic = _criteria(scores)["BIC"]
    assert (bic.run, bic.verdict) == ("2", "alone")
    runs = [entry.run for entry in scores.entries]
    found = section(scores, {id(run): place for place, run in enumerate(runs)}, names_of(runs))
    assert [_cells(found, row)["train: BIC"].text for row in range(2)] == ["2,290.0", ""]


def test_columns_of_criteria_come_with_the_first_run_that_has_them(tmp_path):
    without = _section(tmp_path / "a", [result()])
    assert not any("BIC" in column.label for column in without.columns)
    found = _section(tmp_path / "b", [result(), _mixture(2, 2290.25)])
    cells = _cells(found, 1)
    assert [cells[f"train: {name}"].text for name in ("BIC", "AIC", "ICL")] == ["2,290.2", "2,280.2", "2,300.2"]
    assert _cells(found, 0)["train: BIC"].text == ""


# --- heads and widths ---


@pytest.mark.parametrize(
    ("change", "word"),
    [({}, "test"), ({"held_out": False}, "training rows"), ({"split": "val"}, "validation")],
    ids=["test", "training rows", "validation"],
)
def test_every_head_says_the_split(change, word, tmp_path):
    labels = [column.label for column in _section(tmp_path, [result(**change)]).columns]
    assert labels[2 if labels[1] in ("k", "seed") else 1] == "validation: bound at k"
    assert {f"{word}: ELBO", f"{word}: log p(x)", f"{word}: gap", f"{word}: bound at k"} <= set(labels)


@pytest.mark.parametrize("width", [60, 100, 140])
def test_a_narrow_terminal_loses_columns_and_no_digits(width, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    jobs = {}
    for i in range(6):
        cfg = config(seed=i % 3) | {"model": {"_target_": "taut.training.models.MoG", "components": i // 3}}
        words = [f"model.components={i // 3}", f"seed={i % 3}"]
        jobs[f"{i:03d}"] = {
            "made": _mixture(2, 2290.0 + i, seed=i % 3),
            "cfg": cfg,
            "words": words,
            "status": status(),
        }
    assert main([str(write_sweep(tmp_path / "s", jobs))]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("components=0 seed=0")]
    assert all("= -4.200" in line and "…" not in line for line in rows)
    assert all(len(line.rstrip()) <= width for line in lines if "/" not in line)
    assert any("2,290.0" in line for line in rows) == (width >= 100)
