"""Running jobs: order, jobs at once, GPUs, what comes next, signals, and what a killed runner leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest

from dataflex.errors import ConfigError
from dataflex.phases.gpus import Gpus, deal
from dataflex.phases.job import Ended, Executor, Job, Outcome, Running
from dataflex.phases.processes import LocalProcesses, environment, note_of, stop_left_behind
from dataflex.phases.run import Stop, run_jobs


@pytest.fixture
def job(tmp_path):
    """A job of a line of Python."""

    def job(name, code="pass", **settings):
        return Job(name=name, command=(sys.executable, "-S", "-c", code), log=tmp_path / f"{name}.log", **settings)

    return job


class Fake:
    """Jobs without a process: each runs until it was asked as often as its name's length; notes what happened."""

    def __init__(self, codes: dict[str, int] | None = None) -> None:
        self.codes, self.at_once, self.most = codes or {}, 0, 0
        self.events: list[tuple[str, Any]] = []

    def start(self, job: Job, gpus: tuple[str, ...]) -> Running:
        self.events.append((job.name, gpus))
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        return FakeRunning(self, job)


class FakeRunning:
    def __init__(self, fake: Fake, job: Job) -> None:
        self.fake, self.job, self.left = fake, job, len(job.name)
        self.code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            self.left -= 1
            if self.left <= 0:
                self.code = self.fake.codes.get(self.job.name, 0)
                self.fake.at_once -= 1
        return self.code

    def stop(self) -> None:
        self.fake.events.append((self.job.name, "stop"))
        self.left = 1
        self.fake.codes[self.job.name] = 5

    def kill(self) -> None:
        self.fake.events.append((self.job.name, "kill"))


def run(jobs: Iterable[Job], executor: Executor, **settings: Any) -> list[tuple[str, Ended, bool]]:
    """Run jobs; gives names and ends in the order in which they ended."""
    ended: list[tuple[str, Ended, bool]] = []

    def on_end(job, outcome):
        ended.append((job.name, outcome.ended, outcome.shared))
        return follow.get(job.name, ())

    follow = settings.pop("follow", {})
    run_jobs(jobs, executor, on_end=on_end, **{"at_once": 1, "stop": Stop(), **settings})
    return ended


def test_jobs_run_one_by_one_in_order(job):
    fake = Fake(codes={"bb": 3})
    ended = run([job("aaa"), job("bb"), job("c")], fake)
    assert ended == [("aaa", Ended.WELL, False), ("bb", Ended.BADLY, False), ("c", Ended.WELL, False)]
    assert fake.most == 1


def test_several_run_at_once_and_are_said_to_have_shared_the_machine(job):
    fake = Fake()
    ended = run([job("aaaaaa"), job("bb"), job("ccc"), job("d" * 20)], fake, at_once=2)
    assert fake.most == 2 and next(name for name, *_ in ended) == "bb"
    assert [shared for _, _, shared in ended] == [True] * 4


def test_what_follows_a_job_comes_before_those_that_wait(job):
    ended = run([job("a"), job("b")], Fake(), follow={"a": [job("then"), job("last")]})
    assert [name for name, *_ in ended] == ["a", "then", "last", "b"]


def test_each_run_gets_gpus_of_its_own_and_gives_them_back(job):
    fake = Fake()
    jobs = [job("aaaa"), job("bb"), job("ccc"), job("eval", takes_gpus=False)]
    run(jobs, fake, at_once=3, gpus=Gpus(("0", "1", "3", "5"), 2))
    assert fake.events[:2] == [("aaaa", ("0", "1")), ("bb", ("3", "5"))]
    assert fake.events[2] == ("ccc", ("3", "5")) and fake.events[3] == ("eval", ()) and fake.most == 2


@pytest.mark.parametrize(
    ("environ", "count", "jobs", "per_run", "names"),
    [
        ({}, 0, 4, None, ()),
        ({}, 4, 2, None, ("0", "1", "2", "3")),
        ({"CUDA_VISIBLE_DEVICES": "3, 1"}, 9, 1, 2, ("3", "1")),
        ({"CUDA_VISIBLE_DEVICES": ""}, 9, 1, None, ()),
    ],
)
def test_gpus_are_those_of_the_variable_or_all(environ, count, jobs, per_run, names):
    found = deal(environ, lambda: count, jobs=jobs, per_run=per_run, per_run_named="--gpus-per-run")
    taken = found.take()
    assert taken == names[: found.per_run] and found.per_run == (per_run or min(1, len(names)))


def test_more_jobs_than_gpus_are_refused():
    with pytest.raises(ConfigError, match=r"--jobs 3 with 2 GPUs a run takes 6, and this machine has 4. Lower --jobs"):
        deal({}, lambda: 4, jobs=3, per_run=2, per_run_named="--gpus-per-run")
    with pytest.raises(ConfigError, match=r"takes 1, and CUDA_VISIBLE_DEVICES= names 0"):
        deal({"CUDA_VISIBLE_DEVICES": ""}, lambda: 4, jobs=1, per_run=1, per_run_named="--gpus-per-run")


def test_the_environment_of_a_job_has_no_rank_and_its_own_gpus(job):
    outer = {"RANK": "1", "MASTER_PORT": "29500", "PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0,1,2"}
    found = environment(outer, job("a", environ={"MINE": "1"}), ("2",))
    assert found == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "2", "MINE": "1", "PYTHONIOENCODING": "utf-8"}
    assert environment(outer, job("a"), ())["CUDA_VISIBLE_DEVICES"] == "0,1,2"
    assert environment(outer, job("a"), ("0", "2"))["NPROC_PER_NODE"] == "2"


def test_a_signal_stops_what_runs_and_starts_nothing_more(job):
    fake, stop = Fake(), Stop()
    ticks = []

    def tick():
        ticks.append(1)
        if len(ticks) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with stop.listening():
        ended = run([job("a" * 50), job("b")], fake, stop=stop, tick=tick)
    assert ended == [("a" * 50, Ended.STOPPED, False)] and stop.signal == signal.SIGTERM
    assert fake.events[-1] == ("a" * 50, "stop")


def test_a_second_ctrl_c_kills_what_runs(job):
    fake, stop = Fake(), Stop()

    def twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    fake.codes = {}
    with stop.listening(), pytest.raises(KeyboardInterrupt):
        run([job("a" * 50)], fake, stop=stop, tick=twice)
    assert fake.events[-1] == ("a" * 50, "kill")


def test_an_error_of_the_caller_leaves_nothing_running(job):
    fake = Fake()
    with pytest.raises(ZeroDivisionError):
        run([job("a" * 9)], fake, tick=lambda: 1 / 0)
    assert fake.events[-1] == ("a" * 9, "kill")


def test_output_is_added_to_the_log_and_may_go_to_a_file_of_its_own(job, tmp_path):
    code = "import sys; print('out'); print('err', file=sys.stderr)"
    first, second = job("a", code), job("a", code, output=tmp_path / "a.out")
    assert [ended for _, ended, _ in run([first, second], LocalProcesses())] == [Ended.WELL, Ended.WELL]
    assert sorted((tmp_path / "a.log").read_text().split()) == ["err", "err", "out"]
    assert (tmp_path / "a.out").read_text() == "out\n"


def test_an_exit_code_and_a_death_are_told(job):
    codes: list[int] = []

    def on_end(job: Job, outcome: Outcome) -> tuple[Job, ...]:
        codes.append(outcome.code)
        return ()

    run_jobs(
        [job("five", "import sys; sys.exit(5)"), job("dies", "import os; os.kill(os.getpid(), 9)")],
        LocalProcesses(),
        at_once=1,
        stop=Stop(),
        on_end=on_end,
    )
    assert codes == [5, -signal.SIGKILL]


def test_a_process_that_is_stopped_may_finish_what_it_does(job, tmp_path):
    code = (
        "import signal, sys, time\n"
        f"signal.signal(15, lambda *_: (open({str(tmp_path / 'kept')!r}, 'w').close(), sys.exit(0)))\n"
        f"open({str(tmp_path / 'began')!r}, 'w').close()\n"
        "time.sleep(60)"
    )
    stop = Stop()

    def tick():
        if (tmp_path / "began").exists():
            stop.signal = signal.SIGTERM

    ended = run([job("a", code)], LocalProcesses(), stop=stop, tick=tick)
    assert ended == [("a", Ended.WELL, False)] and (tmp_path / "kept").exists()
    assert not note_of(tmp_path / "a.log").exists()


RUNNER = """
import sys
from pathlib import Path
from dataflex.phases.job import Job
from dataflex.phases.processes import LocalProcesses
from dataflex.phases.run import Stop, run_jobs
sleeper = (sys.executable, "-S", "-c", "import time; print('begun', flush=True); time.sleep(60)")
job = Job(name="a", command=sleeper, log=Path(sys.argv[1]) / "a.log")
run_jobs([job], LocalProcesses(), at_once=1, stop=Stop(), on_end=lambda job, outcome: ())
"""


def test_what_a_killed_runner_left_is_found_and_stopped(tmp_path):
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path)])
    note = note_of(tmp_path / "a.log")
    deadline = time.monotonic() + 60
    while not (note.exists() and (tmp_path / "a.log").read_text() == "begun\n") and time.monotonic() < deadline:
        time.sleep(0.05)
    left = psutil.Process(json.loads(note.read_text())["pid"])
    runner.kill()
    runner.wait()
    assert left.is_running() and left.status() != psutil.STATUS_ZOMBIE
    reaper = threading.Thread(target=left.wait)  # in a container without an init it would stay a zombie
    reaper.start()
    assert stop_left_behind(tmp_path) == ["a"]
    reaper.join(30)
    assert not note.exists() and stop_left_behind(tmp_path) == []


def test_a_note_of_another_process_stops_nobody(tmp_path):
    note = note_of(tmp_path / "a.log")
    import socket

    own = {"host": socket.gethostname(), "pid": os.getpid(), "created": 1.0}
    for record in (own, {**own, "host": "elsewhere"}, {"host": own["host"]}):
        note.write_text(json.dumps(record))
        assert stop_left_behind(tmp_path) == [] and not note.exists()
    Path(note).write_text("half a rec")
    assert stop_left_behind(tmp_path) == []
