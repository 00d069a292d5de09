"""Whether a file could not be written for want of room, which libraries tell in ways of their own."""

from __future__ import annotations

import errno
import re
import shutil
from pathlib import Path

_CODES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_IN_TEXT = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]|errno:? (\d+)")  # Rust's and Python's
_WORDS = re.compile(
    r"no space left|disk quota exceeded|file too large|disk full|not enough space|file write failed|unexpected pos",
    re.IGNORECASE,
)


def is_about_room(error: BaseException | None) -> bool:
    """Whether the place that was written to had no room left: the disk, a quota or the limit of a file's size."""
    while error is not None:
        text = str(error)
        codes = {int(code) for found in _IN_TEXT.findall(text) for code in found if code}
        if (isinstance(error, OSError) and error.errno in _CODES) or codes & _CODES or _WORDS.search(text):
            return True
        error = error.__cause__
    return False


def free_space(folder: Path) -> str:
    """`` (N MiB are free there)``, or nothing where that cannot be told."""
    try:
        return f" ({shutil.disk_usage(folder).free / 2**20:,.0f} MiB are free there)"
    except OSError:
        return ""
