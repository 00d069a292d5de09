"""The page of ``dataflex watch`` in a real browser: it follows a run, keeps what a reader has opened, and is safe.

``DATAFLEX_WATCH_IMAGES=docs/images`` keeps what was seen: ``watch-light.png`` and ``watch-dark.png``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import SAMPLES, write_run
from synthetic_studies import write_study

from dataflex.decisions import DecisionLog
from dataflex.record.run import Logged, RunRecord
from dataflex.spec import Kind

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


@pytest.fixture
def watching() -> Iterator[Callable[[Path], str]]:
    """Start ``dataflex watch`` on a folder; gives the address of its page."""
    started = []

    def watching(folder: Path) -> str:
        command = [sys.executable, "-u", "-m", "dataflex", "watch", str(folder), "--no-browser"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found is not None
        return found[0]

    yield watching
    for process in started:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture
def visit(browser):
    """Open a page; gives it and everything it complained of or asked others for."""
    pages = []

    def visit(url: str, width: int = 1280, scheme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        troubles: list[str] = []
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on("request", lambda request: request.url.startswith((url, "data:")) or troubles.append(request.url))
        page.goto(url)
        return page, troubles

    yield visit
    for page in pages:
        page.close()


def says(page: Any, text: str) -> None:
    """Wait until the head of the page says so; a function to wait for is a script, which the page forbids."""
    page.locator("#head", has_text=text).wait_for()


def goes_on(folder: Path, step: int) -> None:
    """What a run writes at a boundary."""
    line = list(DecisionLog(folder))[-1].to_json()
    with DecisionLog(folder).path.open("a") as file:
        file.write(re.sub(r'"step": \d+', f'"step": {step}', line, count=1) + "\n")
    RunRecord(folder).append(Logged(step=step, values={"loss": 1.25}, seconds={"elapsed": 9.0 * step}))


def test_a_page_follows_its_run_and_keeps_what_was_opened(visit, watching, tmp_path):
    folder = write_run(tmp_path / "run", Kind.MIXER, done=12)
    (folder / "dataflex" / "alive").touch()
    page, troubles = visit(watching(folder))
    page.wait_for_selector("figure#loss svg")
    assert "12 of 45" in page.locator("#head").inner_text()
    page.locator("details", has_text="The rows chosen most").first.locator("summary").click()
    page.evaluate("window.scrollTo(0, 300)")
    goes_on(folder, 15)
    says(page, "15 of 45")
    page.wait_for_selector("#body details[open]")
    assert page.evaluate("window.scrollY") == 300
    (folder / "dataflex" / "alive").touch()
    says(page, "running")
    page.reload()
    assert "15 of 45" in page.locator("#head").inner_text() and page.title().startswith("run: running")
    assert troubles == []


def test_texts_of_samples_are_shown_as_they_are_and_never_run(visit, watching, tmp_path):
    folder = write_run(tmp_path / "run", done=12)
    page, troubles = visit(watching(folder), width=400)
    page.wait_for_selector("figure#loss svg")
    goes_on(folder, 15)
    says(page, "15 of 45")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    shown = page.evaluate("[...document.querySelectorAll('.samples pre')].map(each => each.textContent)")
    assert shown[: len(SAMPLES)] == list(SAMPLES)
    assert page.evaluate("document.scripts.length") == 1 and "stolen" not in page.title()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert troubles == []


def test_a_page_says_that_nobody_shows_it_any_more(visit, watching, tmp_path):
    folder = write_run(tmp_path / "run", done=12)
    page, _ = visit(watching(folder))
    page.route("**/now", lambda route: route.abort())
    page.wait_for_selector("#lost", state="visible")
    page.unroute("**/now")
    page.wait_for_selector("#lost", state="hidden")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_a_study_fits_the_window_one_line_a_run(visit, watching, tmp_path, width, scheme):
    folder = write_study(tmp_path / "docstrings", error="it <b>failed</b> with a-very-long-word-" + 60 * "x")
    page, troubles = visit(watching(folder), width, scheme)
    assert page.locator("#head tr").count() == 1 + 4 * 5
    assert page.evaluate("document.documentElement.scrollWidth") <= width and troubles == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
def test_what_it_looks_like_is_kept_where_that_is_asked_for(visit, watching, tmp_path, scheme, width):
    folder = write_run(tmp_path / "run", Kind.MIXER, boundaries=20, done=62)
    (folder / "dataflex" / "alive").touch()
    page, _ = visit(watching(folder), width, scheme)
    page.wait_for_selector("figure#loss svg")
    (folder / "dataflex" / "alive").touch()
    says(page, "running")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    path = Path(os.environ.get("DATAFLEX_WATCH_IMAGES") or tmp_path) / f"watch-{scheme}.png"
    page.screenshot(path=path, clip={"x": 0, "y": 0, "width": width, "height": 1100}, full_page=True)
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
