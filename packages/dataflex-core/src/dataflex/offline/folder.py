"""The folder of results of one request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataflex import files
from dataflex.errors import ConfigError
from dataflex.offline.request import WORK

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
        self.scores, self.summary, self.kept = path / SCORES, path / SUMMARY, path / KEPT

    @property
    def complete(self) -> bool:
        """Whether all scores are there; the summary is written last."""
        return self.scores.is_file() and self.summary.is_file()

    def open(self, identity: Mapping[str, Any]) -> None:
        """Begin a request, or go on with it.

        Args:
            identity: What the scores depend on, JSON values.

        Raises:
            ConfigError: when the folder holds something else, or the scores of another request.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--out {self.path} is a file. Name a folder.")
        request = self.path / REQUEST
        if not request.is_file():
            found = sorted(entry.name for entry in self.path.iterdir()) if self.path.exists() else []
            if found:
                raise ConfigError(f"--out {self.path} holds other files ({found[0]}, ...). Name a new or empty folder.")
            files.replace_text(request, json.dumps(identity, indent=1) + "\n")
            return
        earlier = files.parse_object(request.read_text(encoding="utf-8"))
        different = sorted(_differences(earlier, identity))
        if different:
            raise ConfigError(
                f"--out {self.path} holds scores of another request: {', '.join(different)} differ. Name another "
                "folder, or delete this one."
            )

    def finish(self) -> None:
        """Delete what was only needed on the way."""
        shutil.rmtree(self.path / WORK, ignore_errors=True)


def _differences(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name in {*first, *second}:
        one, other = first.get(name), second.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += _differences(one, other, f"{prefix}{name}.")
        elif one != other:
            found.append(prefix + name)
    return found
