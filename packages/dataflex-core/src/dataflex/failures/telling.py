"""How the command line tells an error: the sentence, who says it, and whether the traceback belongs to it."""

from __future__ import annotations

import errno
import traceback
from dataclasses import dataclass
from types import TracebackType

from dataflex.errors import DataFlexError, OneRankError
from dataflex.failures import error_log, place
from dataflex.failures.foreign import USERS_FILE, foreign_cause, is_foreign, is_ours, said_of
from dataflex.failures.rows import row_at_fault
from dataflex.failures.saying import is_out_of_memory, said

_PERMISSIONS, _PATH, _ROOM = "Fix its permissions", "Correct the path", "Make room there"
_OF_A_PLACE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _PERMISSIONS),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP), _PATH),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _ROOM),
}
"""What to do about an error of the system that lies in a file or folder, not in whoever uses it."""


@dataclass(frozen=True)
class Told:
    """What to print of an error.

    Attributes:
        sentence: For the user.
        alone: Whether other ranks may know nothing of it, so that each one says its own.
        is_bug: Whether it is an error inside DataFlex: it keeps its traceback, which the sentence follows.
    """

    sentence: str
    alone: bool = False
    is_bug: bool = False


def tell(error: Exception) -> Told:
    """Put an error into words."""
    if isinstance(error, DataFlexError):
        return Told(str(error) + _calls(error), alone=isinstance(error, OneRankError))
    if is_foreign(error) or is_out_of_memory(error):
        where = place.of(error, said_of(error) or "the command failed")
        row = row_at_fault(error)
        what = f"{where.what}: row {row.row} could not be {row.what}" if row is not None else where.what
        advice = f" {where.advice}." if where.advice else ""
        return Told(f"{what}: {said(error)}.{advice}{_calls(error)}", alone=True)
    if isinstance(error, OSError) and error.errno in _OF_A_PLACE and error.filename is not None:
        advice = _OF_A_PLACE[error.errno]
        return Told(f"{error.filename} cannot be used: {error.strerror}. {advice}, or name another place.", alone=True)
    return Told(_bug(error), alone=True, is_bug=True)


def formatted(error: BaseException) -> str:
    """The whole traceback, causes included."""
    return "".join(traceback.format_exception(error))


def _calls(error: Exception) -> str:
    if foreign_cause(error) is None and not is_out_of_memory(error):
        return ""
    path = error_log.path_of(error)
    return "" if path is None else f" The last calls before it are in {path}; --debug shows them all."


def _bug(error: Exception) -> str:
    ours, raised = _frames(error.__traceback__)
    what = f"unexpected {said(error)}"
    if raised == ours:
        who = f"This is an error inside DataFlex ({ours})."
        return f"{what}. {who} Please report it, with this traceback and the log of the command."
    return (
        f"{what}. {ours} had called {raised}. If that is a component or plugin, tell its author; otherwise this is an "
        "error inside DataFlex: please report it, with this traceback and the log of the command."
    )


def _frames(link: TracebackType | None) -> tuple[str, str]:
    """Last module of ours in a traceback, and the one it had called, a user's file by its path; the same if nothing."""
    ours, called = "dataflex", ""
    while link is not None:
        module = str(link.tb_frame.f_globals.get("__name__", "?"))
        if is_ours(module):
            ours, called = module, ""
        elif not called:
            called = link.tb_frame.f_code.co_filename if module.startswith(USERS_FILE) else module
        link = link.tb_next
    return ours, called or ours
