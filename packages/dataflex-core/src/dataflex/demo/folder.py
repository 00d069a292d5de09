"""The folder a demo writes to, and nothing else in it."""

from __future__ import annotations

import shutil
from pathlib import Path

from dataflex.errors import ConfigError
from dataflex.paths import user_path

MARK = ".dataflex-demo"
"""Lies in every folder a demo has made; without it a folder that holds something is somebody's."""

_OWN_FOLDERS = ("cache", "data", "earlier", "files", "logs", "model", "png", "runs")
_OWN_FILES = ("summary.json", "report.html", "study.json", "study.csv")


def prepare(out: Path) -> Path:
    """Make the folder, or clear what an earlier demo left in it; returns its absolute path.

    Raises:
        ConfigError: if it holds files and no demo made it, or cannot be made.
    """
    root = user_path(out).resolve()
    try:
        if root.is_dir() and any(root.iterdir()) and not (root / MARK).is_file():
            raise ConfigError(f"--out {out}: the folder holds files that are not a demo's. Name a new or empty folder.")
        root.mkdir(parents=True, exist_ok=True)
        (root / MARK).touch()
        for name in _OWN_FOLDERS:
            if (root / name).is_dir():
                shutil.rmtree(root / name)
        for file in (*root.glob("*.yaml"), *(root / name for name in _OWN_FILES)):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: the folder cannot be used ({error}). Name another with --out.") from error
    return root
