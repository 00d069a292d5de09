"""``dataflex regmix``: its phases, its hand-over files, kills in and between phases, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_phases import DOMAINS, SHARES, FakeTraining, losses

from dataflex.errors import ConfigError
from dataflex.phases.conduct import How
from dataflex.testing.tiny import tiny_rows, write_dataset, write_model
from dataflex_mixers_regmix import project
from dataflex_mixers_regmix.plan import plan_project
from dataflex_mixers_regmix.search import search
from dataflex_mixers_regmix.table import read_runs

COUNT = 8
NAMES = [f"run-{number:03d}" for number in range(1, COUNT + 1)]
ORDER = ["run-prior", *NAMES, "run-check", "final"]


def plan(root: Path, regmix: dict[str, Any] | None = None, **keys: Any) -> Any:
    section = {"runs": {"count": COUNT, "train_step": 20, "model_name_or_path": "small"}, **(regmix or {})}
    base = {
        "model_name_or_path": "large",
        "dataset": ",".join(DOMAINS),
        "eval_dataset": "a,b",
        "output_dir": str(root),
        "max_steps": 40,
        "per_device_train_batch_size": 2,
        "seed": 7,
        "regmix": section,
        **keys,
    }
    return plan_project({key: value for key, value in base.items() if value is not None}, Path("run.yaml"))


def conduct(planned: Any, training: FakeTraining, **settings: Any) -> None:
    project.run_project(planned, How(command="regmix", executor=training), **settings)


KNOWN: dict[bytes, Any] = {}


@pytest.fixture(autouse=True, scope="module")
def search_once() -> Iterator[None]:
    """Projects of the same runs find the same: a pure function is asked once."""

    def known(mixtures: Any, found: Any, wanted: Any) -> Any:
        key = b"".join(each.tobytes() for each in (mixtures, found, wanted.prior_K, wanted.most_K))
        if key not in KNOWN:
            KNOWN[key] = search(mixtures, found, wanted)
        return KNOWN[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(project, "search", known)
        patched.setattr(project, "draw", lambda answer, path: path.write_bytes(b""))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    training = FakeTraining()
    conduct(plan(root), training)
    assert training.started == ORDER
    return root


def answer(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "weights.json").read_text())
    return found


def test_each_phase_is_a_run_file_that_reads_what_the_ones_before_it_left(whole: Path) -> None:
    files = {
        path.stem: yaml.safe_load(path.read_text()) for path in [*whole.glob("*.yaml"), *whole.glob("runs/*.yaml")]
    }
    assert len(files) == COUNT + 3
    assert {keys["train_type"] for keys in files.values()} == {"static_mix"}
    assert {keys["mixture_unit"] for keys in files.values()} == {"tokens"}
    assert files["prior"]["mixture_sample_rule"] == "stratified" and "init_mixture_proportions" not in files["prior"]
    assert files["001"]["init_mixture_proportions"] == f"from:{whole / 'mixtures' / '001.json'}"
    for name in ("check", "final"):
        assert files[name]["init_mixture_proportions"] == f"from:{whole / 'weights.json'}"
    small, final = files["check"], files["final"]
    assert (small["model_name_or_path"], small["train_step"], "max_steps" in small) == ("small", 20, False)
    assert (final["model_name_or_path"], final["max_steps"]) == ("large", 40)
    assert small["do_eval"] and small["eval_on_each_dataset"] and "count" not in small


def test_the_mixture_is_better_than_every_run_and_the_table_says_so(whole: Path) -> None:
    runs, found = read_runs(whole / "runs.csv"), answer(whole)
    assert runs.mixtures_NK[0] == pytest.approx(SHARES) and len(runs.losses_NM) == COUNT + 1
    assert runs.losses_NM == pytest.approx(np.array([losses(shares) for shares in runs.mixtures_NK]))
    assert losses(found["average"]).mean() < runs.losses_NM.mean(axis=1).min() + 0.02
    assert found["rank_correlation"] > 0.9 and found["names"] == list(DOMAINS)
    # 40 steps of 2 rows of 100 tokens: 8,000, of which code may have 4 x 1,000
    assert found["caps"] == pytest.approx([1, 0.5, 1]) and found["average"][1] <= 0.5 + 1e-9


def test_a_second_call_trains_and_fits_nothing(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "search", lambda *_: pytest.fail("the law was fitted again"))
    training, before = FakeTraining(), answer(whole)
    conduct(plan(whole), training)
    assert training.started == [] and answer(whole) == before


@pytest.mark.parametrize("phase", ["run-prior", "run-003", "run-check", "final"])
@pytest.mark.parametrize("code", [137, 0])
def test_a_project_whose_phase_is_killed_or_stopped_ends_as_the_whole_one(
    tmp_path: Path, whole: Path, phase: str, code: int
) -> None:
    training = FakeTraining(fails={phase: code})
    with pytest.raises(SystemExit) as ended:
        conduct(plan(tmp_path), training)
    assert ended.value.code == code
    conduct(plan(tmp_path), training)
    assert sorted(training.started) == sorted([*ORDER, phase])
    assert training.started[-1] == "final"
    assert answer(tmp_path)["average"] == answer(whole)["average"]


@pytest.mark.parametrize("phase", ["run-001", "run-005", "run-check", "final"])
def test_a_project_that_is_killed_between_phases_goes_on_with_the_next(tmp_path: Path, whole: Path, phase: str) -> None:
    training = FakeTraining(dies=phase)
    with pytest.raises(MemoryError):
        conduct(plan(tmp_path), training)
    conduct(plan(tmp_path), training)
    assert training.started == ORDER
    assert answer(tmp_path)["average"] == answer(whole)["average"]


def test_a_kill_while_the_law_is_fitted_leaves_nothing_half(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = FakeTraining()
    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(project, "record", lambda *_: (_ for _ in ()).throw(MemoryError))
        conduct(plan(tmp_path), training)
    assert not (tmp_path / "weights.json").exists()
    conduct(plan(tmp_path), training)
    assert training.started == ORDER and answer(tmp_path)["average"] == answer(whole)["average"]


def test_a_law_that_ranks_nothing_stops_before_the_check_and_force_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataflex_mixers_regmix.search.LEAST_CORRELATION", 1.1)
    training = FakeTraining()
    with pytest.raises(ConfigError, match="the law cannot tell better mixtures from worse ones"):
        conduct(plan(tmp_path), training)
    assert training.started == ORDER[:-2] and (tmp_path / "predicted.png").is_file()
    conduct(plan(tmp_path), training, force=True)
    assert training.started == ORDER


def test_a_mixture_that_is_worse_than_the_prior_stops_before_the_final_run_with_both_numbers(tmp_path: Path) -> None:
    training = FakeTraining(worse="run-check")
    with pytest.raises(ConfigError, match=r"has a loss of 3\.\d{4}, worse than 2\.\d{4} at the prior.*--force"):
        conduct(plan(tmp_path), training)
    assert training.started == ORDER[:-1]
    conduct(plan(tmp_path), training, force=True)
    assert training.started == ORDER


def test_a_project_may_end_before_its_final_run(tmp_path: Path) -> None:
    planned = plan(tmp_path, {"final": None, "wanted_tokens": 8000})
    assert planned.final is None and planned.phases[-1].slug == "run-check"


def test_runs_by_default_are_three_a_domain_and_at_least_twenty(tmp_path: Path) -> None:
    assert len(plan(tmp_path, {"runs": {}}).runs) == 20


def test_a_prior_of_shares_is_what_the_first_run_samples_by(tmp_path: Path) -> None:
    prior = plan(tmp_path, {"prior": {"web": 2, "code": 1, "chat": 1}}).prior.keys
    assert prior["init_mixture_proportions"] == {"web": 0.5, "code": 0.25, "chat": 0.25}
    assert plan(tmp_path, {"prior": "uniform"}).prior.keys["mixture_sample_rule"] == "uniform"


def test_a_runs_own_keys_at_the_top_are_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = {"train_type": "dynamic_mix", "component_name": "loss", "init_mixture_proportions": [1, 0, 0]}
    planned = plan(tmp_path, **keys)
    assert "component_name" not in planned.final.keys
    assert "train_type, component_name, init_mixture_proportions (from run.yaml) at the top: dropped" in caplog.text


@pytest.mark.parametrize(
    ("regmix", "keys", "message"),
    [
        ({}, {"eval_dataset": None}, "eval_dataset is missing from run.yaml"),
        ({}, {"dataset": "web"}, "names one domain"),
        ({}, {"output_dir": None}, "output_dir is missing"),
        ({}, {"mixture_unit": "samples"}, "mixture_unit: samples .* shares here are of tokens"),
        ({"law": "lightgbm"}, {}, "regmix.law: lightgbm .* must be loglinear"),
        ({"run": {}}, {}, r"regmix.run .* is no key.*Did you mean 'runs'"),
        ({"runs": {"count": 4}}, {}, "regmix.runs.count: 4 .* at least 5"),
        ({"runs": [1]}, {}, "regmix.runs .* must be a mapping"),
        ({"final": {"dataset": "x"}}, {}, "regmix.final.dataset .* set it at the top"),
        ({"targets": {"c": 1}}, {}, "targets.c .* is no eval set; there are a, b"),
        ({"kl": -1}, {}, r"kl: -1 \(from regmix in run.yaml\)"),
        ({"prior": {"web": 1}}, {}, "prior .* names web, but there are web, code, chat"),
        ({}, {"resume_from_checkpoint": "x"}, "every phase goes on from its own last one"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, regmix: dict[str, Any], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(tmp_path, regmix, **keys)


@pytest.mark.slow
@pytest.mark.timeout(1500)  # eight processes, each of which imports LlamaFactory
def test_small_runs_find_a_mixture_that_the_final_run_trains_in(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    write_dataset(tmp_path / "data", web=tiny_rows(24), code=tiny_rows(12, seed=1), held=tiny_rows(6, seed=2))
    keys = {
        "model_name_or_path": str(tmp_path / "model"),
        "stage": "sft",
        "template": "qwen",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "web,code",
        "eval_dataset": "held",
        "dataset_dir": str(tmp_path / "data"),
        "cutoff_len": 64,
        "output_dir": str(tmp_path / "out"),
        "per_device_train_batch_size": 2,
        "learning_rate": 1.0e-3,
        "max_steps": 4,
        "report_to": "none",
        "use_cpu": True,
        "seed": 3,
        "regmix": {"runs": {"count": 4, "train_step": 2}},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(keys))
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "DISABLE_VERSION_CHECK": "1"}
    # Four runs of two steps rank nothing: what is tested is that all of it goes through.
    command = [sys.executable, "-m", "dataflex", "regmix", str(tmp_path / "run.yaml"), "--force", "--jobs", "2"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=1400)
    sys.stdout.write(done.stdout + done.stderr)
    assert done.returncode == 0
    out = tmp_path / "out"
    runs, found = read_runs(out / "runs.csv"), json.loads((out / "weights.json").read_text())
    assert runs.domains == ("web", "code") and runs.sets == ("held",) and len(runs.losses_NM) == 5
    assert found["names"] == ["web", "code"] and sum(found["average"]) == pytest.approx(1)
    assert found["prior"] == pytest.approx(runs.mixtures_NK[0].tolist()) and found["prior"][0] > found["prior"][1]
    state = json.loads((out / "final" / "trainer_state.json").read_text())
    assert state["global_step"] == 4
