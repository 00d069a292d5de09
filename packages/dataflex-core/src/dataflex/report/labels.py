"""Names and numbers short enough for a plot, texts safe to look at."""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST_LETTERS = 28
"""Letters of a label."""

_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NAME_END, _NAME_BEGIN = re.compile(r"[a-zA-Z0-9]*$"), re.compile(r"^[a-zA-Z0-9]*")


def short_labels(labels: Sequence[str]) -> list[str]:
    """Labels of at most :data:`MOST_LETTERS` letters, if there is a way that still tells them apart.

    Where one is longer, whole words that all of them begin or end with are left out; then what is too long is cut in
    its middle.
    """
    if all(len(label) <= MOST_LETTERS for label in labels):
        return list(labels)
    if len(labels) > 1:
        begin = len(_NAME_END.sub("", _common(labels)))
        rest = [label[begin:] for label in labels]
        shared = _common([label[::-1] for label in rest])[::-1]
        end = len(_NAME_BEGIN.sub("", shared))
        labels = [("…" if begin else "") + label[: len(label) - end] + ("…" if end else "") for label in rest]
    cut = [_cut(label) for label in labels]
    return cut if len(set(cut)) == len(set(labels)) else list(labels)


def visible(text: str) -> str:
    """A text with what would hide or turn round other letters written out: control and bidirectional characters."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def short_number(value: float) -> str:
    """A count in at most five letters: ``950``, ``12.3k``, ``1.2M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _common(texts: Sequence[str]) -> str:
    """What all texts begin with."""
    first, last = min(texts), max(texts)
    return next((first[:place] for place, letter in enumerate(first) if letter != last[place : place + 1]), first)


def _cut(label: str) -> str:
    if len(label) <= MOST_LETTERS:
        return label
    half = (MOST_LETTERS - 1) // 2
    return f"{label[: MOST_LETTERS - 1 - half]}…{label[-half:]}"
