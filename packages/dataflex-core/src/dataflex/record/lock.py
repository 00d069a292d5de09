"""One run at a time writes to an output directory. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from dataflex.errors import ConfigError

NAME = "lock"


@contextlib.contextmanager
def hold(output_dir: Path, folder: str, named: str = "output_dir:") -> Iterator[None]:
    """Keep other runs out of an output directory; a process that dies, however, lets go of it.

    Args:
        output_dir: It is made if need be, and removed again if nothing was written to it.
        folder: Name of our folder in it, where the lock is.
        named: The key or option that names the directory, for messages.

    Raises:
        ConfigError: if another run holds it, or it cannot be written to.
    """
    path = output_dir / folder / NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise _not_writable(named, output_dir, f"{error.strerror or error}: {error.filename}") from error
    with handle:
        if hasattr(os, "register_at_fork"):  # a loader's worker may outlive its run by seconds, and would hold the lock
            os.register_at_fork(after_in_child=handle.close)
        if not (_locked(handle.fileno()) and _is_at(path, handle.fileno())):
            raise _held(named, output_dir, path)
        handle.truncate(0)
        handle.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}))
        handle.flush()
        try:
            yield
        finally:
            if _is_at(path, handle.fileno()):
                path.unlink()
            with contextlib.suppress(OSError):  # what holds anything stays
                path.parent.rmdir()
                output_dir.rmdir()


def require_free(output_dir: Path, folder: str, named: str = "output_dir:") -> None:
    """Refuse an output directory that another run holds; nothing is made.

    Args:
        output_dir: As of :func:`hold`.
        folder: As there.
        named: As there.

    Raises:
        ConfigError: names the run that holds it.
    """
    path = output_dir / folder / NAME
    with contextlib.suppress(OSError), path.open("r", encoding="utf-8") as handle:
        if not _locked(handle.fileno()):
            raise _held(named, output_dir, path)


def require_writable(output_dir: Path, named: str = "output_dir:") -> None:
    """Refuse an output directory that :func:`hold` could not write to; nothing is made.

    Args:
        output_dir: It need not exist.
        named: The key or option that names it, for messages.

    Raises:
        ConfigError: says what is in the way.
    """
    try:
        os.lstat(output_dir)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise _not_writable(named, output_dir, str(error.strerror)) from error
    except ValueError as error:  # a NUL in it
        raise _not_writable(named, output_dir, str(error)) from error
    nearest = next(path for path in (output_dir, *output_dir.absolute().parents) if os.path.lexists(path))
    if not nearest.exists():
        raise _not_writable(named, output_dir, f"a link to what is not there: {nearest}")
    if not nearest.is_dir():
        raise _not_writable(named, output_dir, f"Not a directory: {nearest}")
    if not os.access(nearest, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise _not_writable(named, output_dir, f"Permission denied: {nearest}")


def _held(named: str, output_dir: Path, path: Path) -> ConfigError:
    return ConfigError(
        f"another run writes to {named} {output_dir}{_holder(path)}. Give this one a directory of its own, or wait for "
        "the other to end."
    )


def _not_writable(named: str, output_dir: Path, why: str) -> ConfigError:
    return ConfigError(f"{named} {output_dir} cannot be written to ({why}). Name another one, or fix its permissions.")


def _locked(descriptor: int) -> bool:
    """Take the lock; on a system without such locks every run gets it."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the file is still the one that others will find: whoever held it may just have deleted it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["since"]))
        return f" (process {record['pid']} on {record['host']}, since {since})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
