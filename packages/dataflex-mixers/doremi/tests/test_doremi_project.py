"""All phases of ``dataflex doremi`` on three kinds of real text, in one piece and killed in each."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import pydoc_data.topics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dataflex.decisions import DecisionLog
from dataflex.record.run import RunRecord
from dataflex.testing.tiny import write_dataset, write_model

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("doremi")]

STEPS = 6
KILL = '''
"""Ends each phase once, right after its first checkpoint, as a machine that fails does."""
import os, signal
from pathlib import Path
from dataflex import hookimpl
from dataflex.trainers.dynamic import DynamicMixin

@hookimpl
def dataflex_decision(decision):
    """A file given with -p has to hold a hook or a component."""

save = DynamicMixin._save_checkpoint

def save_and_die(self, *args, **kwargs):
    save(self, *args, **kwargs)
    mark = Path(self.args.output_dir) / "was-killed"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)

DynamicMixin._save_checkpoint = save_and_die
'''

STOP = """
import time
from pathlib import Path
import psutil
from dataflex import hookimpl
from transformers import TrainerCallback
from dataflex.trainers.dynamic import DynamicMixin
from dataflex.trainers.stopping import StopAtSignal

@hookimpl
def dataflex_decision(decision):
    "A file given with -p has to hold a hook or a component."

class Scheduler(TrainerCallback):
    "Tells `dataflex doremi` in the middle of the proxy's training to stop, and waits until that is passed on."

    def __init__(self, trainer):
        self.trainer = trainer

    def on_step_begin(self, args, state, control, **kwargs):
        proxy = Path(args.output_dir)
        if state.global_step == 3 and proxy.name == "proxy":
            asked = {"doremi", str(proxy.parents[1].with_suffix(".yaml"))}
            (project,) = [each for each in psutil.process_iter(["cmdline"]) if asked <= set(each.info["cmdline"] or ())]
            project.terminate()
            (stop,) = [one for one in self.trainer.callback_handler.callbacks if isinstance(one, StopAtSignal)]
            while not stop._marked:
                time.sleep(0.01)

train = DynamicMixin.train

def train_for_a_while(self, *args, **kwargs):
    self.add_callback(Scheduler(self))
    return train(self, *args, **kwargs)

DynamicMixin.train = train_for_a_while
"""


def texts() -> dict[str, list[dict[str, str]]]:
    """Code, reference prose and docstrings that every Python brings."""
    import argparse
    import logging
    import statistics

    modules = (argparse, logging, statistics)
    code = "\n".join(inspect.getsource(module) for module in modules)
    docs = [inspect.getdoc(value) or "" for module in modules for value in vars(module).values() if callable(value)]
    prose = "\n".join(pydoc_data.topics.topics[name] for name in ("if", "for", "while", "import", "class"))

    def pieces(text: str, length: int = 160) -> list[dict[str, str]]:
        return [{"text": text[start : start + length]} for start in range(0, 30 * length, length)]

    return {"code": pieces(code), "prose": pieces(prose), "docs": pieces("\n".join(docs))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("project")
    write_model(made / "small")
    write_model(made / "large", hidden=48, seed=1)
    write_dataset(made / "data", **texts())
    info = {name: {"file_name": f"{name}.jsonl", "columns": {"prompt": "text"}} for name in texts()}
    (made / "data" / "dataset_info.json").write_text(json.dumps(info))
    (made / "kill.py").write_text(KILL)
    (made / "stop.py").write_text(STOP)
    return made


def run_file(folder: Path, name: str, **keys: Any) -> Path:
    values = {
        "model_name_or_path": str(folder / "large"),
        "stage": "pt",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "code,prose,docs",
        "dataset_dir": str(folder / "data"),
        "cutoff_len": 96,
        "output_dir": str(folder / name),
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1.0e-3,
        "max_steps": STEPS,
        "logging_steps": 1,
        "save_steps": 2,
        "report_to": "none",
        "use_cpu": True,
        "seed": 3,
        "doremi": {phase: {"model_name_or_path": str(folder / "small")} for phase in ("reference", "proxy")},
        **keys,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def call(*words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "DISABLE_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "dataflex", *words]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=500)
    sys.stdout.write(done.stdout + done.stderr)
    return done


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A project in one piece."""
    done = call("doremi", str(run_file(folder, "whole")))
    assert done.returncode == 0 and "on other rows" not in done.stdout + done.stderr
    return folder / "whole" / "round-1"


def test_weights_go_from_phase_to_phase_by_name(whole: Path) -> None:
    weights = json.loads((whole / "proxy" / "weights.json").read_text())
    assert weights["names"] == ["code", "prose", "docs"] and weights["steps"] == STEPS
    assert sum(weights["average"]) == pytest.approx(1) and sum(weights["last"]) == pytest.approx(1)
    assert weights["average"] != pytest.approx([1 / 3] * 3, abs=1e-3)
    assert set(weights) == {"names", "average", "last", "steps", "eta", "smoothing", "hashes", "data"}
    assert weights["data"] == RunRecord(whole / "final").info().data
    assert weights["data"]["cutoff_len"] == 96 and weights["data"]["stage"] == "pt"
    state = json.loads((whole / "final" / "trainer_state.json").read_text())
    assert state["global_step"] == STEPS


def test_every_boundary_and_the_end_are_recorded_and_logged(whole: Path) -> None:
    records = list(DecisionLog(whole / "proxy"))
    assert [record.step for record in records] == list(range(STEPS + 1))
    weights = json.loads((whole / "proxy" / "weights.json").read_text())
    last = records[-1].metrics
    assert last["alpha"] == weights["last"] and last["alpha_average"] == weights["average"]
    assert {"excess", "epochs", "domain_tokens", "proportions", "realised_tokens"} <= last.keys()
    alphas = [record.metrics["alpha"] for record in records[1:]]  # after steps 1, 2, ...
    assert np.mean(alphas, axis=0) == pytest.approx(weights["average"])
    history = json.loads((whole / "proxy" / "trainer_state.json").read_text())["log_history"]
    logged = [[entry[f"dataflex/alpha/{name}"] for name in weights["names"]] for entry in history if "loss" in entry]
    assert logged == [pytest.approx(alpha) for alpha in alphas]


@pytest.mark.timeout(1500)  # ten processes, each of which imports LlamaFactory
def test_killed_in_each_phase_a_project_goes_on_to_the_same_weights_and_model(folder: Path, whole: Path) -> None:
    project = run_file(folder, "killed")
    codes = [call("doremi", str(project), "-p", str(folder / "kill.py")).returncode for _ in range(4)]
    assert [code != 0 for code in codes] == [True, True, True, False]
    killed = folder / "killed" / "round-1"
    assert sorted(path.parent.name for path in killed.glob("*/was-killed")) == ["final", "proxy", "reference"]
    here, there = (json.loads((path / "proxy" / "weights.json").read_text()) for path in (killed, whole))
    assert here == there
    for phase in ("reference", "proxy", "final"):
        assert digest(killed / phase) == digest(whole / phase)


@pytest.mark.timeout(900)
def test_a_project_that_sigterm_stops_in_a_phase_goes_on_there(folder: Path, whole: Path) -> None:
    project = run_file(folder, "stopped", save_strategy="no")
    stopped = folder / "stopped" / "round-1"
    first = call("doremi", str(project), "-p", str(folder / "stop.py"))
    assert first.returncode == 0
    assert not (stopped / "proxy" / "weights.json").exists() and not (stopped / "final").exists()
    text = " ".join((first.stdout + first.stderr).split())
    assert "round 1, proxy was stopped before its last step. The same command goes on from there." in text
    assert call("doremi", str(project)).returncode == 0
    here, there = (json.loads((path / "proxy" / "weights.json").read_text()) for path in (stopped, whole))
    assert here == there
    assert digest(stopped / "final") == digest(whole / "final")


def test_the_run_files_by_hand_give_the_same(folder: Path, whole: Path) -> None:
    """The run files a project writes are ordinary ones; only the folder differs here."""
    for phase in ("reference", "proxy", "final"):
        text = (whole / f"{phase}.yaml").read_text().replace(str(folder / "whole"), str(folder / "by-hand"))
        path = folder / f"by-hand-{phase}.yaml"
        path.write_text(text)
        assert call("train", str(path)).returncode == 0
    assert digest(folder / "by-hand" / "round-1" / "final") == digest(whole / "final")


def test_a_domain_that_was_renamed_between_phases_is_refused_before_training(folder: Path, whole: Path) -> None:
    keys = yaml.safe_load((whole / "final.yaml").read_text())
    info = json.loads((folder / "data" / "dataset_info.json").read_text())
    renamed = folder / "renamed"
    renamed.mkdir(exist_ok=True)
    for name in info:
        (renamed / f"{name}.jsonl").write_bytes((folder / "data" / f"{name}.jsonl").read_bytes())
    (renamed / "dataset_info.json").write_text(json.dumps({"source": info["code"], **info}))
    keys |= {"dataset": "source,prose,docs", "dataset_dir": str(renamed), "output_dir": str(folder / "refused")}
    path = folder / "refused.yaml"
    path.write_text(yaml.safe_dump(keys))
    done = call("train", str(path))
    assert done.returncode == 2
    assert "init_mixture_proportions" in done.stderr and "'code'" in done.stderr
    assert not list((folder / "refused").glob("checkpoint-*"))


def test_a_reference_of_another_vocabulary_is_refused_before_training(folder: Path, whole: Path) -> None:
    other = write_model(folder / "other", seed=2)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    first, second = sorted(vocab)[:2]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    keys = yaml.safe_load((whole / "proxy.yaml").read_text())
    keys |= {"component_params": {"reference": str(other)}, "output_dir": str(folder / "vocabulary")}
    path = folder / "vocabulary.yaml"
    path.write_text(yaml.safe_dump(keys))
    done = call("train", str(path))
    assert done.returncode == 2
    assert "has another vocabulary" in done.stderr and "2 differ" in done.stderr
