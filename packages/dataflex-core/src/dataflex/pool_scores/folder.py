"""The folder of results of one request."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dataflex.errors import ConfigError
from dataflex.pool_scores.request import WORK
from dataflex.record import files
from dataflex.record import lock as run_lock

REQUEST = "request.json"
SCORES = "scores.parquet"
SUMMARY = "summary.json"
KEPT = "kept"


class ScoreFolder:
    """Where ``dataflex score`` writes. Only rank 0 does.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.request, self.scores, self.summary = path / REQUEST, path / SCORES, path / SUMMARY
        self.kept = path / KEPT

    @property
    def complete(self) -> bool:
        """Whether all scores are there; the summary is written last."""
        return self.scores.is_file() and self.summary.is_file()

    @contextlib.contextmanager
    def open(self, identity: Mapping[str, Any]) -> Iterator[None]:
        """Begin a request, or go on with it, while no other command writes to the folder.

        Args:
            identity: What the scores depend on, JSON values.

        Raises:
            ConfigError: as :meth:`check`, and when another command writes to the folder.
        """
        with run_lock.hold(self.path, WORK, "--out"):
            self.check(identity)
            if not self.request.is_file():
                files.replace_text(self.request, json.dumps(identity, indent=1) + "\n")
            yield

    def check(self, identity: Mapping[str, Any]) -> None:
        """Look whether a request can be begun or gone on with here; nothing is written.

        Args:
            identity: What the scores depend on, JSON values.

        Raises:
            ConfigError: when the folder cannot be written to, or holds something else or the scores of another request.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--out {self.path} is a file. Name a folder.")
        run_lock.require_writable(self.path, "--out")
        if not self.request.is_file():
            entries = self.path.iterdir() if self.path.exists() else ()
            if found := sorted(entry.name for entry in entries if entry.name != WORK):
                raise ConfigError(f"--out {self.path} holds other files ({found[0]}, ...). Name a new or empty folder.")
            return
        earlier = files.parse_object(self.request.read_text(encoding="utf-8"))
        different = sorted(_differences(earlier, identity))
        if different:
            raise ConfigError(
                f"--out {self.path} holds scores of another request: {', '.join(different)} differ. Name another "
                "folder, or delete this one."
            )

    def finish(self) -> None:
        """Delete what was only needed on the way."""
        for entry in (self.path / WORK).iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != run_lock.NAME:  # that is let go of last
                entry.unlink()


def _differences(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name in {*first, *second}:
        one, other = first.get(name), second.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differences(one, other, f"{prefix}{name}.")
        elif one != other:
            found.append(prefix + name)
    return found
