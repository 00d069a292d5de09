"""Saved arguments: our one field lies in a file of its own, since LlamaBoard fails at a field that it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataflex.errors import ConfigError
from dataflex.record import files
from dataflex.webui.choice import Choice

FIELD = "train.dataflex"
"""Our field among LlamaBoard's."""

END = ".dataflex.json"


def beside(path: Path) -> Path:
    """Our file beside one of LlamaBoard's; its end is none that LlamaBoard lists."""
    return path.with_name(path.name.removesuffix(".yaml") + END)


def split(fields: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """LlamaBoard's own fields, and ours (``""`` if it is not among them)."""
    return {name: value for name, value in fields.items() if name != FIELD}, str(fields.get(FIELD) or "")


def save(path: Path, text: str) -> None:
    """Write our field beside LlamaBoard's file; nothing chosen leaves no file.

    Args:
        path: LlamaBoard's file.
        text: Our field.
    """
    ours = beside(path)
    if Choice.from_json(text) == Choice():
        ours.unlink(missing_ok=True)
    else:
        files.replace_text(ours, text + "\n")


def load(path: Path) -> str:
    """Our field beside LlamaBoard's file; nothing chosen where there is none.

    Raises:
        ConfigError: for a file that holds no choice.
    """
    ours = beside(path)
    if not ours.is_file():
        return Choice().to_json()
    try:
        return Choice.from_json(ours.read_text(encoding="utf-8")).to_json()
    except (ConfigError, OSError, ValueError) as error:
        raise ConfigError(f"{ours}: {error}") from error
