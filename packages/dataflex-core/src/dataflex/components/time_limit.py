"""A limit to how long a component may take, so that one that hangs does not hold a machine for ever."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import threading
import traceback
from collections.abc import Iterator
from types import FrameType

from dataflex.distributed import in_exchange
from dataflex.errors import ComponentError

GRACE_SECONDS = 60.0
"""How much longer a component gets that hangs outside Python, where no exception reaches it."""

_LOOK_AGAIN_SECONDS = 0.2


class _TimeIsUp(BaseException):
    """No ``Exception``: a component that catches those, to try again, must not catch this one."""


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise in the body once it has taken too long.

    The exception comes between two instructions of Python, but not within an exchange with other ranks. A body that is
    stuck in a library's native code (a collective call, a kernel) for :data:`GRACE_SECONDS` more ends the process with
    a traceback on standard error and code 1. Does nothing outside the main thread or on a platform without SIGALRM.

    Args:
        seconds: The limit; ``None`` for none.

    Raises:
        ComponentError: says where the body was.
    """
    able = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    if seconds is None or not able:
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        if in_exchange(frame):  # this rank waits for one that hangs, and will hear of it
            signal.setitimer(signal.ITIMER_REAL, _LOOK_AGAIN_SECONDS)
            return
        where = traceback.format_list(traceback.extract_stack(frame)[-1:])[0].strip() if frame else "an unknown place"
        raise _TimeIsUp(f"it took longer than component_timeout: {seconds:g} seconds, and was at {where}")

    before = signal.signal(signal.SIGALRM, expire)
    faulthandler.dump_traceback_later(seconds + GRACE_SECONDS, exit=True)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TimeIsUp as error:
        raise ComponentError(str(error)) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
