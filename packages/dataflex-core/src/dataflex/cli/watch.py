"""``dataflex watch``."""

from __future__ import annotations

import contextlib
from pathlib import Path

from dataflex.console import stderr, stdout
from dataflex.errors import ConfigError

FILE = Path("watch.html")


def run_watch(folder: Path, *, once: bool, out: Path | None, text: bool, browser: bool, port: int) -> None:
    """Show a run or a study, in the way that is asked for.

    Args:
        folder: Its folder.
        once: Whether one look is enough.
        out: The file of that look; :data:`FILE` if not given.
        text: Whether the terminal is to show it.
        browser: Whether to open a browser.
        port: Of the page.

    Raises:
        ConfigError: for a folder that is neither, for options that exclude each other, and where the page cannot be
            served.
    """
    if out is not None and (text or not once):
        raise ConfigError("--out names the file of --once, without --text. Leave it out, or add --once.")
    if text:
        from dataflex.watch.text import watch_in

        with contextlib.suppress(KeyboardInterrupt):
            watch_in(stdout, folder, once=once)
    elif once:
        from dataflex.watch.page import write_once

        with stderr.status("Writing the page"):
            write_once(folder, out or FILE)
        stdout.print(f"Page: {out or FILE}", soft_wrap=True, markup=False)
    else:
        _serve(folder, port, browser=browser)


def _serve(folder: Path, port: int, *, browser: bool) -> None:
    from dataflex.watch import server
    from dataflex.watch.page import viewer_of

    server.require_server()
    showing, bound = server.Showing(viewer_of(folder)), server.listening(port)
    url = f"http://{server.ADDRESS}:{bound.getsockname()[1]}/"
    stdout.print(f"Watching {folder} at {url} (Ctrl-C ends the watching, not the run)", soft_wrap=True, markup=False)
    if browser:
        server.open_browser(url)
    server.serve(showing, bound)
