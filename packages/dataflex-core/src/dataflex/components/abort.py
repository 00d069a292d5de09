"""LlamaBoard's abort while a component decides: LlamaFactory looks at its signal only when a step ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from dataflex.distributed import in_exchange
from dataflex.errors import ComponentError

_OF_LLAMABOARD = "LLAMABOARD_ENABLED"
_AGAIN_SECONDS = 0.2


class _Aborted(BaseException):
    """No ``Exception``: a component that catches those, to try again, must not catch this one."""


@contextlib.contextmanager
def ended_by_abort() -> Iterator[None]:
    """End the body at once when LlamaBoard's abort button is pressed; LlamaFactory hears of it, too.

    The exception comes between two instructions of Python, but not within an exchange with other ranks. Does nothing
    outside the main thread, or in a run that LlamaBoard has not started.

    Raises:
        ComponentError: says that it was aborted.
    """
    able = hasattr(signal, "pthread_kill") and threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGABRT) if able and os.environ.get(_OF_LLAMABOARD) else None
    if not callable(before):
        yield
        return

    def abort(number: int, frame: FrameType | None) -> None:
        before(number, frame)
        if in_exchange(frame):  # another rank may wait for this one
            again = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (threading.main_thread().ident, number))
            again.daemon = True
            again.start()
            return
        raise _Aborted

    signal.signal(signal.SIGABRT, abort)
    try:
        yield
    except _Aborted:
        raise ComponentError("it was aborted in LlamaBoard") from None
    finally:
        signal.signal(signal.SIGABRT, before)
