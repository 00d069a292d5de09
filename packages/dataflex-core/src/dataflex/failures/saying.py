"""What an error of another library says, on one line."""

from __future__ import annotations

import re

DIVERGED = "Lower the learning rate if the model has diverged"
"""What to do where losses are no numbers."""

_LONGEST = 600  # characters of a library's own text; some repeat whole data structures
_INDENTED = re.compile(r"^\s")
_TRACEBACK = "Traceback (most recent call last)"
_WRAPPERS = frozenset({"RemoteTraceback", "_RemoteTraceback"})  # a worker's traceback as a text, in place of a cause
_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)
OURS = re.compile(r"""(?:,\s*)?['"]?_dataflex_\w+['"]?(?::\s*\w+\([^()]*\))?""")
"""Names of our own columns, as libraries repeat them."""


def said(error: BaseException) -> str:
    """Class and text of an error and, where that tells more, of what caused it; one line, cut to a readable length."""
    text = _text(error)
    cause = root(error)
    if cause is not error and (told := _text(cause)) not in text:
        text = f"{text} ({told})"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1].rstrip()}…"


def root(error: BaseException) -> BaseException:
    """The first of the errors that led to this one by ``raise ... from``."""
    seen = {id(error)}
    while error.__cause__ is not None and type(error.__cause__).__name__ not in _WRAPPERS:
        if id(error.__cause__) in seen:
            break
        error = error.__cause__
        seen.add(id(error))
    return error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, on the device or the machine; torch has classes and texts of its own."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)):
            return True
        if error.__cause__ is None:
            return False
        error = error.__cause__
    return False


def _text(error: BaseException) -> str:
    kind = type(error).__name__
    text = str(error.args[0]) if isinstance(error, KeyError) and _is_sentence(error) else str(error)
    if _TRACEBACK in text:  # torch hands the whole traceback of a worker on as text: its last lines are the error
        lines = text.rstrip().splitlines()
        last = max((place for place, line in enumerate(lines) if _INDENTED.match(line)), default=-1)
        text = "\n".join(lines[last + 1 :]) or lines[-1]
        kind = ""
    text = " ".join(OURS.sub("", text).split()).rstrip(".")
    return f"{kind}: {text}".strip(": ") if text else kind


def _is_sentence(error: KeyError) -> bool:
    """Whether a KeyError holds a text to read; a bare key stays in its quotes."""
    return len(error.args) == 1 and isinstance(error.args[0], str) and " " in error.args[0]
