"""What a user of ``dataflex train`` sees, and what is kept, when something breaks from outside."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny_runs import NOTE_SELECT, call, kill_all, weights_digest

pytestmark = pytest.mark.slow

RUN = NOTE_SELECT | {"component_name": "random", "component_params": None, "components_cfg_file": None}
SCORING = RUN | {"component_name": "less", "component_params": {"shard_seconds": 1e-6}, "val_size": 8}
WAITING = RUN | {"component_name": "waiting", "warmup_step": 5, "update_step": 15, "update_times": 1}
WAITS = """
import time
from pathlib import Path
from dataflex import Selector, register_selector

@register_selector("waiting")
class Waiting(Selector):
    "Random rows, once the test lets it go on."

    def select(self, model, step_id, num_samples, **kwargs):
        while Path({wait!r}).exists():
            time.sleep(0.05)
        return self.context.rng(step_id).permutation(len(self.dataset))[:num_samples]
"""


def command(run_file, *overrides):
    return [sys.executable, "-m", "dataflex", "train", str(run_file), *overrides]


@pytest.fixture
def wait(workshop):
    """While this file exists, a run with the component ``waiting`` comes to its first boundary and no further."""
    path = workshop.out / "wait"
    path.touch()
    (workshop.out / "waits.py").write_text(WAITS.format(wait=str(path)))
    return path


@pytest.fixture
def running(workshop):
    """Start runs and wait until they train; whatever is left of them is killed."""
    processes = []

    def start(run_file, **environ):
        log = workshop.out / f"{run_file.stem}.log"
        with log.open("w") as file:
            # A process of its own from the beginning: its number is what a second run names.
            fixed = {"OMP_NUM_THREADS": "1", "DISABLE_VERSION_CHECK": "1", "DATAFLEX_WARM_SOCKET": ""}
            process = subprocess.Popen(
                command(run_file), env={**os.environ, **fixed, **environ}, stdout=file, stderr=subprocess.STDOUT
            )
        processes.append(process)
        while "'loss':" not in log.read_text():
            assert process.poll() is None, log.read_text()[-4000:]
            time.sleep(0.05)
        return process, log

    yield start
    for process in processes:
        kill_all(process)


@pytest.mark.fault(
    "two runs in one output directory", kept="the run that was there first; the second one changes nothing"
)
def test_a_second_run_in_one_output_directory_is_refused_while_the_first_one_ends_well(workshop, running, wait, seen):
    waiting = WAITING | {"plugins": [str(workshop.out / "waits.py")]}
    run_file = workshop.run_file("shared", **waiting)
    first, log = running(run_file)
    second = call(*command(run_file))

    message = seen(second.stderr[second.stderr.index("Error: ") :])
    assert second.returncode == 2
    assert f"another run writes to output_dir: {workshop.out / 'shared'} (process {first.pid} on " in message
    assert "Traceback" not in second.stderr

    first.send_signal(signal.SIGTERM)  # and SIGTERM through the command line
    wait.unlink()
    assert first.wait(timeout=120) == 0, log.read_text()[-3000:]
    (kept,) = (workshop.out / "shared").glob("checkpoint-*")
    assert f"resume_from_checkpoint={kept}" in log.read_text().replace("\n", "").replace(" ", "")
    assert not (workshop.out / "shared" / "dataflex" / "lock").exists()

    whole = workshop.run_file("whole", **waiting)
    for run, overrides in ((whole, []), (run_file, [f"resume_from_checkpoint={kept}"])):
        assert call(*command(run, *overrides)).returncode == 0
    assert weights_digest(workshop.out / "shared") == weights_digest(workshop.out / "whole")


@pytest.mark.fault("Ctrl-C", kept="the last whole checkpoint, which is named; the same command goes on from it")
def test_ctrl_c_says_in_one_line_which_checkpoint_to_go_on_from(workshop, running, wait, seen):
    keys = WAITING | {"plugins": [str(workshop.out / "waits.py")], "save_strategy": "steps", "save_steps": 2}
    run_file, out = workshop.run_file("stopped", **keys), workshop.out / "stopped"
    process, log = running(run_file)
    while not (out / "checkpoint-4" / "dataflex" / "COMPLETE").is_file():  # the decision is due at step 5
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130, log.read_text()[-3000:]

    text = log.read_text()
    assert "Traceback" not in text and not (out / "dataflex" / "lock").exists()
    (line,) = [line for line in text.splitlines() if "interrupted" in line]
    assert line.endswith(f"interrupted. Go on with the same command and resume_from_checkpoint={out / 'checkpoint-4'}")
    seen(line[line.index("interrupted") :])
    wait.unlink()
    for run in (run_file, workshop.run_file("whole", **keys)):
        assert call(*command(run)).returncode == 0
    assert weights_digest(out) == weights_digest(workshop.out / "whole")


def test_ctrl_c_before_anything_has_loaded_is_told_too(workshop, tmp_path):
    loading = tmp_path / "loading"
    plugin = tmp_path / "slow.py"
    plugin.write_text(f"import time\nfrom pathlib import Path\nPath({str(loading)!r}).touch()\ntime.sleep(600)\n")
    run_file = workshop.run_file("early", **RUN | {"plugins": [str(plugin)]})
    process = subprocess.Popen(command(run_file), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not loading.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in said
    assert "interrupted. There is no checkpoint to go on from: the same command begins anew." in said
    assert not (workshop.out / "early").exists()


@pytest.mark.fault("SIGTERM to a run of two ranks", kept="a checkpoint of a step at which all ranks know of it")
def test_two_ranks_agree_on_the_step_to_stop_at(workshop, running, wait, seen):
    keys = {"plugins": [str(workshop.out / "waits.py")], "per_device_train_batch_size": 1}
    run_file = workshop.run_file("two", **WAITING | keys)
    process, log = running(run_file, FORCE_TORCHRUN="1", NPROC_PER_NODE="2")
    process.send_signal(signal.SIGTERM)
    wait.unlink()
    assert process.wait(timeout=120) == 0, log.read_text()[-3000:]

    (kept,) = (workshop.out / "two").glob("checkpoint-*")
    assert (kept / "dataflex" / "COMPLETE").is_file()
    text = " ".join(log.read_text().split())
    seen(text[text.index("stopped by SIGTERM") :].partition(" [")[0][:200])
    assert int(kept.name.removeprefix("checkpoint-")) % 10 == 0


@pytest.mark.fault("the output directory cannot be written to", kept="nothing has begun; no model was loaded")
def test_an_output_directory_that_cannot_be_written_to_is_refused_before_anything_loads(workshop, seen):
    (workshop.out / "file").write_text("in the way")
    run_file = workshop.run_file("file", **RUN)
    for environ in ({}, {"FORCE_TORCHRUN": "1"}):
        done = call(*command(run_file), **environ)
        message = seen(done.stderr[done.stderr.index("Error: ") :])
        assert done.returncode == 2
        assert f"output_dir: {workshop.out / 'file'} cannot be written to" in message
        assert "Loading weights" not in done.stderr and "torch.distributed" not in done.stderr


@pytest.mark.fault("the disk is full while scores are kept in cache_dir", kept="the run: it goes on without them")
def test_scores_that_cannot_be_kept_change_nothing_in_the_run(workshop, train, monkeypatch, caplog, seen):
    train(workshop.run_file("whole", **SCORING))
    assert "scores could not be kept" not in caplog.text

    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("dataflex.scoring.shards.write_atomically", full)
    train(workshop.run_file("full", **SCORING))

    told = [message for message in caplog.messages if message.startswith("scores could not be kept in ")]
    assert len(told) >= 2 and "[Errno 28] No space left on device" in seen(told[0])  # at both boundaries
    whole, without = (workshop.out / name for name in ("whole", "full"))
    plans = sorted(path.relative_to(whole) for path in (whole / "decisions").glob("*.npy"))
    assert len(plans) >= 2
    for plan in plans:
        np.testing.assert_array_equal(
            np.load(without / plan, allow_pickle=False), np.load(whole / plan, allow_pickle=False)
        )
    assert weights_digest(without) == weights_digest(whole)
