"""Running commands, and saying what is being done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

QUIET = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1"}


def say(text: str) -> None:
    """Print a line now, so that it stands before what the next command prints."""
    print(text, flush=True)


def run(*command: str | Path, cwd: Path | None = None, environ: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed; one that fails ends this process with all it said.

    Args:
        command: The program and its arguments.
        cwd: Where to run it.
        environ: Variables to add, see :func:`attempt`.
    """
    done = attempt(*command, cwd=cwd, environ=environ)
    if done.returncode:
        line = " ".join(map(str, command))
        sys.exit(f"{done.stdout}\n{done.stderr}\n{line} ended with exit code {done.returncode}.")
    return done.stdout


def attempt(
    *command: str | Path, cwd: Path | None = None, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command that may fail.

    Args:
        command: The program and its arguments.
        cwd: Where to run it.
        environ: Variables to add. Those that would let this repository in (``PYTHONPATH``) and those that change what
            DataFlex loads are taken out.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV") and not name.startswith("DATAFLEX_")
    }
    around = {**kept, **QUIET, **(environ or {})}
    arguments = [str(part) for part in command]
    return subprocess.run(arguments, cwd=cwd, env=around, capture_output=True, text=True, check=False)
