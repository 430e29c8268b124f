"""The report of a study in a browser: what is drawn, and what answers to the mouse."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import xarray

from attsvm.studies import OUTCOMES, Study, report, run

pytest.importorskip("plotly")
pytest.importorskip("jinja2")
playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: install the package chromium"
)

STUDY = replace(
    Study.load("overparam"), n=(3,), T=(4,), d=(2, 5, 9), attention=("cross", "self"), problems=12,
    steps=100,
)  # fmt: skip
FIGURES = [f"{name}-{k}" for k in range(2) for name in ("shares", "cosine", "norm", "loss")]


class Visit:
    """A page in the browser, with what it asked the network for and what it complained of."""

    def __init__(self, browser, address: str, **options) -> None:
        self.page = browser.new_page(**options)
        self.address = address
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)


@pytest.fixture(scope="module")
def results_and_address(tmp_path_factory) -> tuple[xarray.Dataset, str]:
    directory = tmp_path_factory.mktemp("browser")
    results = run(STUDY, directory, progress=False).load()
    return results, report(directory).resolve().as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, results_and_address) -> Iterator[Visit]:
    visit = Visit(browser, results_and_address[1], viewport={"width": 1200, "height": 900})
    yield visit
    # No request but that of the page itself, and not a word on the console, whatever was done.
    assert visit.requests == [visit.address]
    assert visit.complaints == []
    visit.page.close()


def global_percent(results: xarray.Dataset, **place) -> float:
    return 100 * float(np.mean(results.outcome.sel(place) == OUTCOMES.index("global")))


def test_table_on_the_page(visit, results_and_address):
    results, _ = results_and_address
    rows = visit.page.locator("#table tbody tr")
    texts = [row.locator("th, td").all_inner_texts() for row in rows.all()]
    assert len(texts) == 6
    for n, T, d, attention, problems, share, *_ in texts:
        expected = global_percent(results, n=int(n), T=int(T), d=int(d), attention=attention)
        assert float(share.split()[0]) == pytest.approx(expected, abs=0.05)
        assert problems == "12"


def test_every_figure_is_drawn(visit):
    assert visit.page.locator(".drawing").count() == len(FIGURES)
    marks = {"shares": ".bars .point path", "cosine": ".boxes path.box"}
    for name in FIGURES:
        drawn = visit.page.locator(f"#{name} svg {marks.get(name[:-2], '.scatter path.js-line')}")
        assert drawn.count() == {"shares": 12, "cosine": 3}.get(name[:-2], 3), name
        assert all(path.get_attribute("d") for path in drawn.all())
        assert "NaN" not in visit.page.locator(f"#{name}").inner_html()


def test_a_mark_shows_its_values_under_the_mouse(visit, results_and_address):
    results, _ = results_and_address
    bars = visit.page.locator("#shares-1 .trace.bars").first.locator(".point path")
    bars.last.scroll_into_view_if_needed()
    box = bars.last.bounding_box()
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    label = visit.page.locator("#shares-1 .hoverlayer .hovertext")
    label.wait_for()
    share = global_percent(results, n=3, T=4, d=9, attention="self")
    assert share > 0
    said = label.text_content()
    assert f"dimension d = 9{share:.1f} % of 12 problems95 % interval" in said


def test_dragging_zooms_and_a_double_click_goes_back(visit):
    visit.page.locator("#norm-0").scroll_into_view_if_needed()
    ranges = "[...document.getElementById('norm-0').layout.xaxis.range]"
    before = visit.page.evaluate(ranges)
    area = visit.page.locator("#norm-0 .nsewdrag").bounding_box()
    middle = area["y"] + area["height"] / 2
    visit.page.mouse.move(area["x"] + 0.25 * area["width"], middle)
    visit.page.mouse.down()
    visit.page.mouse.move(area["x"] + 0.75 * area["width"], middle, steps=5)
    visit.page.mouse.up()
    visit.page.wait_for_function(f"{ranges}[0] > {before[0]} + 0.1")
    left, right = before
    width = right - left
    assert visit.page.evaluate(ranges) == pytest.approx(
        [left + 0.25 * width, left + 0.75 * width], abs=0.02 * width
    )
    visit.page.mouse.dblclick(area["x"] + area["width"] / 2, middle)
    visit.page.wait_for_function(f"{ranges}[0] < {before[0]} + 0.01")
    assert visit.page.evaluate(ranges) == pytest.approx(before)


def test_a_click_on_a_heading_sorts(visit):
    column = visit.page.locator("#table thead th").all_inner_texts().index("mean cosine") + 1
    keys = f"[...document.querySelectorAll('#table tbody tr > :nth-child({column})')]"
    for order, reverse in (("ascending", False), ("descending", True)):
        visit.page.locator("#table th button", has_text="mean cosine").click()
        seen = visit.page.evaluate(f"{keys}.map(cell => Number(cell.dataset.key))")
        assert seen == sorted(seen, reverse=reverse)
        assert len(set(seen)) > 1
        sorted_by = visit.page.locator("#table th[aria-sort]")
        assert sorted_by.get_attribute("aria-sort") == order
        assert sorted_by.inner_text() == "mean cosine"


def test_a_closed_panel_is_drawn_once_it_is_opened(browser, results_and_address, tmp_path):
    study = replace(STUDY, d=(2, 3, 4, 5, 6), lr=(0.1, 0.2, 0.3), problems=2, steps=5)
    run(study, tmp_path, progress=False)
    page = Visit(browser, report(tmp_path).resolve().as_uri()).page
    assert page.locator("details").count() == 6
    assert page.locator("#shares-5 svg").count() == 0
    page.locator("summary").last.click()
    page.locator("#shares-5 svg .bars .point path").first.wait_for()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_it_is_legible_in_light_and_dark_and_on_a_phone(
    browser, results_and_address, scheme, width
):
    page = Visit(
        browser,
        results_and_address[1],
        color_scheme=scheme,
        viewport={"width": width, "height": 800},
    ).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colours = [
        page.evaluate(f"getComputedStyle(document.querySelector('{where}')).{what}")
        for where, what in (
            ("body", "backgroundColor"),
            ("body", "color"),
            ("#shares-0 .xtick text", "fill"),
            ("#shares-0 .legendtext", "fill"),
            ("#shares-0 .errorbar path", "stroke"),
        )
    ]
    paper, *inks = (luminance(colour) for colour in colours)
    for ink in inks:
        # The contrast that WCAG 2 asks of text.
        assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) >= 4.5
    page.close()


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``, as WCAG 2 defines it."""
    channels = np.array([int(part) for part in colour[4:-1].split(",")]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
