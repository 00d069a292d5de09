"""Hands a start of ``dataflex`` over to a server that has its libraries loaded already; see ``warm_server.py``.

Python imports this at its start where the tests put its folder on ``PYTHONPATH``. Whatever is not exactly such a start,
or has another environment than the server, goes on as ever.
"""

import os
import sys

_SOCKET, _PYTHON, _PATH = "DATAFLEX_WARM_SOCKET", "DATAFLEX_WARM_PYTHON", "DATAFLEX_WARM_PATH"
_SITE = "DATAFLEX_WARM_SITE"  # a folder of distributions that goes before the path
_RANKS = "dataflex.testing.ranks"  # has the PYTHONPATH of its parent's sys.path
_MODULES = ("dataflex", _RANKS)
_LOADING = ("train", "score", "check-run", "check-component")  # commands that load LlamaFactory, or torch
_SCRIPTS = ("dataflex", "dataflex-cli")


def _asked() -> "tuple[str, list[str], bool] | None":
    """Module and arguments of this start, and whether it is unbuffered; ``None`` for another kind of start."""
    words = list(sys.orig_argv[1:])
    unbuffered = bool(words) and words[0] == "-u"
    words = words[1:] if unbuffered else words
    if len(words) > 2 and words[0] == "-m" and words[1] in _MODULES:
        module, arguments = words[1], words[2:]
    elif words and os.path.basename(words[0]) in _SCRIPTS and os.path.dirname(words[0]) == os.path.dirname(_python()):
        module, arguments = "dataflex", words[1:]
    else:
        return None
    if module == "dataflex" and not any(word in _LOADING for word in arguments):
        return None
    return module, arguments, unbuffered


def _path_is_known() -> bool:
    known = os.environ.get(_PATH, "")
    return os.environ.get("PYTHONPATH") in (known, os.environ.get(_SITE, "") + os.pathsep + known)


def _python() -> str:
    return os.environ.get(_PYTHON, "")


def _hand_over(asked: "tuple[str, list[str], bool]") -> None:
    import array
    import contextlib
    import json
    import signal
    import socket

    module, arguments, unbuffered = asked
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(os.environ[_SOCKET])
        request = {
            "module": module, "arguments": arguments, "unbuffered": unbuffered, "environ": dict(os.environ),
            "folder": os.getcwd(), "pid": os.getpid(),
        }  # fmt: skip
        body = json.dumps(request).encode()
        descriptors = array.array("i", [0, 1, 2]).tobytes()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)
        line.sendmsg([len(body).to_bytes(4, "big")], [rights])
        line.sendall(body)
        answers = line.makefile("r")
        said = answers.readline().strip()
        if not said.isdigit():
            return  # the server knows better: start as ever
        process = int(said)

        def forward(number: int, frame: object) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, forward)
        code = int(answers.readline().strip() or -signal.SIGKILL)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(code)


if os.environ.get(_SOCKET) and os.path.exists(os.environ[_SOCKET]) and sys.executable == _python():
    _found = _asked()
    if _found is not None and (_found[0] == _RANKS or _path_is_known()):
        _hand_over(_found)
