"""The report of a study in a browser: what is drawn, and what answers to the mouse."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import xarray
from attrs import evolve as replace

from attsvm.studies import OUTCOMES, Study, report, run

pytest.importorskip("plotly")
pytest.importorskip("jinja2")
playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: install the package chromium"
)

STUDY = replace(
    Study.load("overparam"), n=(3,), T=(4,), d=(2, 5, 9), lr=(0.1, 0.2), problems=12,
    loss=("logistic", "exponential", "correlation"), steps=100,
)  # fmt: skip
PANELS, OPEN = 6, 4
NAMES = ("shares", "cosine", "norm", "loss", "attention")


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


@pytest.fixture(scope="module")
def visit(browser, results_and_address) -> Iterator[Callable[..., Any]]:
    """Opens the report, which requests nothing but itself and reports no error until the end."""
    address = results_and_address[1]
    pages, requests, messages = [], [], []

    def open_page(width: int = 1200, **options: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(address)
        pages.append(page)
        return page

    yield open_page
    assert requests == [address] * len(pages)
    assert messages == []


@pytest.fixture(scope="module")
def page(visit) -> Any:
    return visit()


def global_percent(results: xarray.Dataset, **place) -> float:
    return 100 * float(np.mean(results.outcome.sel(place) == OUTCOMES.index("global")))


def test_table_on_the_page(page, results_and_address):
    rows = page.locator("#table tbody tr")
    texts = [row.locator("th, td").all_inner_texts() for row in rows.all()]
    assert len(texts) == 3 * PANELS
    for d, lr, loss, problems, share, *_ in texts:
        expected = global_percent(results_and_address[0], d=int(d), lr=float(lr), loss=loss)
        assert float(share.split()[0]) == pytest.approx(expected, abs=0.05)
        assert problems == "12"


def test_figures_are_drawn_once_their_panel_is_open(page):
    marks = {"shares": ".bars .point path", "cosine": ".boxes path.box"}
    for k in range(PANELS):
        if k >= OPEN:
            assert page.locator(f"#shares-{k}").count() == 0
            page.locator("summary").nth(k).click()
            page.locator(f"#{NAMES[-1]}-{k} svg .scatter path.js-line").first.wait_for()
        for name in NAMES:
            path = marks.get(name, ".scatter path.js-line")
            paths = page.locator(f"#{name}-{k} svg {path}")
            assert paths.count() == {"shares": 12}.get(name, 3), name
            assert all(path.get_attribute("d") for path in paths.all())
            assert "NaN" not in page.locator(f"#{name}-{k}").inner_html()


def test_a_mark_shows_its_values_under_the_mouse(page, results_and_address):
    bars = page.locator("#shares-1 .trace.bars").first.locator(".point path")
    bars.last.scroll_into_view_if_needed()
    box = bars.last.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    label = page.locator("#shares-1 .hoverlayer .hovertext")
    label.wait_for()
    share = global_percent(results_and_address[0], d=9, lr=0.1, loss="exponential")
    assert share > 0
    expected = f"dimension d = 9{share:.1f} % (problems: 12)95 % confidence interval"
    assert expected in label.text_content()


def wait_for(page, expression):
    """Wait until it holds. `Page.wait_for_function` polls in the page, whose policy forbids it."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"does not hold after 10 s: {expression}")


def test_dragging_zooms_and_a_double_click_goes_back(page):
    page.locator("#norm-0").scroll_into_view_if_needed()
    ranges = "[...document.getElementById('norm-0').layout.xaxis.range]"
    left, right = page.evaluate(ranges)
    area = page.locator("#norm-0 .nsewdrag").bounding_box()
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + 0.25 * area["width"], middle)
    page.mouse.down()
    page.mouse.move(area["x"] + 0.75 * area["width"], middle, steps=5)
    page.mouse.up()
    wait_for(page, f"{ranges}[0] > {left} + 0.1")
    width = right - left
    assert page.evaluate(ranges) == pytest.approx(
        [left + 0.25 * width, left + 0.75 * width], abs=0.02 * width
    )
    page.mouse.dblclick(area["x"] + area["width"] / 2, middle)
    wait_for(page, f"{ranges}[0] < {left} + 0.01")
    assert page.evaluate(ranges) == pytest.approx([left, right])


@pytest.mark.parametrize("heading", ["mean cosine", "lr", "loss"])
def test_a_click_on_a_heading_sorts(page, heading):
    column = page.locator("#table thead th").all_inner_texts().index(heading) + 1
    cells = f"[...document.querySelectorAll('#table tbody tr > :nth-child({column})')]"
    for order, reverse in (("ascending", False), ("descending", True)):
        page.locator("#table th button", has_text=heading).click()
        seen = page.evaluate(f"{cells}.map(c => c.querySelector('data')?.value ?? c.textContent)")
        keys = seen if heading == "loss" else [float(each) for each in seen]
        assert keys == sorted(keys, reverse=reverse)
        assert len(set(keys)) > 1
        sorted_by = page.locator("#table th[aria-sort]")
        assert sorted_by.get_attribute("aria-sort") == order
        assert sorted_by.inner_text() == heading


def test_a_button_copies_the_commands(page):
    page.locator(".code:has(#rerun) button").click()
    assert page.locator(".code:has(#rerun) button").inner_text() == "Copied"
    assert page.evaluate("getSelection().toString()").startswith("pip install")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_is_legible_in_light_and_dark_and_on_a_phone(visit, scheme, width):
    page = visit(width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    table, scroll = "document.getElementById('table')", "document.querySelector('.scroll')"
    if width == 1280:
        assert page.evaluate(f"{table}.offsetWidth <= {scroll}.clientWidth")
    paper, *inks = (
        luminance(page.evaluate(f"getComputedStyle(document.querySelector('{where}')).{what}"))
        for where, what in (
            ("body", "backgroundColor"),
            ("body", "color"),
            ("#shares-0 .xtick text", "fill"),
            ("#shares-0 .legendtext", "fill"),
            ("#shares-0 .errorbar path", "stroke"),
        )
    )
    for ink in inks:
        # The contrast that WCAG 2 requires of text.
        assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) >= 4.5


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``, as WCAG 2 defines it."""
    channels = np.array([int(part) for part in colour[4:-1].split(",")]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
