"""Hand-over files between phases."""

from __future__ import annotations

from pathlib import Path

from dataflex.checkpoint.state import write_atomically


def write_text(path: Path, text: str) -> None:
    """Put a text at a path: a kill at any moment leaves the whole old one or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())
