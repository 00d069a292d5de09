"""The page over HTTP: to this machine alone, from what a thread has ready, with nothing but its own script."""

from __future__ import annotations

import builtins
import socket
import threading
import urllib.request
from pathlib import Path

import pytest
from synthetic_runs import write_run

from dataflex.decisions import DecisionLog
from dataflex.errors import ConfigError
from dataflex.watch import page, server
from dataflex.watch.page import viewer_of

testclient = pytest.importorskip("starlette.testclient")


def client(showing: server.Showing, host: str = "127.0.0.1:4000"):
    return testclient.TestClient(server.application(showing), base_url=f"http://{host}")


def test_the_page_comes_with_its_script_and_the_plots_follow(tmp_path: Path) -> None:
    showing = server.Showing(viewer_of(write_run(tmp_path / "run", done=12)))
    browser = client(showing)
    first = browser.get("/")
    assert first.status_code == 200 and "The plots follow" in first.text and "12 of 45" in first.text
    assert f"script-src 'nonce-{showing.nonce}'" in first.headers["content-security-policy"]
    assert f'<script nonce="{showing.nonce}">' in first.text
    showing.renew()
    now, body = browser.get("/now").json(), browser.get("/body")
    assert now["version"] == body.headers["x-version"] == "1"
    assert "<h3>Training loss" in body.text and "<script" not in body.text
    assert "<h3>Training loss" in browser.get("/").text


def test_a_new_decision_is_a_new_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PAUSE", 0.0)
    folder = write_run(tmp_path / "run", done=12)
    showing = server.Showing(viewer_of(folder))
    showing.renew()
    line = next(iter(DecisionLog(folder))).to_json().replace('"step": 5', '"step": 15')
    with DecisionLog(folder).path.open("a") as file:
        file.write(line + "\n")
    showing.renew()
    assert client(showing).get("/now").json()["version"] == "2"
    assert "step</dt><dd>15 of 45" in client(showing).get("/now").json()["head"]


def test_requests_neither_read_nor_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    showing = server.Showing(viewer_of(write_run(tmp_path / "run", done=12)))
    showing.renew()

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("a request did work of its own")

    browser = client(showing)
    for name in ("head", "body", "page"):
        monkeypatch.setattr(page, name, fail)
    monkeypatch.setattr(showing._viewer, "look", fail)
    answers = [browser.get(path).status_code for _ in range(50) for path in ("/", "/now", "/body")]
    assert answers == [200] * 150


def test_drawing_rests_four_times_as_long_as_it_took_and_while_nobody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, clock = list[float](), [100.0]

    def draw(view: object) -> str:
        drawn.append(clock[0])
        clock[0] += 3.0
        return "drawn"

    monkeypatch.setattr(page, "body", draw)
    monkeypatch.setattr(page, "version_of", lambda viewer: clock[0])
    monkeypatch.setattr(server.time, "monotonic", lambda: clock[0])
    showing = server.Showing(viewer_of(write_run(tmp_path / "run", done=12)))
    for _ in range(30):
        showing.renew()
        clock[0] += 2.0
    # by hand: 100 to 103, rest to 115; at 115 a look at 115 (105, 107, ...); then the page is 30 s old
    assert drawn == [100.0, 115.0]
    showing.ask()
    showing.renew()
    assert len(drawn) == 3


def test_a_web_site_that_points_its_name_at_this_machine_is_refused(tmp_path: Path) -> None:
    showing = server.Showing(viewer_of(write_run(tmp_path / "run", done=12)))
    assert client(showing, "localhost:9999").get("/now").status_code == 200
    assert client(showing, "evil.example:4000").get("/now").status_code == 400
    assert client(showing).get("/elsewhere").status_code == 404


def test_it_listens_at_this_machines_own_address_on_a_port_that_is_free() -> None:
    with server.listening(0) as one, server.listening(0) as other:
        assert one.getsockname()[0] == other.getsockname()[0] == "127.0.0.1"
        assert one.getsockname()[1] != other.getsockname()[1]
        with pytest.raises(ConfigError, match=r"--port \d+ cannot be used .*Leave it out"):
            server.listening(one.getsockname()[1])
    with pytest.raises(ConfigError, match="--port 70000 cannot be used"):
        server.listening(70_000)


def test_it_answers_over_a_real_connection(tmp_path: Path) -> None:
    import uvicorn

    showing, bound = server.Showing(viewer_of(write_run(tmp_path / "run", done=12))), server.listening(0)
    running = uvicorn.Server(uvicorn.Config(server.application(showing), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{bound.getsockname()[1]}/now", timeout=60) as answer:
            assert b'"version":"0"' in answer.read()
    finally:
        running.should_exit = True
        thread.join(30)
    assert isinstance(bound, socket.socket)


def test_without_what_serves_pages_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    server.require_server()
    imported = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "uvicorn":
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"uvicorn is not installed. Install them \(pip install .*--once.*--text"):
        server.require_server()
