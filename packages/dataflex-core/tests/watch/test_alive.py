"""The sign of life of a run, and what a watcher concludes from it, from the lock and from the run's end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from synthetic_runs import write_run

from dataflex.errors import ConfigError
from dataflex.record.alive import at_work, beating
from dataflex.record.run import FOLDER, RunRecord
from dataflex.watch.pulse import Pulse, State

HOST = "this-machine"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def killed(folder: Path) -> Path:
    """What a killed run leaves: its record without an end, its sign of life, its lock."""
    write_run(folder, done=12)
    (folder / FOLDER / "alive").touch()
    hold(folder, pid=os.getpid(), host="another-machine")
    return folder


def hold(folder: Path, *, pid: int, host: str, since: float = 0.0) -> None:
    (folder / FOLDER / "lock").write_text(json.dumps({"pid": pid, "host": host, "since": since}))


def touch(folder: Path, at: int) -> None:
    os.utime(folder / FOLDER / "alive", (at, at))


def test_a_run_touches_its_file_while_its_own_thread_is_busy_and_leaves_none_at_its_end(tmp_path: Path) -> None:
    with at_work(tmp_path / "out", FOLDER):
        path = tmp_path / "out" / FOLDER / "alive"
        assert path.exists()
    assert not (tmp_path / "out").exists()
    folder = tmp_path / FOLDER
    folder.mkdir()
    with beating(folder, every=0.01):
        os.utime(folder / "alive", (1, 1))
        until = time.monotonic() + 20
        while (folder / "alive").stat().st_mtime == 1 and time.monotonic() < until:
            pass  # a component that never lets go
        assert (folder / "alive").stat().st_mtime > 1
    assert not (folder / "alive").exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "dataflex-alive"]


def test_a_directory_that_takes_no_file_ends_no_run(tmp_path: Path) -> None:
    with beating(tmp_path / "is-not-there", every=0.01):
        time.sleep(0.05)


def test_a_second_run_in_the_directory_is_refused_and_takes_no_sign_away(tmp_path: Path) -> None:
    with at_work(tmp_path, FOLDER):
        with pytest.raises(ConfigError, match="another run writes to"), at_work(tmp_path, FOLDER):
            pass
        assert (tmp_path / FOLDER / "alive").exists()


def test_sixty_seconds_of_watching_without_a_change_are_a_death(tmp_path: Path, clock: Clock) -> None:
    folder = killed(tmp_path / "run")
    pulse, info = Pulse(folder, clock, HOST), RunRecord(folder).info()
    assert pulse.look(info).state is State.UNSURE
    for _ in range(29):
        clock.now += 2
        assert pulse.look(info).state is State.UNSURE
    clock.now += 2
    assert pulse.look(info).state is State.DEAD


def test_clocks_of_two_machines_do_not_matter(tmp_path: Path, clock: Clock) -> None:
    folder = killed(tmp_path / "run")
    pulse, info = Pulse(folder, clock, HOST), RunRecord(folder).info()
    for beat in range(100):  # a machine that thinks it is 1970
        touch(folder, beat)
        clock.now += 15
        sign = pulse.look(info)
    assert sign.state is State.RUNNING


def test_a_watcher_that_slept_does_not_declare_a_run_dead(tmp_path: Path, clock: Clock) -> None:
    folder = killed(tmp_path / "run")
    pulse, info = Pulse(folder, clock, HOST), RunRecord(folder).info()
    pulse.look(info)
    clock.now += 3600
    assert pulse.look(info).state is State.UNSURE


def test_a_run_that_goes_on_after_its_death_is_alive_again(tmp_path: Path, clock: Clock) -> None:
    folder = killed(tmp_path / "run")
    pulse, info = Pulse(folder, clock, HOST), RunRecord(folder).info()
    for _ in range(10):
        clock.now += 10
        sign = pulse.look(info)
    assert sign.state is State.DEAD
    touch(folder, 5)
    assert pulse.look(info).state is State.RUNNING


def test_a_process_of_this_machine_that_is_gone_is_a_death_at_once(tmp_path: Path, clock: Clock) -> None:
    folder = killed(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    hold(folder, pid=gone.pid, host=HOST)
    sign = Pulse(folder, clock, HOST).look(RunRecord(folder).info())
    assert sign.state is State.DEAD and f"process {gone.pid} is gone" in sign.why


def test_another_process_that_got_the_number_since_is_not_the_run(tmp_path: Path, clock: Clock) -> None:
    folder = killed(tmp_path / "run")
    hold(folder, pid=os.getpid(), host=HOST, since=1.0)
    assert Pulse(folder, clock, HOST).look(RunRecord(folder).info()).state is State.DEAD
    hold(folder, pid=os.getpid(), host=HOST, since=time.time())
    assert Pulse(folder, clock, HOST).look(RunRecord(folder).info()).state is State.RUNNING


def test_a_run_in_a_container_of_this_machines_name_is_believed_once_it_gives_signs(
    tmp_path: Path, clock: Clock
) -> None:
    folder = killed(tmp_path / "run")
    hold(folder, pid=2**22 + 1, host=HOST)
    pulse, info = Pulse(folder, clock, HOST), RunRecord(folder).info()
    assert pulse.look(info).state is State.DEAD
    clock.now += 15
    touch(folder, 7)
    assert pulse.look(info).state is State.RUNNING


def test_a_run_that_ended_is_neither(tmp_path: Path, clock: Clock) -> None:
    folder = write_run(tmp_path / "run")
    assert Pulse(folder, clock, HOST).look(RunRecord(folder).info()).state is State.ENDED


def test_a_run_that_failed_and_let_go_is_dead_at_once(tmp_path: Path, clock: Clock) -> None:
    folder = write_run(tmp_path / "run", done=12)
    assert Pulse(folder, clock, HOST).look(RunRecord(folder).info()).state is State.DEAD


def test_a_run_of_a_version_without_signs_is_not_declared_dead(tmp_path: Path, clock: Clock) -> None:
    folder = killed(tmp_path / "run")
    (folder / FOLDER / "alive").unlink()
    pulse, info = Pulse(folder, clock, HOST), RunRecord(folder).info()
    for _ in range(20):
        clock.now += 15
        assert pulse.look(info).state is State.UNSURE
    hold(folder, pid=os.getpid(), host=HOST, since=time.time())
    assert pulse.look(info).state is State.RUNNING


def test_the_lock_is_read_and_never_taken(tmp_path: Path, clock: Clock) -> None:
    with at_work(tmp_path, FOLDER):
        before = (tmp_path / FOLDER / "lock").stat()
        assert Pulse(tmp_path, clock).look(None).state is State.RUNNING
        after = (tmp_path / FOLDER / "lock").stat()
        assert facts_of(before) == facts_of(after)
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / "lock").write_text('{"pid": 1')  # half written
    assert Pulse(tmp_path, clock, HOST).look(None).state is State.UNSURE


def facts_of(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns
