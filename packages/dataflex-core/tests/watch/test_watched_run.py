"""A real run that is watched while it decides, is killed, goes on and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataflex.decisions import DecisionLog
from dataflex.watch.page import page, viewer_of
from dataflex.watch.pulse import State
from dataflex.watch.view import View, Viewer

SCRIPT = """
import sys
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments

from dataflex.trainers import dynamic_trainer


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, input_ids, labels):
        return {"loss": (self.layer(input_ids) - labels).pow(2).mean()}


folder = Path(sys.argv[1])
pool = [{"input_ids": torch.tensor([float(row), 1.0]), "labels": torch.tensor([1.0])} for row in range(20)]
config = {"train_type": "dynamic_select", "component_name": "rows"}
config |= {"warmup_step": 1, "update_step": 2, "update_times": 3}
args = TrainingArguments(
    str(folder / "out"), per_device_train_batch_size=2, learning_rate=1e-4, use_cpu=True, report_to="none",
    logging_steps=1, save_steps=1, disable_tqdm=True,
)
made = dynamic_trainer(Trainer, config, plugins=[folder / "mine.py"])
trainer = made(model=Line(), args=args, train_dataset=pool)
trainer.train(resume_from_checkpoint=len(sys.argv) > 2)
"""
MINE = """
import time
from pathlib import Path
from dataflex import Selector, register_selector

@register_selector("rows")
class Rows(Selector):
    def select(self, model, step_id, num_samples):
        hold = Path(__file__).with_name(f"hold-{step_id}")
        hold.with_name(f"reached-{step_id}").touch()
        while hold.exists():
            time.sleep(0.02)
        return range(num_samples)
"""


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(folder / "script.py"), str(folder), *words]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < until
        time.sleep(0.05)


def look(viewer: Viewer) -> View:
    view = viewer.look()
    assert view.trouble == "" and view.run is not None
    return view


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_one_viewer_follows_a_run_through_its_death_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mine.py").write_text(MINE)
    for step in (3, 5):
        (tmp_path / f"hold-{step}").touch()
    with start(tmp_path) as process:
        wait_for(tmp_path / "reached-3", process)
        viewer = viewer_of(tmp_path / "out")
        assert isinstance(viewer, Viewer)
        view = look(viewer)
        assert view.sign.state is State.RUNNING and (tmp_path / "out" / "dataflex" / "alive").exists()
        assert dict(view.facts)["next boundary"] == "step 3: being decided"
        assert json.loads((tmp_path / "out" / "dataflex" / "lock").read_text())["pid"] == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
    view = look(viewer)
    assert view.sign.state is State.DEAD and view.sign.why == f"process {process.pid} is gone"
    assert dict(view.facts)["its last line"].startswith("step 3: ")
    (tmp_path / "hold-3").unlink()
    with start(tmp_path, "resume") as process:
        wait_for(tmp_path / "reached-5", process)
        view = look(viewer)
        assert view.sign.state is State.RUNNING and view.run is not None
        assert [each.step for each in view.run.decisions] == [1, 3]
        (tmp_path / "hold-5").unlink()
        _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said[-3000:]
    view = look(viewer)
    assert view.state == "ended after 7 steps" and view.share == 1.0 and view.run is not None
    assert list(view.run.decisions) == list(DecisionLog(tmp_path / "out"))
    assert not (tmp_path / "out" / "dataflex" / "alive").exists()
    assert "ended after 7 steps" in page(view)
