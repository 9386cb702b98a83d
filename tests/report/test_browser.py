"""The page in a real browser, from a file and without a network: nothing is complained of, everything reacts."""

import json
import shutil
from pathlib import Path

import pytest
from made_runs import config, evaluation, large_sweep, result, status, table, write_run

from taut.commands.report import main

pytestmark = pytest.mark.skipif(shutil.which("chromedriver") is None, reason="needs chromium and chromedriver")
WIDTHS = (375, 900, 1600)
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


def _seen(browser, *plots):
    """Look at plots, so that they are drawn."""
    find = f"document.querySelectorAll('{', '.join(f'.plot[data-plot={plot}]' for plot in plots)}')"
    for place in range(browser.execute_script(f"return {find}.length")):
        browser.execute_script(f"{find}[{place}].scrollIntoView()")
        _until(browser, f"return !!{find}[{place}].querySelector('.main-svg, .empty')")


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
        "return [...document.querySelector('table.runs').tHead.rows[0].cells].map(c => c.innerText)"
    )
    place = [text.strip().split("\n")[0] for text in labels].index(label)
    return place, heads[place].find_element("tag name", "button")


def _traces(browser, plot):
    script = (
        "return [...document.querySelectorAll(`.plot[data-plot=${arguments[0]}] .canvas`)].map(canvas => "
        "[canvas.querySelectorAll('.scatterlayer .trace').length, "
        "canvas.querySelectorAll('.barlayer .point path').length, "
        "canvas.querySelectorAll('.errorbar, .errorbars path').length])"
    )
    return browser.execute_script(script, plot)


def test_nothing_is_complained_of_and_every_plot_is_drawn(opened):
    _seen(opened, *DRAWN)
    assert opened.get_log("browser") == []
    for plot in DRAWN:
        found = _traces(opened, plot)
        assert found, plot
        assert all(sum(one[:2]) > 0 for one in found), plot
    assert _traces(opened, "parallel") == [[12, 0, 0]] * 2, "a line for each run"
    tested, measured = _traces(opened, "gap_k")
    assert tested[2] >= 12, "an error bar for each run"
    assert measured[2] >= 12
    assert _traces(opened, "apart")[0][1] >= 24, "two parts for each run"
    assert _traces(opened, "gap_epoch")[0][0] >= 12 + 2


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


@pytest.mark.parametrize(
    ("words", "left"), [("iwae", 4), ("model=iwae", 0), ("k=5", 3), ("vae k=50 seed=0", 1), ("nothing", 0), ("", 12)]
)
def test_the_filter_leaves_what_has_every_word(opened, words, left):
    _seen(opened, "parallel")
    box = opened.find_element("id", "filter")
    box.clear()
    box.send_keys(words)
    if words:
        _until(opened, "return document.getElementById('matches').textContent !== ''")
    assert len(_column(opened, 0)) == left
    assert _traces(opened, "parallel")[0][0] == left, "the plots follow"


def test_the_theme_is_toggled_and_the_plots_with_it(opened):
    ground = "return getComputedStyle(document.body).backgroundColor"
    grid = "return document.querySelector('.plot .xtick text').style.fill"
    _seen(opened, "gap_k")
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
    _seen(browser, *DRAWN)
    assert browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [width, width]


def test_series_are_switched_off_in_the_legend(opened):
    counted = "return document.querySelectorAll('.plot[data-plot=gap_k] .scatterlayer .point').length"
    _seen(opened, "gap_k")
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
    widths = "return [...document.querySelectorAll('.main-svg:first-child')].map(one => one.clientWidth)"
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
    _seen(browser, *DRAWN)
    assert browser.get_log("browser") == []
    assert "Needs two runs or more" in browser.find_element("tag name", "main").text
