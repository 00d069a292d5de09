"""``dataflex mixmin``: its phases, its hand-over files, kills in and between phases, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from fake_phases import DOMAINS, Ended, FakeTraining
from pyarrow import parquet

from dataflex.errors import ConfigError
from dataflex.phases.conduct import How
from dataflex.testing.tiny import tiny_rows, write_dataset, write_model
from dataflex_mixers_mixmin.plan import plan_project
from dataflex_mixers_mixmin.project import run_project

LOGS = {"web": (-2, -9, -4, -3), "code": (-6, -3, -5, -3.2), "chat": (-7, -8, -4.5, -9)}  # the hand-worked case
LENGTHS = [2, 3, 2, 2]
MODELS = [f"model-{name}" for name in DOMAINS]
SCORES = [f"score-{name}" for name in DOMAINS]
ORDER = [*MODELS, *SCORES, "final"]


class FakeScoring(FakeTraining):
    """Trains in no time, and scores the target by the table of the domain that a model is named after."""

    lengths = LENGTHS

    def start(self, job: Any, gpus: tuple[str, ...]) -> Any:
        if job.command[3] != "score":
            return super().start(job, gpus)
        if job.name == self.dies:
            self.dies = ""
            raise MemoryError("killed")
        self.started.append(job.name)
        if code := self.fails.pop(job.name, None):
            return Ended(code)
        keys, out = yaml.safe_load(Path(job.command[4]).read_text()), Path(job.command[job.command.index("--out") + 1])
        assert keys["dataset"] == "validation" and "output_dir" not in keys
        out.mkdir(parents=True)
        means = -np.array(LOGS[Path(keys["model_name_or_path"]).name], np.float64) / self.lengths
        table = {"score": [*means, np.nan], "tokens": [*self.lengths, 0]}  # the last row has no token to train on
        parquet.write_table(pa.table(table), out / "scores.parquet")
        (out / "summary.json").write_text("{}")
        return Ended(0)


def plan(root: Path, mixmin: dict[str, Any] | None = None, **keys: Any) -> Any:
    section = {"models": {"train_step": 20, "model_name_or_path": "small"}, "target": "validation", **(mixmin or {})}
    base = {
        "model_name_or_path": "large",
        "dataset": ",".join(DOMAINS),
        "dataset_dir": str(root),
        "output_dir": str(root),
        "max_steps": 40,
        "seed": 7,
        "mixmin": {key: value for key, value in section.items() if value is not None or key == "final"},
        **keys,
    }
    return plan_project({key: value for key, value in base.items() if value is not None}, Path("run.yaml"))


def conduct(planned: Any, training: FakeTraining) -> dict[str, Any]:
    run_project(planned, How(command="mixmin", executor=training))
    found: dict[str, Any] = json.loads((planned.root / "weights.json").read_text())
    return found


def test_one_model_a_domain_scores_the_target_and_the_final_run_reads_the_mixture(tmp_path: Path) -> None:
    training = FakeScoring()
    found = conduct(plan(tmp_path), training)
    assert training.started == ORDER
    assert found["names"] == list(DOMAINS) and found["rows"] == 4
    assert found["average"] == pytest.approx([0.71559, 0.28441, 0], abs=1e-5)
    assert found["loss"] == pytest.approx(1.551574, abs=1e-6) and min(found["loss_of_each"]) > found["loss"]
    code, final = (yaml.safe_load((tmp_path / name).read_text()) for name in ("models/code.yaml", "final.yaml"))
    assert code["init_mixture_proportions"] == {"web": 0.0, "code": 1.0, "chat": 0.0}
    assert (code["model_name_or_path"], code["train_step"], "max_steps" in code) == ("small", 20, False)
    assert final["init_mixture_proportions"] == f"from:{tmp_path / 'weights.json'}"
    assert (final["model_name_or_path"], final["max_steps"], final["train_type"]) == ("large", 40, "static_mix")


def test_a_second_call_trains_and_scores_nothing(tmp_path: Path) -> None:
    before = conduct(plan(tmp_path), FakeScoring())
    training = FakeScoring()
    assert conduct(plan(tmp_path), training) == before and training.started == []


def test_another_target_is_scored_anew(tmp_path: Path) -> None:
    conduct(plan(tmp_path, {"final": None}), FakeScoring())
    (tmp_path / "validation.json").write_text("[1]")
    (tmp_path / "dataset_info.json").write_text(json.dumps({"validation": {"file_name": "validation.json"}}))
    training = FakeScoring()
    conduct(plan(tmp_path, {"final": None}), training)
    assert training.started == SCORES


def test_models_that_are_given_are_scored_and_nothing_but_the_final_run_is_trained(tmp_path: Path) -> None:
    given = {name: str(tmp_path / "given" / name) for name in DOMAINS}
    for folder in given.values():
        Path(folder).mkdir(parents=True)
    training = FakeScoring()
    found = conduct(plan(tmp_path, {"models": given}), training)
    assert training.started == [*SCORES, "final"]
    assert found["average"] == pytest.approx([0.71559, 0.28441, 0], abs=1e-5)


@pytest.mark.parametrize("phase", ["model-web", "model-chat", "score-code", "final"])
def test_a_project_whose_phase_is_killed_ends_as_the_whole_one(tmp_path: Path, phase: str) -> None:
    training = FakeScoring(fails={phase: 137})
    with pytest.raises(SystemExit) as ended:
        conduct(plan(tmp_path), training)
    assert ended.value.code == 137
    assert conduct(plan(tmp_path), training)["average"] == pytest.approx([0.71559, 0.28441, 0], abs=1e-5)
    assert sorted(training.started) == sorted([*ORDER, phase]) and training.started[-1] == "final"


@pytest.mark.parametrize("phase", ["model-code", "score-web", "score-chat", "final"])
def test_a_project_that_is_killed_between_phases_goes_on_with_the_next(tmp_path: Path, phase: str) -> None:
    training = FakeScoring(dies=phase)
    with pytest.raises(MemoryError):
        conduct(plan(tmp_path), training)
    conduct(plan(tmp_path), training)
    assert training.started == ORDER


def test_a_target_of_long_rows_is_told_to_be_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    training = FakeScoring()
    training.lengths = [1, 1, 1, 1]
    for name, logs in LOGS.items():
        LOGS[name] = tuple(50.0 * value for value in logs)
    try:
        found = conduct(plan(tmp_path, {"final": None}), training)
    finally:
        for name, logs in LOGS.items():
            LOGS[name] = tuple(value / 50 for value in logs)
    assert found["average"] == pytest.approx([0.75, 0.25, 0], abs=0.01)
    assert "each model is best for" in " ".join(caplog.text.split())


def test_models_with_other_tokens_are_refused(tmp_path: Path) -> None:
    class Other(FakeScoring):
        def start(self, job: Any, gpus: tuple[str, ...]) -> Any:
            self.lengths = [2, 3, 2, 4] if job.name == "score-chat" else LENGTHS
            return super().start(job, gpus)

    with pytest.raises(ConfigError, match="cut validation into other tokens"):
        conduct(plan(tmp_path), Other())


@pytest.mark.parametrize(
    ("mixmin", "keys", "message"),
    [
        ({"target": None}, {"eval_dataset": "held"}, "mixmin.target is missing from run.yaml.*such as held"),
        ({"target": "a,b"}, {}, "mixmin.target: a,b .* must be one data set"),
        ({"unit": "token"}, {}, "mixmin.unit: token .* must be sample"),
        ({"model": {}}, {}, r"mixmin.model .* is no key.*Did you mean 'models'"),
        ({"models": {"web": "x"}}, {}, "mixmin.models .* names web, but there are web, code, chat"),
        (
            {"models": {"web": "x", "code": "y", "chat": "./no/where"}},
            {},
            "models.chat: ./no/where .* not exist",
        ),
        ({"models": [1]}, {}, "mixmin.models .* must be a mapping"),
        ({"final": {"dataset": "x"}}, {}, "mixmin.final.dataset .* set it at the top"),
        ({}, {"dataset": "web"}, "names one domain"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, mixmin: dict[str, Any], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(tmp_path, mixmin, **keys)


@pytest.mark.slow
@pytest.mark.timeout(1500)  # six processes, each of which imports LlamaFactory
def test_models_of_the_domains_find_a_mixture_that_the_final_run_trains_in(tmp_path: Path) -> None:
    pytest.importorskip("dataflex_selectors_loss")
    write_model(tmp_path / "model")
    write_dataset(tmp_path / "data", web=tiny_rows(24), code=tiny_rows(12, seed=1), held=tiny_rows(6, seed=2))
    keys = {
        "model_name_or_path": str(tmp_path / "model"),
        "stage": "sft",
        "template": "qwen",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "web,code",
        "dataset_dir": str(tmp_path / "data"),
        "cutoff_len": 64,
        "output_dir": str(tmp_path / "out"),
        "per_device_train_batch_size": 2,
        "learning_rate": 1.0e-3,
        "max_steps": 4,
        "report_to": "none",
        "use_cpu": True,
        "seed": 3,
        "mixmin": {"models": {"train_step": 3}, "target": "held"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(keys))
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "DISABLE_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "dataflex", "mixmin", str(tmp_path / "run.yaml"), "--jobs", "2"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=1400)
    sys.stdout.write(done.stdout + done.stderr)
    assert done.returncode == 0
    found = json.loads((tmp_path / "out" / "weights.json").read_text())
    assert found["names"] == ["web", "code"] and sum(found["average"]) == pytest.approx(1)
    assert found["rows"] == 6 and found["loss"] <= min(found["loss_of_each"]) + 1e-9
    state = json.loads((tmp_path / "out" / "final" / "trainer_state.json").read_text())
    assert state["global_step"] == 4
