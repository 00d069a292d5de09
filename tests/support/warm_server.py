"""A server that starts ``dataflex`` by forking: LlamaFactory takes seconds to import, in each process anew.

``python warm_server.py SOCKET`` listens there. ``warm/sitecustomize.py`` connects in the place of each start, with its
arguments, environment, folder and three file descriptors, waits, passes signals on and ends as the fork does. If it is
killed, its fork and all that this one started are killed too, before the next start.

``DATAFLEX_TEST_STARTS=warm`` asks for it, as ``nox -s tests`` does; otherwise every process starts from nothing. So
does one whose start is the point of a test, which sets ``DATAFLEX_WARM_SOCKET`` to nothing for its commands.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_READ_WHILE_IMPORTING = (
    *("OMP_", "MKL_", "CUDA_", "HF_", "TRANSFORMERS_", "TOKENIZERS_", "PYTHON", "USE_", "LANG", "LC_"),
    *("PYTORCH_", "DS_", "MODELSCOPE", "WANDB", "XDG_", "HOME", "MPL", "SPAWN", "DATAFLEX_DEBUG"),
)
"""Beginnings of variables that libraries may read when they are imported: they have to be the server's."""

_OF_NO_ACCOUNT = frozenset(("PYTORCH_CUDA_ALLOC_CONF", "WANDB_PROJECT", "HF_DATASETS_OFFLINE", "PYTHONIOENCODING"))
"""Variables with such a beginning that a fork can do without: the first two are of LlamaFactory's launcher, the third
follows from ``HF_HUB_OFFLINE``, and :func:`become` sees to the last."""


@dataclass
class Started:
    """A fork that serves a client.

    Attributes:
        line: To the client.
        process: The fork.
        client: The process that waits for it.
    """

    line: socket.socket
    process: int
    client: int


class Server:
    """Forks for each client, and tells it how its fork ended."""

    def __init__(self, path: Path) -> None:
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen(64)
        self.environ = _read_while_importing(os.environ)
        self.started: dict[int, Started] = {}
        self.loaded = False

    def serve(self) -> dict[str, Any]:
        """Serve until this process is a fork; returns what it is to do."""
        # Whoever started the server holds the other end of its input: at its end, the server ends.
        while True:
            lines = {each.line.fileno(): each for each in self.started.values()}
            watched: list[Any] = [0, self.listening, *lines]
            ready, _, _ = select.select(watched, [], [], 0.02 if self.started else None)
            self._reap()
            if 0 in ready and not os.read(0, 1):
                for each in list(self.started.values()):
                    self._kill(each)
                sys.exit(0)
            for descriptor in ready:
                found = lines.get(descriptor)
                if found is not None and found.process in self.started and not _peek(found.line):
                    self._kill(found)
            if self.listening in ready:
                # One that was killed before this one came has been seen to above, or is now.
                for each in list(self.started.values()):
                    if select.select([each.line], [], [], 0)[0] and not _peek(each.line):
                        self._kill(each)
                request = self._accept()
                if request is not None:
                    return request

    def _accept(self) -> dict[str, Any] | None:
        line, _ = self.listening.accept()
        try:
            head, descriptors, _, _ = socket.recv_fds(line, 4, 3)
            body = b""
            while len(body) < int.from_bytes(head, "big"):
                part = line.recv(65536)
                if not part:
                    raise OSError("the client is gone")
                body += part
            request: dict[str, Any] = json.loads(body)
        except (OSError, ValueError):
            line.close()
            return None
        if not self.loaded:
            self.loaded = True
            load()
        if not self._fits(request):
            _say(line, "no")
            line.close()
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        process = os.fork()
        if process == 0:
            self.listening.close()
            for other in self.started.values():
                other.line.close()
            line.close()
            return request | {"descriptors": descriptors}
        for descriptor in descriptors:
            os.close(descriptor)
        self.started[process] = Started(line, process, int(request["pid"]))
        _say(line, str(process))
        return None

    def _fits(self, request: dict[str, Any]) -> bool:
        asked, now = _read_while_importing(request["environ"]), _read_while_importing(os.environ)
        free = {*_OF_NO_ACCOUNT, "PYTHONPATH"}  # the client has looked at it, and become() puts it to use
        # LlamaFactory sets some itself, in a test's process as in this one.
        known = {*asked, *now, *self.environ} - free
        return all(asked.get(name) in (now.get(name), self.environ.get(name)) for name in known)

    def _reap(self) -> None:
        while self.started:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            each = self.started.pop(process, None)
            if each is not None:
                _say(each.line, str(os.waitstatus_to_exitcode(status)))
                each.line.close()

    def _kill(self, each: Started) -> None:
        """Kill a fork whose client is gone, and whatever it has started, clients of ours included."""
        self.started.pop(each.process, None)
        each.line.close()
        for process in [*_family(each.process), each.process]:
            served = [other for other in self.started.values() if other.client == process]
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            for other in served:
                self._kill(other)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(each.process, 0)


def load() -> None:
    """Import what a training run needs."""
    gc.disable()
    import psutil  # noqa: F401
    import transformers  # noqa: F401

    from dataflex.bridge import llamafactory

    llamafactory.load_training()
    gc.enable()
    gc.freeze()


def become(request: dict[str, Any]) -> None:
    """Be the process that was asked for."""
    for number, descriptor in enumerate(request["descriptors"]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["folder"])
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(  # type: ignore[union-attr]
            encoding=encoding or None,
            errors=errors or None,
            line_buffering=request["unbuffered"] or stream is sys.stderr,
        )
    random.seed()
    import numpy

    numpy.random.seed()
    sys.argv = ["dataflex", *request["arguments"]]
    sys.path[0] = request["folder"]  # as `python -m` has it
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [path for path in given if path and path not in sys.path]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _read_while_importing(environ: Any) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_READ_WHILE_IMPORTING)}


def _family(process: int) -> list[int]:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(process).children(recursive=True)]
    return []


def _peek(line: socket.socket) -> bytes:
    try:
        return line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b"-"
    except OSError:
        return b""


def _say(line: socket.socket, text: str) -> None:
    with contextlib.suppress(OSError):
        line.sendall(f"{text}\n".encode())


if __name__ == "__main__":
    become(Server(Path(sys.argv[1])).serve())
