"""Mark the errors of another library where it is called, so that they can be told from our own."""

from __future__ import annotations

from types import TracebackType
from typing import Literal

USERS_FILE = "dataflex_inline_"
"""How the module name of a single file given with ``-p`` begins: the user's code, not ours."""

_MARK = "_dataflex_foreign"
_OURS = "dataflex"


class foreign:
    """Around a call into another library: what it raises is marked as that library's.

    The library may call us back (a callback, a loss). An error from there is ours and is not marked, unless we had
    called a library in turn, under a mark of its own. So the rule is: no frame of ``dataflex`` or of a
    ``dataflex_*`` package lies between this block and where the error was raised. Nothing is caught or changed:
    libraries that react to an error by its type still can.

    Args:
        failed: What is said of an error whose traceback does not tell: the beginning of a sentence, ``"the plot could
            not be drawn"``.

    Example:
        >>> with foreign():
        ...     module = get_dataset(template, model_args, data_args)
    """

    def __init__(self, failed: str = "") -> None:
        self._failed = failed

    def __enter__(self) -> None:
        """Nothing to prepare: this stands in the training loop."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        """Mark the error, if it is one and the library's."""
        if isinstance(error, Exception) and traceback is not None and not _enters_ours(traceback.tb_next):
            setattr(error, _MARK, getattr(error, _MARK, "") or self._failed)
        return False


def is_foreign(error: BaseException | None) -> bool:
    """Whether another library raised the error, in a block of :class:`foreign`."""
    return getattr(error, _MARK, None) is not None


def said_of(error: BaseException) -> str:
    """What the innermost block of :class:`foreign` around an error says of it; ``""`` if nothing."""
    return str(getattr(error, _MARK, None) or "")


def foreign_cause(error: BaseException | None) -> BaseException | None:
    """The first error marked as foreign among an error and its explicit causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if is_foreign(error):
            return error
        seen.add(id(error))
        error = error.__cause__
    return None


def raised_in_core(error: BaseException) -> bool:
    """Whether the innermost call of an error's traceback is one of core itself, and so the error its own."""
    module, link = "", error.__traceback__
    while link is not None:
        module, link = str(link.tb_frame.f_globals.get("__name__", "")), link.tb_next
    return module.partition(".")[0] == _OURS


def _enters_ours(traceback: TracebackType | None) -> bool:
    while traceback is not None:
        if is_ours(str(traceback.tb_frame.f_globals.get("__name__", ""))):
            return True
        traceback = traceback.tb_next
    return False


def is_ours(module: str) -> bool:
    """Whether a module belongs to this project: ``dataflex`` or a component package of it, but no file of a user's."""
    package = module.partition(".")[0]
    return package == _OURS or (package.startswith(f"{_OURS}_") and not package.startswith(USERS_FILE))
