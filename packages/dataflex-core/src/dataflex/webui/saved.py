"""Saved arguments: our one field lies in a file of its own, since LlamaBoard fails at a field that it does not know."""

from __future__ import annotations

from pathlib import Path

from dataflex.errors import ConfigError
from dataflex.record import files
from dataflex.webui.choice import Choice

END = ".dataflex.json"


def beside(path: Path) -> Path:
    """Our file beside one of LlamaBoard's; its end is none that LlamaBoard lists."""
    return path.with_name(path.name.removesuffix(".yaml") + END)


def save(path: Path, text: str) -> None:
    """Write our field beside LlamaBoard's file; nothing chosen leaves no file.

    Args:
        path: LlamaBoard's file.
        text: Our field.
    """
    ours, choice = beside(path), Choice.from_json(text)
    if choice == Choice():
        ours.unlink(missing_ok=True)
    else:
        files.replace_text(ours, choice.to_json() + "\n")


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
