"""Jobs as tasks of a real Ray on this machine: ``nox -s ray``, in an environment that has it."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from dataflex.errors import ConfigError
from dataflex.phases.job import Ended, Job
from dataflex.phases.run import Stop, run_jobs

ray = pytest.importorskip("ray", reason="Ray is not installed: nox -s ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tasks():
    from dataflex.phases.on_ray import RayTasks

    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield RayTasks()
    ray.shutdown()


@pytest.fixture
def job(tmp_path):
    def job(name, code="pass", **settings):
        return Job(name=name, command=(sys.executable, "-c", code), log=tmp_path / f"{name}.log", **settings)

    return job


def run(jobs, tasks, **settings):
    ended = {}
    given = {"at_once": 100, "stop": Stop(), **settings}
    run_jobs(jobs, tasks, on_end=lambda job, outcome: ended.update({job.name: outcome}) or (), **given)
    return ended


def test_ray_queues_all_jobs_and_each_has_its_log_and_exit_code(tasks, job, tmp_path, monkeypatch):
    monkeypatch.setenv("DATAFLEX_MARK", "from the driver")
    code = "import os, sys; print(os.environ['DATAFLEX_MARK'], os.environ['OWN'], os.getcwd()); sys.exit({})"
    jobs = [job(f"job{number}", code.format(number), environ={"OWN": "x"}, output=tmp_path / f"{number}.txt")
            for number in range(5)]  # fmt: skip
    ended = run(jobs, tasks)
    assert {name: outcome.code for name, outcome in ended.items()} == {f"job{number}": number for number in range(5)}
    assert {(tmp_path / f"{number}.txt").read_text() for number in range(5)} == {f"from the driver x {os.getcwd()}\n"}


def test_a_signal_cancels_the_tasks_and_what_runs_may_finish_its_step(tasks, job, tmp_path):
    code = (
        "import signal, sys, time\n"
        f"signal.signal(15, lambda *_: (time.sleep(2), open({str(tmp_path / 'kept')!r}, 'w').close(), sys.exit(0)))\n"
        f"open({str(tmp_path / 'began')!r}, 'w').close()\n"
        "time.sleep(120)"
    )
    stop = Stop()

    def tick():
        if (tmp_path / "began").exists():
            stop.signal = signal.SIGTERM

    waiting = [job(f"waits{number}", "import time; time.sleep(120)") for number in range(4)]
    ended = run([job("a", code), *waiting], tasks, stop=stop, tick=tick)
    assert (tmp_path / "kept").exists() and len(ended) == 5  # waited for, before the driver may end
    assert {outcome.ended for outcome in ended.values()} <= {Ended.STOPPED, Ended.WELL}


def test_a_folder_that_all_nodes_see_passes_and_leaves_nothing(tasks, tmp_path):
    tasks.require_shared(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_more_gpus_than_the_cluster_has_are_refused(tasks):
    from dataflex.phases.on_ray import RayTasks

    with pytest.raises(ConfigError, match=r"--gpus-per-run 3: no run could start, as the Ray cluster has 0 GPUs"):
        RayTasks(gpus_per_run=3)


def test_a_study_runs_on_ray_and_goes_on_there(tasks, tmp_path, monkeypatch):
    import json
    from dataclasses import replace

    import fake_study
    import yaml

    from dataflex.study.checks import Tools
    from dataflex.study.conduct import Options, conduct
    from dataflex.study.file import read_study_file

    class OnRay(fake_study.FakeProcesses):
        def start(self, job, gpus):
            self.started.append(job.name)
            return tasks.start(replace(job, command=(sys.executable, fake_study.__file__, *job.command[3:])), gpus)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dataflex.phases.on_ray._INHERITED", ("DATAFLEX_", "PYTHONPATH"))
    base = {"do_eval": True, "eval_dataset": "a", "eval_on_each_dataset": True, "train_type": "dynamic_select",
            "component_name": "random", "warmup_step": 2, "update_step": 4, "update_times": 2}  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(base))
    arms = {"random": {}, "loss": {"component_name": "loss"}, "less": {"component_name": "less"}}
    keys = {"base": "run.yaml", "arms": arms, "metric": "eval_a_loss", "seeds": [1, 2], "out": "out"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))
    tools = Tools(check=lambda run: None, check_command=lambda command, run: None, defaults={})
    executor = OnRay()
    conduct(read_study_file(tmp_path / "study.yaml"), tools, Options(executor=executor, jobs=100), fake_study.Silent())
    record = json.loads((tmp_path / "out/study.json").read_text())
    assert [run["status"] for run in record["runs"]] == ["done"] * 6 and len(executor.started) == 6
    conduct(read_study_file(tmp_path / "study.yaml"), tools, Options(executor=executor, jobs=100), fake_study.Silent())
    assert len(executor.started) == 6
