"""What may be said of keys that are treated alike at a resume."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Effect(StrEnum):
    """What a changed key does at a resume."""

    SILENT = "at work at once"
    NOTED = "at work at once, with one line"
    CONTENT = "compared by what comes of it"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Keys that are treated alike.

    Attributes:
        title: What they are about, for the documentation.
        effect: What happens when one of them has changed.
        keys: Their names, or patterns of names.
        decides: Whether the result of a whole run depends on them.
        model: Whether they decide which model a checkpoint's weights belong to: ``dataflex score`` compares these.
    """

    title: str
    effect: Effect
    keys: tuple[str, ...]
    decides: bool = True
    model: bool = False
