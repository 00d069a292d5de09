"""One job in the terminal of the command that starts it."""

from __future__ import annotations

import os
import signal
import subprocess

from dataflex.phases.job import Job
from dataflex.phases.processes import environment
from dataflex.phases.run import Stop


class Foreground:
    """Runs jobs in this process's own session, with its standard output and error.

    Args:
        lock: A descriptor that the job holds too: if only the runner is killed, nobody starts a second one beside it.
        stop: What signals have asked for: Ctrl-C reaches the job from the terminal already.
    """

    def __init__(self, lock: int, stop: Stop) -> None:
        self._lock, self._stop = lock, stop

    def start(self, job: Job, gpus: tuple[str, ...]) -> InForeground:
        """Start a job; it gets all GPUs, as a run by hand does."""
        environ = {**os.environ, **job.environ} if not gpus else environment(os.environ, job, gpus)
        return InForeground(subprocess.Popen(job.command, pass_fds=(self._lock,), env=environ), self._stop)


class InForeground:
    """A job in the foreground.

    Args:
        process: Its process.
        stop: What signals have asked for.
    """

    def __init__(self, process: subprocess.Popen[bytes], stop: Stop) -> None:
        self._process, self._asked = process, stop

    def poll(self) -> int | None:
        """Its exit code; ``None`` while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """SIGTERM, unless the terminal has sent it Ctrl-C."""
        if self._asked.signal != signal.SIGINT and self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()
