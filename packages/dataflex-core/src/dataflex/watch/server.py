"""The page of ``dataflex watch`` over HTTP: on this machine alone, and from what a thread has ready.

A request never reads or draws: one thread looks at the files every two seconds, and draws at most a fifth of the time
and only while somebody asks. So it does not matter to the run how many ask, or how often.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dataflex.errors import ConfigError
from dataflex.watch import page

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

logger = logging.getLogger("dataflex")

ADDRESS = "127.0.0.1"
EVERY = 2.0
"""Seconds between two looks."""

_ASKED = 30.0  # seconds for which a page counts as looked at
_PAUSE = 4.0  # times as long as drawing took, nothing is drawn
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; script-src 'nonce-{nonce}'"


@dataclass(frozen=True)
class Shown:
    """What requests are answered with.

    Attributes:
        title: Of the page.
        head: What is renewed at each look.
        body: What is renewed when the run has written something.
        version: Of the body.
        whole: The whole page.
    """

    title: str = ""
    head: str = ""
    body: str = ""
    version: str = "0"
    whole: str = ""


class Showing:
    """Keeps ready what is shown.

    Args:
        viewer: Looks at the run or the study.
        script: Whether the page renews itself; without it, whoever shows it does.

    Attributes:
        nonce: Allows the script of the page; nobody who writes the run's texts knows it.
    """

    def __init__(self, viewer: page.AnyViewer, *, script: bool = True) -> None:
        self.nonce = secrets.token_urlsafe(16) if script else ""
        self._viewer, self._over = viewer, threading.Event()
        self._asked = self._rest = time.monotonic()
        self._shown = Shown()
        self._show(viewer.look(), Shown())

    def ask(self) -> Shown:
        """What there is to show now."""
        self._asked = time.monotonic()
        return self._shown

    @contextlib.contextmanager
    def kept_up(self) -> Iterator[None]:
        """Look every two seconds while the body runs, the first time at once."""
        thread = threading.Thread(target=self._keep_up, name="dataflex-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()

    def _keep_up(self) -> None:
        while True:
            try:
                self.renew()
            except Exception as error:  # the next look may find what this one did not
                logger.warning("the run could not be shown: %s: %s", type(error).__name__, error)
            if self._over.wait(EVERY):
                return

    def renew(self) -> None:
        """Look, and draw if there is something new, somebody asks, and drawing has rested."""
        view, began = self._viewer.look(), time.monotonic()
        version, shown = str(page.version_of(self._viewer)), self._shown
        if version != shown.version and began >= self._rest and began - self._asked < _ASKED:
            shown = replace(shown, body=page.body(view), version=version)
            ended = time.monotonic()
            self._rest = ended + _PAUSE * (ended - began)
        self._show(view, shown)

    def _show(self, view: page.AnyView, shown: Shown) -> None:
        whole = page.page(view, nonce=self.nonce, version=shown.version, drawn=shown.body)
        self._shown = replace(shown, title=_title(view), head=page.head(view), whole=whole)


def _title(view: page.AnyView) -> str:
    return f"{view.name}: {view.state}"


def application(showing: Showing) -> Starlette:
    """The pages: ``/``, ``/now`` (JSON) and ``/body`` (HTML).

    Other names for this machine are refused, so that no web site can read along by pointing its own name here.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import HTMLResponse, JSONResponse
    from starlette.routing import Route

    async def whole(request: Request) -> Response:
        policy = _POLICY.format(nonce=showing.nonce)
        return HTMLResponse(showing.ask().whole, headers={**_HEADERS, "content-security-policy": policy})

    async def now(request: Request) -> Response:
        shown = showing.ask()
        return JSONResponse(
            {"title": shown.title, "head": shown.head, "version": shown.version}, headers=dict(_HEADERS)
        )

    async def body(request: Request) -> Response:
        shown = showing.ask()
        return HTMLResponse(shown.body, headers={**_HEADERS, "x-version": shown.version})

    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[ADDRESS, "localhost"])
    routes = [Route("/", whole), Route("/now", now), Route("/body", body)]
    return Starlette(routes=routes, middleware=[hosts])


_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}


def require_server() -> None:
    """Refuse where what serves the page is not installed.

    Raises:
        ConfigError: says what to install, and what works without.
    """
    try:
        import starlette
        import uvicorn
    except ImportError as error:
        raise ConfigError(
            f"showing a page needs starlette and uvicorn, and {error.name} is not installed. Install them (pip install "
            "'dataflex-core[watch]'), or use --once for a file, or --text for this terminal."
        ) from error
    del starlette, uvicorn


def listening(port: int) -> socket.socket:
    """A socket of this machine's own address.

    Args:
        port: Its port; any that is free for 0.

    Raises:
        ConfigError: if the port is taken.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((ADDRESS, port))
        bound.listen(100)  # now: a browser may be quicker than the server
    except (OSError, OverflowError) as error:
        bound.close()
        raise ConfigError(f"--port {port} cannot be used ({error}). Leave it out for one that is free.") from error
    return bound


def serve(showing: Showing, bound: socket.socket) -> None:
    """Answer until Ctrl-C or SIGTERM."""
    import uvicorn

    config = uvicorn.Config(application(showing), log_level="warning", lifespan="off", access_log=False)
    with showing.kept_up(), bound, contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[bound])


def open_browser(url: str) -> None:
    """Open a page in the browser, where there is a screen to show it on; a browser of the terminal is not started."""
    screen = sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if screen:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
