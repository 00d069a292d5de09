"""Phases of ``dataflex doremi`` that end before their last step: the next one follows, or the reason is told."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from dataflex.errors import ConfigError
from dataflex.record.run import Ending, RunInfo, RunRecord
from dataflex_mixers_doremi.group_dro import GroupDro
from dataflex_mixers_doremi.mixer import DoremiMixer
from dataflex_mixers_doremi.phases import PhaseName, plan_phases
from dataflex_mixers_doremi.run import run_phases

EARLY = Ending(steps=5, metrics={}, ended_by="early stopping")


def plan(folder: Path) -> Any:
    keys = {"model_name_or_path": "m", "dataset": "web,code", "max_steps": 13, "output_dir": str(folder)}
    return plan_phases({**keys, "doremi": {}}, 1, Path("run.yaml"))


def write_model(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"trained")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the phases that were started; each ends by early stopping at step 5, and a proxy leaves its weights."""
    titles: list[str] = []

    class Ended:
        def poll(self) -> int:
            return 0

    def start(self: Any, job: Any, gpus: Any) -> Ended:
        titles.append(job.name)
        output_dir = Path(yaml.safe_load(Path(job.command[4]).read_text())["output_dir"])
        info = RunInfo(
            train_type="static_mix", stage="sft", kind="mixer", component="static", dist="", params={}, arguments={},
            seed=1, global_batch=2, ranks=1, pool=4, domains=(), domain_sizes=(), warmup=13, update=1, total=13,
            versions={}, started="", ending=EARLY,
        )  # fmt: skip
        RunRecord(output_dir).write_info(info)
        write_model(output_dir)
        if output_dir.name == PhaseName.PROXY and not (output_dir.parent / "unmoved").exists():
            (output_dir / "weights.json").write_text("{}")
        return Ended()

    monkeypatch.setattr("dataflex.phases.foreground.Foreground.start", start)
    return titles


def test_a_phase_that_ended_early_is_complete_and_the_next_one_follows(
    tmp_path: Path, started: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with caplog.at_level("INFO", "dataflex"):
            run_phases(plan(tmp_path), tmp_path, [])
    assert started == ["round-1-reference", "round-1-proxy", "round-1-final"]  # the second call trains nothing
    told = "round 1, proxy ended early after 5 of 13 steps, by early stopping; the average of its weights is over these"
    assert told in caplog.text


def test_a_proxy_without_weights_stops_the_project_with_the_reason(tmp_path: Path, started: list[str]) -> None:
    (tmp_path / "round-1").mkdir()
    (tmp_path / "round-1" / "unmoved").touch()
    with pytest.raises(ConfigError, match="round 1, proxy ended at step 5, before it had moved a weight"):
        run_phases(plan(tmp_path), tmp_path, [])
    assert started == ["round-1-reference", "round-1-proxy"]


def test_a_proxy_that_an_older_version_took_for_complete_is_ended_again(tmp_path: Path, started: list[str]) -> None:
    phases = plan(tmp_path)
    for phase in phases[:2]:
        phase.output_dir.mkdir(parents=True)
        write_model(phase.output_dir)
        record = {"complete": True, "keys": dict(phase.keys), "weights": None, "reference": None}
        (phase.output_dir / "phase.json").write_text(json.dumps(record))
    run_phases(phases, tmp_path, [])
    assert started == ["round-1-proxy", "round-1-final"]


def test_the_average_of_a_run_is_over_the_steps_it_made_and_there_is_none_without_a_step(tmp_path: Path) -> None:
    mixer = object.__new__(DoremiMixer)
    mixer.context = SimpleNamespace(rank=0, output_dir=tmp_path, domain_names=("web", "code"), data_keys={})  # type: ignore[assignment]
    mixer.params = SimpleNamespace(eta=1.0, smoothing=0.0, average_from_start=False)  # type: ignore[assignment]
    mixer._hashes = {}
    mixer.dro = GroupDro.begin(2, 1.0)
    mixer.finished(0)
    assert not (tmp_path / "weights.json").exists()
    for alpha in ([0.6, 0.4], [0.8, 0.2]):
        mixer.dro.alpha = np.array(alpha)
        mixer.dro.total = mixer.dro.total + mixer.dro.alpha
        mixer.dro.steps += 1
    mixer.finished(2)
    found = json.loads((tmp_path / "weights.json").read_text())
    assert found["steps"] == 2 and found["average"] == pytest.approx([0.7, 0.3])
