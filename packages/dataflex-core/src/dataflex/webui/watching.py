"""The page of ``dataflex watch`` for the run that was started last, handed out to a timer: nothing is served here."""

from __future__ import annotations

import html
import tempfile
import threading
from pathlib import Path

from dataflex.errors import ConfigError
from dataflex.report.page import write_report
from dataflex.watch.page import viewer_of
from dataflex.watch.server import Showing, Shown

REPORT = "report.html"


class Watching:
    """Looks at one run for all pages that are open: drawn once, and at most a fifth of the time."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._folder: Path | None = None
        self._showing: Showing | None = None

    def look(self, folder: Path) -> tuple[str, Shown | None]:
        """Look at a run's output directory.

        Returns:
            A text that differs when something new is seen, and what is to be shown; ``None`` while nothing has been
            written.
        """
        with self._one:
            if folder != self._folder:
                self._folder, self._showing = folder, None
            if self._showing is None:
                try:
                    self._showing = Showing(viewer_of(folder), script=False)
                except ConfigError:
                    return "", None
            self._showing.ask()
            self._showing.renew()
            shown = self._showing.ask()
        return f"{folder} {shown.version} {shown.title}", shown


def framed(page: str, title: str) -> str:
    """A whole page as an element of another one, in which none of it can run."""
    of = html.escape(title, quote=True)
    style = "width: 100%; height: 85vh; border: 0"
    return f'<iframe sandbox title="{of}" style="{style}" srcdoc="{html.escape(page, quote=True)}"></iframe>'


def report_of(folder: Path) -> str:
    """The report of a run, as one HTML page.

    Raises:
        ConfigError: if the folder is no run's, or damaged.
    """
    with tempfile.TemporaryDirectory() as place:
        return write_report([folder], Path(place) / REPORT)[0].read_text(encoding="utf-8")
