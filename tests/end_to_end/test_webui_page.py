"""LlamaBoard with DataFlex in a real browser: a newcomer's whole path with the tiny model.

``DATAFLEX_WEBUI_IMAGES=docs/images`` keeps what was seen: ``webui-form-light.png`` and its like.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from PIL import Image
from tiny_runs import NOTE_SELECT, Workshop, call, script

from dataflex.cli.check_run import check_runs
from dataflex.cli.webui import problems_of
from dataflex.errors import ConfigError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser"), pytest.mark.timeout(1200)]
LONG = 300_000  # milliseconds: a busy machine takes minutes to import what a run needs
WIDE, NARROW = 1280, 400
SEEN = {"dark": ("dark", NARROW), "light-400": ("light", NARROW), "dark-1280": ("dark", WIDE), "light": ("light", WIDE)}
STEPS = {"warmup_step": 2, "update_step": 10, "update_times": 2}
TOTAL = "22 optimizer steps in all"  # by hand: 2 + 10 * 2
GO = "go"
WAITS = """
import time
from pathlib import Path
from dataflex import hookimpl

@hookimpl
def dataflex_decision(decision):
    "Holds the run at its second boundary."
    while decision.step == 12 and not Path({go!r}).exists():
        time.sleep(0.05)
"""
SECTION = "DataFlex: choose, mix or weigh the data while training ▼"
EXTRA = {
    "optim": "adamw_torch",
    "use_cpu": True,
    "logging_steps": 1,
    "preprocessing_num_workers": 1,
    "save_strategy": "no",
    "seed": 3,
}


@pytest.fixture
def board(workshop: Workshop) -> Iterator[str]:
    """``dataflex webui`` in the workshop's folder, with model and data in it; gives the address of its page."""
    (workshop.out / "tiny").symlink_to(workshop.folder / "model")
    (workshop.out / "data").symlink_to(workshop.folder / "data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {
        **{name: value for name, value in os.environ.items() if name != "GRADIO_SERVER_NAME"},
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "DISABLE_VERSION_CHECK": "1",
        "OMP_NUM_THREADS": "1",
        "BROWSER": "true",
    }
    plugin = workshop.out / "waits.py"
    plugin.write_text(WAITS.format(go=str(workshop.out / GO)))
    command = [sys.executable, "-u", "-m", "dataflex", "webui", "-p", str(plugin)]
    output = (workshop.out / "webui.txt").open("w")
    with subprocess.Popen(command, cwd=workshop.out, env=environ, stdout=output, stderr=output) as process:
        url, ends = f"http://127.0.0.1:{port}/", time.monotonic() + LONG / 1000
        while not _answers(url):
            assert process.poll() is None and time.monotonic() < ends, (workshop.out / "webui.txt").read_text()
            time.sleep(0.5)
        assert _listening(process.pid) == {("127.0.0.1", port)}
        yield url
        assert _listening(process.pid) == {("127.0.0.1", port)}  # a run and its watching opened nothing
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
    print((workshop.out / "webui.txt").read_text())


def _listening(process: int) -> set[tuple[str, int]]:
    return {tuple(each.laddr) for each in psutil.Process(process).net_connections() if each.status == "LISTEN"}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


class Page:
    """LlamaBoard as a person uses it."""

    def __init__(self, page: Any, images: Path) -> None:
        self.page, self._images = page, images
        page.set_default_timeout(LONG)

    def enter(self, label: str, value: str) -> None:
        field = self._labelled(label).locator("input, textarea").first
        field.fill(value)
        field.blur()

    def _labelled(self, label: str) -> Any:
        title = self.page.get_by_test_id("block-info").get_by_text(label, exact=True)
        return self.page.locator(".block").filter(has=title).locator("visible=true").last

    def choose(self, label: str, value: str) -> None:
        """A value of a dropdown, typed as a name that may not be among its choices."""
        field = self._labelled(label).locator("input").first
        field.fill(value)
        field.press("Enter")
        field.press("Tab")

    def says(self, text: str | re.Pattern[str], **state: Any) -> None:
        self.page.get_by_text(text).locator("visible=true").first.wait_for(**state)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).locator("visible=true").first.click()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def seen(self, name: str, last: Any, *waits: Any) -> None:
        """Keep what is seen down to an element, wide and narrow, light and dark; nothing is wider than the window."""
        for kept, (scheme, width) in SEEN.items():
            self.page.emulate_media(color_scheme=scheme)
            self.page.set_viewport_size({"width": width, "height": 1000})
            self.page.wait_for_timeout(700)
            wide = self.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{name} is {wide} wide in a window of {width}"
            path = self._images / f"webui-{name}-{kept}.png"
            self.page.evaluate("window.scrollTo(0, 0)")
            for wait in waits:
                wait.wait_for()
            box = last.bounding_box()
            clip = {"x": 0, "y": 0, "width": width, "height": box["y"] + box["height"] + 24}
            # All of it in the window: a browser paints no frame that it does not show.
            self.page.set_viewport_size({"width": width, "height": int(clip["height"]) + 1})
            self.page.wait_for_timeout(700)
            while not self._painted(path, clip, box):
                self.page.wait_for_timeout(500)
        self.page.emulate_media(color_scheme="light")
        self.page.set_viewport_size({"width": WIDE, "height": 1000})

    def _painted(self, path: Path, clip: Any, box: Any) -> bool:
        """Keep what is seen; whether an element has more than one colour, unlike a frame that is not painted yet."""
        self.page.screenshot(path=path, full_page=True, clip=clip)
        with Image.open(path) as shot:
            left, top = int(box["x"]), int(box["y"])
            seen = shot.convert("L").crop((left, top, left + int(box["width"]), top + int(box["height"])))
        darkest, lightest = seen.getextrema()
        return bool(lightest - darkest > 40)


def test_the_page_finds_wrong_what_the_command_finds(workshop):
    right = yaml.safe_load(workshop.run_file(**{**NOTE_SELECT, "components_cfg_file": None}).read_text())
    assert problems_of(right) == []
    wrong = {**right, "dataset": "tinny", "update_step": 0, "component_params": {"temprature": 1}, "learning_rte": 1}
    path = workshop.out / "dataflex_run.yaml"
    path.write_text(yaml.safe_dump(wrong))
    with pytest.raises(ConfigError) as refused:
        check_runs([path], [])
    found = problems_of(wrong)
    assert [f"{path.name}: {line}" for line in found] == str(refused.value).splitlines() and len(found) >= 4


def test_a_newcomer_chooses_a_selector_starts_the_run_and_watches_it(board, browser, workshop, tmp_path, monkeypatch):
    images = Path(os.environ.get("DATAFLEX_WEBUI_IMAGES") or tmp_path).absolute()
    tab = browser.new_page(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
    page = Page(tab, images)
    tab.goto(board)
    page.says("DataFlex: choose, mix or weigh the data while training")

    # LlamaBoard's own fields
    page.choose("Model name", "Custom")
    page.choose("Dataset", "tiny")
    page.choose("Compute type", "fp32")
    page.press("Extra configurations ▼")
    page.enter("Extra arguments", json.dumps(EXTRA))
    page.choose("Output dir", "run")
    page.enter("Model path", "tiny")
    page.choose("Chat template", "qwen3_nothink")

    # the section
    page.press(SECTION)
    tab.get_by_label("Train with DataFlex", exact=True).check()
    page.says("warmup_step is missing from the page")
    for name, value in STEPS.items():
        page.enter(name, str(value))
    page.says(TOTAL)
    page.choose("Component: selector", "loss")
    page.says("Loshchilov & Hutter 2016")
    tab.get_by_label("replacement", exact=True).check()  # the pool is smaller than a stage
    page.seen("form", tab.get_by_role("button", name="Download the run file"))
    page.enter("temperature", "-1")
    wrong = "component_params.temperature: -1 (from the page) must"
    page.says(wrong)
    page.press("Start")
    page.says("This run cannot start:")
    assert not (workshop.out / "saves").exists()
    page.enter("temperature", "0.5")
    page.says(wrong, state="detached")
    page.says(TOTAL)

    # preview, and the file to download
    page.press("Preview command")
    page.says("dataflex-cli train saves/Custom/lora/run/dataflex_run.yaml")
    assert not (workshop.out / "saves").exists()
    with tab.expect_download() as waiting:
        page.press("Download the run file")
    text = Path(waiting.value.path()).read_text()
    shown = yaml.safe_load(text)
    assert shown["component_params"] == {"temperature": 0.5, "replacement": True} and shown["component_name"] == "loss"
    assert all(line in tab.inner_text("body") for line in text.splitlines())

    # start, and watch two boundaries arrive; the page is reloaded in the middle
    page.press("Start")
    page.tab("DataFlex")
    frame = tab.frame_locator("iframe[sandbox]")
    frame.get_by_text(re.compile(r"at step (2|12),")).first.wait_for(timeout=LONG)
    tab.reload()
    page.tab("DataFlex")
    (workshop.out / GO).touch()
    frame.get_by_text("at step 12,").first.wait_for(timeout=LONG)
    page.tab("Train")
    page.press(SECTION)
    page.says(TOTAL)  # it is again as it was
    page.says("Finished.", timeout=LONG)
    page.tab("DataFlex")
    frame.get_by_text("22 of 22").first.wait_for()
    frame.locator("svg").first.wait_for()
    page.seen("watch", tab.locator("iframe[sandbox]"), frame.locator("svg").first)
    with tab.expect_download() as waiting:
        page.press("Download the report")
    report = browser.new_page()
    report.goto(f"file://{_named(waiting.value, tmp_path / 'report.html')}")
    assert "selector loss" in report.inner_text("body") and report.locator("svg").count() > 0

    # the same file, run in a shell, chooses the same rows
    run = workshop.out / "saves" / "Custom" / "lora" / "run"
    again = workshop.out / "again.yaml"
    again.write_text(text)
    monkeypatch.chdir(workshop.out)
    done = call(script("dataflex-cli"), "train", "again.yaml", "output_dir=again")
    assert done.returncode == 0
    plans = sorted(path.name for path in (run / "decisions").glob("*.npy"))
    assert len(plans) == 3  # the warm-up, and two boundaries
    for name in plans:
        assert np.array_equal(np.load(run / "decisions" / name), np.load(workshop.out / "again" / "decisions" / name))
    # what was chosen lies beside LlamaBoard's own file, which holds none of it
    assert "dataflex" not in (run / "llamaboard_config.yaml").read_text()
    assert json.loads((run / "llamaboard_config.dataflex.json").read_text())["on"] is True


def _named(download: Any, path: Path) -> Path:
    download.save_as(path)
    return path
