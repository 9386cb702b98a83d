"""The page in a real browser, from a file and without a network: nothing is complained of, everything reacts."""

import json
import shutil
from pathlib import Path

import pytest
from made_runs import config, evaluation, large_sweep, result, status, table, write_run

from taut.commands.report import main

pytestmark = pytest.mark.skipif(shutil.which("chromedriver") is None, reason="needs chromium and chromedriver")
WIDTHS = (390, 1024, 1440)
DRAWN = ("gap_k", "gap_epoch", "parallel", "bracket", "apart")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """Twelve finished jobs, one that failed, one that is trained, one that waits."""
    sweep = large_sweep(tmp_path_factory.mktemp("browser") / "k_grid", 12, rows=20, epochs=8, picture=True)
    plan = (sweep / "sweep.json").read_text()
    added = '{"folder": "012_fails", "words": ["k=7"]}, {"folder": "013_waits", "words": ["k=9"]}'
    (sweep / "sweep.json").write_text(plan.replace("}]}", "}, " + added + "]}"))
    write_run(sweep / "012_fails", words=["k=7"], cfg=config(7), epochs=4)
    failed = status("failed", reason="ValueError: <b>no</b>", score=None)
    (sweep / "012_fails" / "status.json").write_text(json.dumps(failed))
    (sweep / "012_fails" / "log.txt").write_text("Traceback\nValueError: <b>no</b>\n")
    assert main([str(sweep)]) == 0
    return sweep / "report.html"


@pytest.fixture(scope="module")
def browser(programs):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, page):
    """The page, ready to be used."""
    return _open(browser, page)


def _open(browser, page, width=1200):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get_log("browser")
    browser.get(page.as_uri())
    _until(browser, "return document.documentElement.dataset.ready === 'true'")
    return browser


def _until(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 30, 0.05).until(lambda driver: driver.execute_script(script))


def _column(browser, place, table=0):
    """The words of a column of a table, as they are shown."""
    return browser.execute_script(
        "return [...document.querySelectorAll('table.runs')[arguments[0]].tBodies[0].rows]"
        ".filter(row => !row.hidden).map(row => row.children[arguments[1]].innerText)",
        table,
        place,
    )


def _head(browser, label):
    heads = browser.find_elements("css selector", "table.runs:first-of-type thead th")
    labels = browser.execute_script(
        "return [...document.querySelector('table.runs').tHead.rows[0].cells].map(c => c.textContent)"
    )
    place = [" ".join(text.split()) for text in labels].index(label)
    return place, heads[place].find_element("tag name", "button")


def _marks(browser, plot):
    """How many lines, dots, bars and whiskers each chart of a kind has."""
    script = (
        "return [...document.querySelectorAll(`.plot[data-plot=${arguments[0]}] svg`)].map(chart => "
        "['line', 'dot', 'bar', 'whisker'].map(kind => chart.querySelectorAll('.' + kind).length))"
    )
    return browser.execute_script(script, plot)


def test_nothing_is_complained_of_and_every_plot_is_drawn(opened):
    assert opened.get_log("browser") == []
    for plot in DRAWN:
        found = _marks(opened, plot)
        assert found, plot
        assert all(sum(one[:3]) > 0 for one in found), plot
    axes = opened.execute_script(
        "return [...document.querySelectorAll('.plot[data-plot=parallel] svg')]"
        ".map(chart => chart.querySelectorAll('.label[font-size=\"12\"]').length)"
    )
    assert [lines - poles for (lines, *_), poles in zip(_marks(opened, "parallel"), axes, strict=True)] == [12] * 2
    for lines, dots, bars, whiskers in _marks(opened, "gap_k"):
        assert (dots, bars, whiskers) == (12, 0, 12), "a dot and an error bar for each run"
        assert lines >= 2, "a line for each series"
    assert _marks(opened, "apart")[0][2] >= 24, "two parts for each run"
    assert _marks(opened, "gap_epoch")[0][:2] == [12, 12], "a curve for each run, and its test"


def test_marks_lie_where_their_numbers_are(opened):
    """The dots of the bracket, from pixels back to nats by two ticks of the axis."""
    found = opened.execute_script(
        "const chart = document.querySelector('.plot[data-plot=bracket] svg');"
        "const number = text => Number(text.replace('\u2212', '-'));"
        "const ticks = [...chart.querySelectorAll('.tick[text-anchor=middle]')]"
        ".map(t => [Number(t.getAttribute('x')), number(t.textContent)]).filter(([, value]) => !Number.isNaN(value));"
        "const dots = [...chart.querySelectorAll('circle.dot')];"
        "return [ticks, dots.map(dot => [Number(dot.getAttribute('cx')), dot.dataset.tip])]"
    )
    (a, low), (b, high) = found[0][0], found[0][-1]
    assert len(found[1]) == 12
    for pixel, tip in found[1]:
        said = float(tip.split("ELBO ")[1].split(" ")[0].replace("\u2212", "-"))
        assert low + (pixel - a) / (b - a) * (high - low) == pytest.approx(said, abs=0.002)


@pytest.mark.parametrize("label", ["test: ELBO", "test: gap", "test: log p(x)", "run", "model"])
def test_a_click_sorts_and_another_turns_it_round(opened, label):
    place, button = _head(opened, label)
    before = _column(opened, place)
    button.click()
    up = opened.execute_script(
        "return [...document.querySelector('table.runs').tBodies[0].rows]"
        ".map(row => row.children[arguments[0]].dataset.sort)",
        place,
    )
    values = [float(one) for one in up] if label.startswith("test: ") else up
    assert values == sorted(values)
    assert len(up) == 12
    first = _column(opened, place)
    button.click()
    assert _column(opened, place) != before or len(set(before)) == 1
    assert sorted(_column(opened, place)) == sorted(first)
    heads = opened.execute_script(
        "return [...document.querySelectorAll('table.runs thead')[0].rows[0].cells].map(c => c.ariaSort)"
    )
    assert heads[place] == "descending"
    assert set(heads) == {"descending", "none"}


def test_a_key_sorts_as_well(opened):
    from selenium.webdriver.common.keys import Keys

    _, button = _head(opened, "test: ELBO")
    button.send_keys(Keys.ENTER)
    assert opened.switch_to.active_element == button
    assert opened.execute_script("return document.activeElement.closest('th').ariaSort") == "ascending"


def _drawn(browser):
    """Runs in the first chart of parallel lines."""
    return browser.execute_script(
        "return document.querySelector('.plot[data-plot=parallel]').querySelectorAll('[data-tip]').length"
    )


@pytest.mark.parametrize(
    ("words", "left"), [("iwae", 4), ("model=iwae", 0), ("k=5", 3), ("vae k=50 seed=0", 1), ("nothing", 0), ("", 12)]
)
def test_the_filter_leaves_what_has_every_word(opened, words, left):
    box = opened.find_element("id", "filter")
    box.clear()
    box.send_keys(words)
    if words:
        _until(opened, "return document.getElementById('matches').textContent !== ''")
    assert len(_column(opened, 0)) == left
    assert _drawn(opened) == left, "the plots follow"


def test_the_theme_is_toggled_and_the_plots_with_it(opened):
    ground = "return getComputedStyle(document.body).backgroundColor"
    grid = "return getComputedStyle(document.querySelector('.plot .tick')).fill"
    before = opened.execute_script(ground), opened.execute_script(grid)
    opened.find_element("id", "theme").click()
    after = opened.execute_script(ground), opened.execute_script(grid)
    assert after[0] != before[0]
    assert after[1] != before[1]
    opened.refresh()
    assert opened.execute_script(ground) == after[0], "it is remembered"
    opened.find_element("id", "theme").click()
    assert opened.execute_script(ground) == before[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_system_decides_first(browser, page, scheme):
    _open(browser, page).execute_script("localStorage.clear()")
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    _open(browser, page)
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(browser, page, width):
    _open(browser, page, width)
    assert browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [width, width]
    tables = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].map(one => "
        "[one.scrollWidth > one.clientWidth, !one.nextElementSibling.hidden, one.tabIndex, one.ariaLabel])"
    )
    assert [wide for wide, *_ in tables] == [told for _, told, *_ in tables], "a table that scrolls says so"
    assert all(index == 0 and name for *_, index, name in tables), "and is reached by a key"
    if width == 390:
        assert any(wide for wide, *_ in tables)


def test_series_are_switched_off_in_the_legend(opened):
    counted = "return document.querySelectorAll('.plot[data-plot=gap_k] .dot').length"
    before = opened.execute_script(counted)
    button = opened.find_element("css selector", ".plot[data-plot=gap_k] .legend button")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    assert 0 < opened.execute_script(counted) < before
    assert opened.switch_to.active_element == button, "the next key reaches it again"
    button.click()
    assert opened.execute_script(counted) == before


def test_pictures_are_shown_and_enlarged(opened):
    opened.execute_script("document.getElementById('pictures').scrollIntoView()")
    _until(opened, "return document.querySelectorAll('.gallery img').length === 12")
    picture = opened.find_element("css selector", ".gallery button")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", picture)
    picture.click()
    assert opened.execute_script("return document.getElementById('large').open")
    _until(opened, "return document.querySelector('#large img').naturalWidth === 60")


def test_all_is_printed_at_the_width_of_paper(opened):
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    widths = "return [...document.querySelectorAll('.plot svg')].map(one => one.clientWidth)"
    assert opened.execute_script(widths) == [680] * opened.execute_script(
        "return document.querySelectorAll('.plot').length"
    )
    assert opened.execute_script("return document.querySelectorAll('.gallery img').length") == 12


def test_failures_are_told_as_text(opened):
    said = opened.find_element("id", "failures").text
    assert "ValueError: <b>no</b>" in said
    assert opened.execute_script("return document.querySelectorAll('#failures b').length") == 0


def test_the_page_reads_without_scripts(browser, page):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page.as_uri())
        text = browser.find_element("id", "answer").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "Tightest bound" in text


def test_one_run_has_a_page_too(browser, tmp_path):
    values, gaps = [-24.0, -25.0], [0.5, 0.6]
    run = write_run(tmp_path / "run", result(), found=(evaluation(values, gaps), table(values, gaps)))
    assert main([str(run)]) == 0
    _open(browser, run / "report.html")
    assert browser.get_log("browser") == []
    said = browser.find_element("tag name", "main").text
    assert said.count("the only run that was scored in this way") == 2, "once for the test, once for the evaluation"
    kinds = browser.execute_script("return [...document.querySelectorAll('.plot')].map(one => one.dataset.plot)")
    assert not {"gap_k", "parallel"} & set(kinds), "no chart that compares a run with nothing"
    assert _marks(browser, "bracket")


def test_every_control_is_reached_by_the_tab_key_and_shows_it(opened):
    from selenium.webdriver.common.keys import Keys

    reached = []
    opened.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    for _ in range(60):
        opened.switch_to.active_element.send_keys(Keys.TAB)
        one = opened.execute_script(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "return [e.tagName, (e.ariaLabel || e.labels?.[0]?.textContent || e.textContent).trim(), s.outlineStyle]"
        )
        reached.append(one)
    assert all(name for _, name, _ in reached if name != "BODY"), "each has a name"
    seen = [tag for tag, _, outline in reached if tag in ("BUTTON", "A", "INPUT", "DIV") and outline != "none"]
    assert len(seen) == len([tag for tag, *_ in reached if tag in ("BUTTON", "A", "INPUT", "DIV")])
    names = [name for _, name, _ in reached]
    assert "Filter" in names
    assert any(name.startswith("table of runs") for name in names)


def test_tables_have_heads_and_charts_have_names(opened):
    bare = opened.execute_script(
        "return [...document.querySelectorAll('table.runs, table.settings')].filter(table => "
        "[...table.tHead.rows[0].cells].some(c => c.scope !== 'col') || "
        "[...table.tBodies[0].rows].some(row => row.cells[0].scope !== 'row')).length"
    )
    assert bare == 0
    charts = opened.execute_script(
        "return [...document.querySelectorAll('.chart')]"
        ".map(chart => [chart.getAttribute('role'), chart.getAttribute('aria-label')])"
    )
    assert charts
    assert all(role == "img" and label for role, label in charts)
