"""The report in a real browser: nothing on the console, nothing from the network, readable on a phone, safe."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_runs import DOMAINS, SAMPLES, write_run

from dataflex.report.labels import short_labels
from dataflex.report.page import write_report
from dataflex.spec import Kind

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    runs = [
        write_run(folder / "select"),
        write_run(folder / "mix", Kind.MIXER, done=31),
        write_run(folder / "weight", Kind.WEIGHTER),
    ]
    write_report(runs, folder / "report.html")
    return folder / "report.html"


@pytest.fixture
def visit(browser, report):
    """Open the report; gives the page and everything it complained of or asked the network for."""
    pages = []

    def visit(width: int, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        troubles: list[str] = []
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or troubles.append(request.url))
        page.goto(report.as_uri())
        return page, troubles

    yield visit
    for page in pages:
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_opens_without_a_word_and_fits_the_window(visit, width, scheme):
    page, troubles = visit(width, scheme)
    assert troubles == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.evaluate("[...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect().width)")
    assert len(boxes) >= 12 and all(200 < box <= width for box in boxes)


def test_letters_of_plots_are_large_enough_on_a_phone(visit):
    page, _ = visit(400)
    heights = page.evaluate(
        "[...document.querySelectorAll('figure svg text')].map(t => t.getBoundingClientRect().height)"
    )
    assert min(height for height in heights if height) >= 7


def test_plots_take_the_colours_of_the_page(visit):
    inks = set()
    for scheme in ("light", "dark"):
        page, _ = visit(1280, scheme)
        inks.add(page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill"))
        assert inks <= {"rgb(28, 32, 36)", "rgb(228, 231, 234)"}
    assert len(inks) == 2


def test_every_run_has_its_plots_and_a_row_in_the_comparison(visit):
    page, _ = visit(1280)
    figures = page.evaluate("[...document.querySelectorAll('figure')].map(figure => figure.id)")
    for name in ("loss", "eval-loss", "time", "overlap", "coverage"):
        assert name in figures
    for name in ("scores-1-select", "chosen-1-select", "usage-1-select", "proportions-2-mix", "realised-samples-2-mix"):
        assert name in figures
    for name in (
        "domain-losses-2-mix",
        "own-alpha-2-mix",
        "ess-3-weight",
        "weights-3-weight",
        "weighted-loss-3-weight",
    ):
        assert name in figures
    rows = page.locator("#comparison tr").all_inner_texts()
    assert len(rows) == 4 and "ended after 45 steps" in rows[1] and "step 31 of 45: still running" in rows[2]
    assert page.evaluate("new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size") == page.evaluate(
        "document.querySelectorAll('[id]').length"
    )


def test_texts_of_samples_are_shown_as_they_are_and_never_run(visit):
    page, troubles = visit(400)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    shown = page.evaluate("[...document.querySelectorAll('.samples pre')].map(each => each.textContent)")
    assert shown[: len(SAMPLES)] == list(SAMPLES)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.evaluate("document.scripts.length") == 0 and "stolen" not in page.title()
    assert troubles == []


def test_names_of_domains_are_text_in_plots_too(visit):
    page, _ = visit(1280)
    labels = page.locator("figure#proportions-2-mix svg text").all_text_contents()
    assert short_labels(DOMAINS)[2] in [label.strip() for label in labels]
