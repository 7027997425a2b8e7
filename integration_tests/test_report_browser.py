"""`report.html` in a real browser: nothing is fetched, nothing is wider than a phone, every picture is there.

Skipped where there is no Chromium: neither Playwright's own (`playwright install chromium`) nor an installed one.
"""

from __future__ import annotations

import shutil
from itertools import pairwise

import pytest

from art_snn.audit import AuditSettings, files, run_audit

WIDTHS = (360, 1280)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        installed = next(filter(None, map(shutil.which, NAMES)), None)
        try:
            found = driver.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except playwright.Error as error:
            if installed is not None:
                raise
            pytest.skip(f"there is no Chromium to open the report in: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with every kind of figure that images have, of names that a page could stumble over."""
    folder = tmp_path_factory.mktemp("audit")
    settings = AuditSettings(
        epochs=2, samples=30, time_steps=2, sweep=(0.1,), steps=2, plan="fast",
        chains=("cba", "stbp", "stbp-best", "hart", "rga", "stbp(surrogate=ATan(2.0), detach_reset=True)"),
    )  # fmt: skip
    result = run_audit(settings, folder)
    result.description = "<script>document.title = 'run'</script> and_a_name_without_a_place_to_break_it_" * 3
    files.write_files(result, folder)
    return folder / "report.html"


@pytest.fixture(params=[(width, scheme) for width in WIDTHS for scheme in ("light", "dark")], ids=str)
def opened(request, browser, report):
    """The page at a width and in a colour scheme, what it wrote to the console, and what it asked for."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 740}, color_scheme=scheme)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    yield page, said, [url for url in asked if not url.startswith("data:")]
    context.close()


def test_is_read_as_it_is(opened, report):
    page, said, asked = opened
    assert said == [] and asked == [report.as_uri()]
    assert page.title().startswith("Audit: <script>") and page.locator("script").count() == 0


def test_fits_the_screen(opened):
    page, _, _ = opened
    page.locator("details").evaluate("each => each.open = true")
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = "all => all.filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.box')).length"
    assert page.locator("main *").evaluate_all(outside) == 0
    boxes = page.locator(".box").evaluate_all("all => all.map(e => getComputedStyle(e).overflowX)")
    assert boxes and set(boxes) == {"auto"}
    scrolled = page.locator(".box").evaluate_all("all => all.some(e => e.scrollWidth > e.clientWidth)")
    assert scrolled or width > 360  # wide tables scroll in boxes of their own


def test_every_picture_is_there_and_says_what_it_shows(opened):
    page, _, _ = opened
    images = page.locator("img").evaluate_all(
        "all => all.map(e => [e.alt, e.complete, e.naturalWidth, e.naturalHeight, e.clientWidth])"
    )
    assert len(images) == 7
    for alt, complete, *sizes in images:
        assert alt.strip() and complete and min(sizes) > 0


def test_headings_are_in_order(opened):
    page, _, _ = opened
    levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(e => Number(e.tagName[1]))")
    titles = page.locator("h2").all_inner_texts()
    assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in pairwise(levels))
    assert titles == ["Verdict", "Findings", "Figures", "Method", "Settings", "How to reproduce"]
    tops = page.locator("h1, h2").evaluate_all("all => all.map(e => e.getBoundingClientRect().top)")
    assert tops == sorted(tops)


def test_words_stand_out_from_the_page(opened):
    """At least 4.5 to 1, the contrast that WCAG 2 asks for."""
    page, _, _ = opened
    colours = """element => {
        let behind = element;
        while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
        return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]
            .map(text => text.match(/[\\d.]+/g).slice(0, 3).map(Number));
    }"""
    for name in ("main p", ".verdict .figure", "nav a", "td", "pre code", ".flags p"):
        ink, paper = (luminance(colour) for colour in page.locator(name).first.evaluate(colours))
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, name


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_is_printed_with_all_tables(browser, report):
    context = browser.new_context(viewport={"width": 700, "height": 1000})
    page = context.new_page()
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    overflow = page.locator(".box").evaluate_all("all => all.map(e => getComputedStyle(e).overflowX)")
    assert set(overflow) == {"visible"}
    paper = page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
    assert paper == "rgb(255, 255, 255)" and page.pdf(format="A4").startswith(b"%PDF")
    context.close()
