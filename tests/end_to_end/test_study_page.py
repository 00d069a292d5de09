"""The page of a study in a real browser: nothing on the console, nothing from the network, readable on a phone.

``DATAFLEX_STUDY_PAGE=report.html`` looks at the page of a study of yours, and ``DATAFLEX_STUDY_IMAGES=docs/images``
keeps what was seen: ``study-light.png`` and ``study-dark.png``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from synthetic_studies import write_study

from dataflex.study.page import write_page

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("DATAFLEX_STUDY_PAGE")
    if given:
        return Path(given).resolve()
    folder = tmp_path_factory.mktemp("study") / "docstrings"
    write_study(folder, error="it <b>failed</b> with a-very-long-word-" + 60 * "x")
    return write_page(folder)[0]


@pytest.fixture
def visit(browser, page_file):
    """Open the page; gives it and everything it complained of or asked the network for."""
    pages = []

    def visit(width: int, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        troubles: list[str] = []
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or troubles.append(request.url))
        page.goto(page_file.as_uri())
        return page, troubles

    yield visit
    for page in pages:
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800, 400])
def test_it_opens_without_a_word_and_fits_the_window(visit, width, scheme):
    page, troubles = visit(width, scheme)
    assert troubles == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.evaluate("[...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect().width)")
    assert len(boxes) >= 4 and all(200 < box <= width for box in boxes)


def test_letters_of_plots_are_large_enough_on_a_phone(visit):
    page, _ = visit(400)
    heights = page.evaluate(
        "[...document.querySelectorAll('figure svg text')].map(t => t.getBoundingClientRect().height)"
    )
    assert min(height for height in heights if height) >= 7


def test_plots_and_links_take_the_colours_of_the_page(visit):
    inks, links = set(), set()
    for scheme in ("light", "dark"):
        page, _ = visit(1280, scheme)
        inks.add(page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill"))
        links.add(page.evaluate("getComputedStyle(document.querySelector('td a')).color"))
    assert inks == {"rgb(28, 32, 36)", "rgb(228, 231, 234)"} and len(links) == 2


def test_wide_tables_scroll_within_themselves_and_the_names_stay(visit):
    page, _ = visit(400)
    wide = page.evaluate("[...document.querySelectorAll('.scroll')].map(box => box.scrollWidth > box.clientWidth)")
    assert wide[0] and wide[1]
    left = "document.querySelector('.stuck td').getBoundingClientRect().left"
    before = page.evaluate(left)
    page.evaluate("document.querySelector('.scroll').scrollLeft = 100")
    assert page.evaluate(left) - before <= 15  # the padding of the card, at most


def test_no_script_runs_and_a_link_leads_to_the_report_of_its_run(visit, page_file):
    page, troubles = visit(1280)
    assert page.evaluate("document.scripts.length") == 0
    link = page.evaluate("document.querySelector('td a').getAttribute('href')")
    page.goto((page_file.parent / link).as_uri())
    assert page.title().startswith("DataFlex report") and troubles == []


@pytest.mark.parametrize(("scheme", "width", "height"), [("light", 1280, 1500), ("dark", 400, 1500)])
def test_what_it_looks_like_is_kept_where_that_is_asked_for(visit, tmp_path, scheme, width, height):
    page, _ = visit(width, scheme)
    path = Path(os.environ.get("DATAFLEX_STUDY_IMAGES") or tmp_path) / f"study-{scheme}.png"
    page.screenshot(path=path, clip={"x": 0, "y": 0, "width": width, "height": height}, full_page=True)
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
