"""Conducting a project: groups in order, several runs at once, what a group hands over, signals, failures."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_phases import FakeTraining

from dataflex.errors import ConfigError
from dataflex.phases.conduct import How, conduct
from dataflex.phases.foreground import Foreground
from dataflex.phases.job import Job
from dataflex.phases.phase import Group, Phase
from dataflex.phases.progress import Progress, progress
from dataflex.phases.run import Stop


def phase(root: Path, name: str, **keys: Any) -> Phase:
    shares = {"web": 0.5, "code": 0.25, "chat": 0.25}
    given = {"train_type": "static_mix", "init_mixture_proportions": shares, "max_steps": 4, "seed": 1, **keys}
    whole = {**given, "output_dir": str(root / name)}
    return Phase(title=f"phase {name}", slug=name, run_file=root / f"{name}.yaml", keys=whole)


def how(training: Any, **settings: Any) -> How:
    return How(command="acme", executor=training, **settings)


def test_each_group_begins_when_the_one_before_it_has_handed_over(tmp_path: Path) -> None:
    training, told = FakeTraining(), list[Any]()
    groups = [
        Group(phases=[phase(tmp_path, "a"), phase(tmp_path, "b")], then=lambda: told.append(list(training.started))),
        Group(phases=[phase(tmp_path, "c")], then=lambda: told.append(list(training.started))),
    ]
    conduct(groups, tmp_path, how(training))
    assert told == [["a", "b"], ["a", "b", "c"]]
    assert [progress(each) for group in groups for each in group.phases] == [Progress.COMPLETE] * 3
    conduct(groups, tmp_path, how(training))
    assert training.started == ["a", "b", "c"] and len(told) == 4  # what is handed over is made by every call


def test_jobs_of_a_group_run_after_its_phases_and_before_what_it_hands_over(tmp_path: Path) -> None:
    training, told = FakeTraining(fails={"extra": 3}), list[str]()
    extra = Job(name="extra", command=("x", "-m", "dataflex", "score"), log=tmp_path / "logs" / "extra.log")
    groups = [Group(phases=[phase(tmp_path, "a")], jobs=lambda: [extra], then=lambda: told.append("then"))]
    with pytest.raises(SystemExit) as ended:
        conduct(groups, tmp_path, how(training))
    assert (ended.value.code, training.started, told) == (3, ["a", "extra"], [])


def test_a_run_that_fails_leaves_the_others_to_end_and_nothing_is_handed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = FakeTraining(fails={"b": 7})
    phases = [phase(tmp_path, name) for name in "abc"]
    groups = [Group(phases=phases, then=lambda: pytest.fail("it handed over"))]
    with pytest.raises(SystemExit) as ended:
        conduct(groups, tmp_path, how(training))
    assert ended.value.code == 7 and training.started == ["a", "b", "c"]
    assert [str(progress(each)) for each in phases] == ["complete", "to do", "complete"]
    assert "phase b ended with exit code 7" in caplog.text


def test_so_many_runs_of_a_group_are_at_work_at_once(tmp_path: Path) -> None:
    class Slow(FakeTraining):
        at_work, most = 0, 0

        def start(self, job: Any, gpus: tuple[str, ...]) -> Any:
            super().start(job, gpus)
            self.at_work += 1
            self.most = max(self.most, self.at_work)
            return Working(self)

    class Working:
        def __init__(self, training: Slow) -> None:
            self._training, self._left = training, 2

        def poll(self) -> int | None:
            self._left -= 1
            self._training.at_work -= self._left == 0
            return 0 if self._left <= 0 else None

    training = Slow()
    conduct([Group(phases=[phase(tmp_path, name) for name in "abcd"])], tmp_path, how(training, jobs=3))
    assert training.most == 3


def test_a_signal_between_two_groups_stops_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    training = FakeTraining()
    groups = [
        Group(phases=[phase(tmp_path, "a")], then=lambda: os.kill(os.getpid(), signal.SIGTERM)),
        Group(phases=[phase(tmp_path, "b")]),
    ]
    with pytest.raises(SystemExit) as ended:
        conduct(groups, tmp_path, how(training))
    assert ended.value.code == 0 and training.started == ["a"]
    assert "stopped. The same command goes on from there." in caplog.text


def test_other_keys_of_a_later_phase_are_refused_before_the_first_one_starts(tmp_path: Path) -> None:
    training = FakeTraining()
    conduct([Group(phases=[phase(tmp_path, "b")])], tmp_path, how(training))
    groups = [Group(phases=[phase(tmp_path, "a")]), Group(phases=[phase(tmp_path, "b", seed=2)])]
    with pytest.raises(ConfigError, match=r"phase b in .* begun with other keys: seed was 1 and is now 2"):
        conduct(groups, tmp_path, how(training))
    assert training.started == ["b"]


def test_two_calls_never_work_in_one_folder(tmp_path: Path) -> None:
    with (tmp_path / ".acme.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another `dataflex acme`, or a phase it started, is still at work"):
            conduct([Group(phases=[phase(tmp_path, "a")])], tmp_path, how(FakeTraining()))


def in_foreground(lock: int, stop: Stop, code: str) -> Any:
    command = (sys.executable, "-S", "-c", code)
    return Foreground(lock, stop).start(Job(name="a", command=command, log=Path("unused.log")), ())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)])
def test_a_run_in_the_terminal_gets_sigterm_and_no_second_signal_at_ctrl_c(
    tmp_path: Path, number: int, code: int
) -> None:
    stop = Stop()
    with (tmp_path / "lock").open("w") as lock:
        running = in_foreground(lock.fileno(), stop, f"import time; time.sleep({60 if code else 0.5})")
        stop.signal = number
        running.stop()
        while (ended := running.poll()) is None:
            time.sleep(0.01)
    assert ended == code


def test_a_run_in_the_terminal_keeps_the_lock_of_a_command_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = in_foreground(lock.fileno(), Stop(), "import time; time.sleep(60)")
    held = subprocess.run(["flock", "-n", str(path), "true"], check=False).returncode
    running.kill()
    assert held == 1 and running.poll() is not None


def test_a_signal_to_the_command_reaches_the_run_in_the_terminal_which_ends_after_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The stand-in sends the command SIGTERM, and waits until that is handed on to it."""
    code = (
        "import os, signal, time; got = []; signal.signal(signal.SIGTERM, lambda *_: got.append(1)); "
        "os.kill(os.getppid(), signal.SIGTERM)\nwhile not got: time.sleep(0.01)\n"
    )
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable} -S\n{code}")
    script.chmod(0o755)
    monkeypatch.setattr("dataflex.phases.conduct.sys.executable", str(script))
    groups = [Group(phases=[phase(tmp_path, "a")]), Group(phases=[phase(tmp_path, "b")])]
    with pytest.raises(SystemExit) as ended:
        conduct(groups, tmp_path, How(command="acme"))
    assert ended.value.code == 0 and not (tmp_path / "b").exists()
    assert "phase a was stopped before its last step. The same command goes on from there." in caplog.text
