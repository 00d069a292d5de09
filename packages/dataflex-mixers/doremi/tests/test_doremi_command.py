"""``dataflex doremi``: what it plans and refuses."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dataflex.errors import ConfigError
from dataflex.phases.model_size import parameters, spell
from dataflex.phases.progress import Progress, note, progress
from dataflex.scoring.reference.model import model_identity
from dataflex.testing.tiny import tiny_rows, write_dataset, write_model
from dataflex_mixers_doremi import cli
from dataflex_mixers_doremi.phases import PhaseName, plan_phases
from dataflex_mixers_doremi.run import run_phases

BASE = {"model_name_or_path": "large", "dataset": "web,code", "output_dir": "out", "max_steps": 40, "seed": 1}
SMALL = {"model_name_or_path": "small"}


def plan(rounds: int = 1, **keys: Any) -> list[Any]:
    return plan_phases({**BASE, **keys}, rounds, Path("run.yaml"))


def test_three_phases_share_the_keys_at_the_top_and_have_their_own() -> None:
    reference, proxy, final = plan(doremi={"reference": SMALL, "proxy": SMALL | {"max_steps": 30}})
    assert [phase.name for phase in (reference, proxy, final)] == list(PhaseName)
    assert [phase.keys["model_name_or_path"] for phase in (reference, proxy, final)] == ["small", "small", "large"]
    assert [phase.length for phase in (reference, proxy, final)] == ["40 steps", "30 steps", "40 steps"]
    assert [phase.keys["train_type"] for phase in (reference, proxy, final)] == [
        "static_mix",
        "dynamic_mix",
        "static_mix",
    ]
    assert reference.keys["mixture_sample_rule"] == "uniform"
    assert proxy.keys["init_mixture_proportions"] == {"web": 0.5, "code": 0.5}
    assert proxy.keys["component_params"] == {"reference": "out/round-1/reference"}
    assert final.keys["init_mixture_proportions"] == "from:out/round-1/proxy/weights.json"
    assert all(phase.keys["seed"] == 1 and phase.keys["resume_from_checkpoint"] for phase in (reference, proxy, final))


def test_a_reference_may_have_proportions_of_its_own() -> None:
    reference, _, _ = plan(doremi={"reference": {"init_mixture_proportions": [0.9, 0.1]}})
    assert reference.keys["mixture_sample_rule"] == "mixture"


def test_a_proxy_that_counts_epochs_counts_its_updates_by_them() -> None:
    _, proxy, _ = plan(max_steps=-1, num_train_epochs=2)
    assert proxy.keys["update_times"] == -1 and "train_step" not in proxy.keys and "max_steps" not in proxy.keys


@pytest.mark.parametrize("phase", list(PhaseName))
def test_a_phase_with_steps_of_its_own_does_not_train_for_those_of_all(phase: PhaseName) -> None:
    found = next(each for each in plan(doremi={phase.value: {"train_step": 12}}) if each.name is phase)
    assert found.keys["train_step"] == 12 and "max_steps" not in found.keys
    assert found.length == "12 steps"


def test_a_proxy_may_count_its_updates_instead() -> None:
    _, proxy, _ = plan(doremi={"proxy": {"warmup_step": 2, "update_step": 5, "update_times": 3}})
    assert not {"train_step", "max_steps"} & proxy.keys.keys()
    assert proxy.length == "17 steps"


def test_both_lengths_in_one_phase_are_left_for_the_run_to_refuse() -> None:
    _, proxy, _ = plan(doremi={"proxy": {"train_step": 12, "max_steps": 9}})
    assert (proxy.keys["train_step"], proxy.keys["max_steps"]) == (12, 9)


def test_phases_that_count_epochs_say_what_is_not_known_yet() -> None:
    lengths = {phase.length for phase in plan(max_steps=-1, num_train_epochs=2)}
    assert lengths == {"2 epochs (steps known once the data is read)"}


def test_files_beside_the_run_file_are_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, here = tmp_path / "theirs", tmp_path / "here"
    for folder in (theirs, here):
        folder.mkdir()
        (folder / "both.py").touch()
    for name in ("presets.yaml", "found.json"):
        (theirs / name).touch()
    monkeypatch.chdir(here)
    keys = {
        **BASE,
        "components_cfg_file": "presets.yaml",
        "plugins": ["both.py", "no:somebodys", "missing.py"],
        "doremi": {"final": {"init_mixture_proportions": "from:found.json"}},
    }
    phases = plan_phases(keys, 1, theirs / "run.yaml")
    assert {phase.keys["components_cfg_file"] for phase in phases} == {str(theirs / "presets.yaml")}
    assert phases[0].keys["plugins"] == [str(theirs / "both.py"), "no:somebodys", "missing.py"]
    assert phases[2].keys["init_mixture_proportions"] == f"from:{theirs / 'found.json'}"
    assert phases[1].keys["component_params"] == {"reference": "out/round-1/reference"}


def test_the_parameters_of_the_proxy_are_the_mixers() -> None:
    _, proxy, _ = plan(doremi={"proxy": {"component_params": {"eta": 0.5}, "update_step": 7}})
    assert proxy.keys["component_params"] == {"reference": "out/round-1/reference", "eta": 0.5}
    assert proxy.keys["update_step"] == 7


def test_a_second_round_begins_with_what_the_first_has_found() -> None:
    phases = plan(2)
    assert [(phase.round, str(phase.name)) for phase in phases] == [
        (1, "reference"),
        (1, "proxy"),
        (2, "reference"),
        (2, "proxy"),
        (2, "final"),
    ]
    assert phases[2].keys["init_mixture_proportions"] == "from:out/round-1/proxy/weights.json"
    assert phases[4].keys["init_mixture_proportions"] == "from:out/round-2/proxy/weights.json"
    assert [dict(phase.keys) for phase in plan(1)[:2]] == [dict(phase.keys) for phase in phases[:2]]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"component_params": [1]}, r"component_params: \[1\] \(from run.yaml\) must be a mapping"),
        ({"resume_from_checkpoint": "out/checkpoint-2"}, r"every phase goes on from its own last one"),
        ({"doremi": {"proxy": [1]}}, r"doremi.proxy .* must be a mapping of keys to values"),
        ({"doremi": {"proxy": {"component_name": "loss"}}}, r"doremi.proxy.component_name: loss .* mixer doremi"),
        ({"doremi": {"prox": {}}}, r"doremi.prox .* is no phase.*Did you mean 'proxy'"),
        ({"doremi": [1]}, r"doremi .* must be a mapping"),
        ({"dataset": None}, r"dataset is missing from run.yaml"),
        (
            {"doremi": {"final": {"dataset": "web,books"}}},
            r"doremi.final.dataset .* web, books, but the run file web, code",
        ),
        (
            {"doremi": {"proxy": {"output_dir": "x"}}},
            r"doremi.proxy.output_dir .* phases lie in the output_dir at the top",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(**keys)


RUN = {
    "train_type": "dynamic_mix",
    "component_name": "doremi",
    "component_params": {"reference": "somewhere", "eta": 0.5},
    "init_mixture_proportions": [0.7, 0.3],
    "mixture_unit": "tokens",
    "warmup_step": 2,
    "update_step": 5,
    "update_times": 2,
    "max_steps": None,
}
"""What a run file of the mixer has at its top, and a project has not."""


def test_a_run_file_of_the_mixer_is_a_project(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        reference, proxy, final = plan(**RUN)
    assert [phase.length for phase in (reference, proxy, final)] == ["12 steps"] * 3
    assert [phase.keys["train_type"] for phase in (reference, proxy, final)] == [
        "static_mix",
        "dynamic_mix",
        "static_mix",
    ]
    assert reference.keys["init_mixture_proportions"] == [0.7, 0.3]
    assert (reference.keys["mixture_sample_rule"], reference.keys["mixture_unit"]) == ("mixture", "tokens")
    assert proxy.keys["init_mixture_proportions"] == {"web": 0.5, "code": 0.5}
    assert proxy.keys["component_params"] == {"reference": "out/round-1/reference", "eta": 0.5}
    assert (proxy.keys["train_step"], proxy.keys["warmup_step"]) == (12, 0)
    assert final.keys["init_mixture_proportions"] == "from:out/round-1/proxy/weights.json"
    for phase in (reference, final):
        assert not {"component_name", "component_params", "update_step", "update_times", "train_step"} & set(phase.keys)
    assert "mixture_unit" not in {*proxy.keys, *final.keys}
    (dropped,) = [line for line in caplog.messages if "dropped" in line]
    assert dropped == "train_type, component_name (from run.yaml) at the top: dropped, each phase has its own."
    assert any("warmup_step=2 + update_step=5 x update_times=2" in line and "12" in line for line in caplog.messages)


def test_what_the_section_of_a_phase_says_wins_over_the_top() -> None:
    sections = {
        "reference": {"init_mixture_proportions": [0.9, 0.1], "num_train_epochs": 2},
        "proxy": {"component_params": {"eta": 2.0}, "train_step": 7},
        "final": {"max_steps": 9},
    }
    reference, proxy, final = plan(**RUN, doremi=sections)
    assert reference.keys["init_mixture_proportions"] == [0.9, 0.1]
    assert proxy.keys["component_params"]["eta"] == 2.0
    lengths = [phase.length for phase in (reference, proxy, final)]
    assert lengths == ["2 epochs (steps known once the data is read)", "7 steps", "9 steps"]


@pytest.mark.parametrize("steps", [{"train_step": 8}, {"train_step": 8, "warmup_step": 1, "update_step": 3}])
def test_train_step_at_the_top_is_the_length_of_every_phase(steps: dict[str, int]) -> None:
    assert {phase.length for phase in plan(max_steps=None, **steps)} == {"8 steps"}


def test_update_times_without_end_leaves_the_length_to_the_epochs() -> None:
    phases = plan(max_steps=None, warmup_step=1, update_step=2, update_times=-1, num_train_epochs=2)
    assert {phase.length for phase in phases} == {"2 epochs (steps known once the data is read)"}


def test_parameters_of_another_component_at_the_top_are_not_the_proxys(caplog: pytest.LogCaptureFixture) -> None:
    _, proxy, _ = plan(component_name="loss", component_params={"temperature": 0.3})
    assert proxy.keys["component_params"] == {"reference": "out/round-1/reference"}
    assert any("those of component_name: loss" in line for line in caplog.messages)


def test_a_preset_of_the_mixer_at_the_top_is_the_proxys(tmp_path: Path) -> None:
    presets = tmp_path / "presets.yaml"
    presets.write_text("mixers:\n  slow: {name: doremi, params: {eta: 0.1}}\n  other: {name: loss}\n")
    keys = {**BASE, "components_cfg_file": str(presets), "component_params": {"smoothing": 0.01}}
    _, proxy, _ = plan_phases({**keys, "component_name": "slow"}, 1, tmp_path / "run.yaml")
    assert proxy.keys["component_name"] == "slow" and proxy.keys["component_params"]["smoothing"] == 0.01
    _, proxy, _ = plan_phases({**keys, "component_name": "other"}, 1, tmp_path / "run.yaml")
    assert proxy.keys["component_name"] == "doremi" and "smoothing" not in proxy.keys["component_params"]


def test_a_project_without_a_runs_keys_shares_its_other_mixture_keys_as_before() -> None:
    assert {phase.keys["mixture_unit"] for phase in plan(mixture_unit="tokens")} == {"tokens"}


def test_every_problem_of_a_project_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        plan(0, **{**RUN, "update_step": "5", "output_dir": None}, doremi={"prox": {}})
    assert [len(refused.value.args[0].splitlines())] == [4]
    for word in ("--rounds 0", "update_step: '5'", "output_dir is missing", "doremi.prox"):
        assert word in str(refused.value)


def test_two_lengths_at_the_top_that_differ_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_steps: 40 .* differs from the 12 steps of warmup_step=2 \+ update"):
        plan(**{**RUN, "max_steps": 40})


def test_no_round_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="--rounds 0 must be at least 1"):
        plan(0)


def record(phase: Any, *, complete: bool = True, **changes: Any) -> None:
    phase.output_dir.mkdir(parents=True, exist_ok=True)
    kept = {"complete": complete, "keys": {**phase.keys, **changes}, "weights": None, "reference": None}
    (phase.output_dir / "phase.json").write_text(json.dumps(kept))


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Output directories that hold something to go on from."""
    folders: set[Path] = set()

    def latest(folder: Path) -> tuple[Path | None, dict[Path, str]]:
        return (folder / "checkpoint-2" if folder in folders else None), {}

    monkeypatch.setattr("dataflex.phases.progress.latest_valid", latest)
    return folders


def test_a_phase_is_to_do_begun_or_complete(tmp_path: Path, checkpoints: set[Path]) -> None:
    reference, proxy, final = plan(output_dir=str(tmp_path))
    record(reference)
    record(proxy, complete=False)
    checkpoints.add(proxy.output_dir)
    assert [progress(phase) for phase in (reference, proxy, final)] == [
        Progress.COMPLETE,
        Progress.BEGUN,
        Progress.TO_DO,
    ]


@pytest.mark.parametrize("complete", [True, False])
def test_a_phase_that_was_begun_with_other_keys_is_refused_with_both_values(
    tmp_path: Path, checkpoints: set[Path], complete: bool
) -> None:
    reference, _, _ = plan(output_dir=str(tmp_path))
    record(reference, complete=complete, seed=2)
    checkpoints.add(reference.output_dir)
    with pytest.raises(ConfigError, match=r"round 1, reference in .* begun with other keys: seed was 2 and is now 1"):
        progress(reference)


def test_a_phase_without_a_checkpoint_is_to_do_whatever_it_was_begun_with(tmp_path: Path) -> None:
    reference, _, _ = plan(output_dir=str(tmp_path))
    record(reference, complete=False, seed=2)
    assert progress(reference) is Progress.TO_DO


def test_keys_that_leave_the_result_as_it_is_may_change(tmp_path: Path) -> None:
    proxy = plan(output_dir=str(tmp_path), save_steps=5, doremi={"proxy": {"component_params": {"eta": 0.5}}})[1]
    params = {**proxy.keys["component_params"], "cache_dir": "elsewhere"}
    free = {"logging_steps": 9, "report_to": "none", "save_total_limit": 1, "dataloader_num_workers": 2}
    record(proxy, **free, save_steps=50, component_params=params)
    assert progress(proxy) is Progress.COMPLETE
    record(proxy, component_params={**params, "eta": 2.0})
    with pytest.raises(ConfigError, match=r"component_params was .*2.0.* and is now .*0.5"):
        progress(proxy)


def test_a_proxy_whose_reference_has_changed_is_refused(tmp_path: Path) -> None:
    reference, proxy, _ = plan(output_dir=str(tmp_path))
    reference.output_dir.mkdir(parents=True)
    (reference.output_dir / "config.json").write_text("{}")
    weights = reference.output_dir / "model.safetensors"
    weights.write_bytes(b"as it was")
    record(proxy)
    kept = json.loads((proxy.output_dir / "phase.json").read_text())
    identity = model_identity(str(reference.output_dir))
    (proxy.output_dir / "phase.json").write_text(json.dumps({**kept, "reference": identity}))
    assert progress(proxy) is Progress.COMPLETE
    weights.write_bytes(b"trained anew")
    with pytest.raises(ConfigError, match=r"round 1, proxy in .* another reference than .*reference is now"):
        progress(proxy)


def test_a_complete_phase_in_whose_folder_another_run_was_begun_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = plan(output_dir=str(tmp_path))[0]
    begun_last = "first"
    monkeypatch.setattr("dataflex.phases.progress._run_id", lambda phase: begun_last)
    note(reference, complete=True)
    assert progress(reference) is Progress.COMPLETE
    begun_last = "second"
    with pytest.raises(ConfigError, match=r"round 1, reference was complete, and another run was begun in .* since"):
        progress(reference)
    record(reference)  # of an earlier release
    assert progress(reference) is Progress.COMPLETE


def end_with(code: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    started: list[str] = []

    class Ended:
        def poll(self) -> int:
            return code

    def start(self: Any, job: Any, gpus: Any) -> Ended:
        started.append(job.name)
        return Ended()

    monkeypatch.setattr("dataflex.phases.foreground.Foreground.start", start)
    return started


def test_a_phase_that_was_refused_at_its_start_takes_a_corrected_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started = end_with(2, monkeypatch)
    for rate in (-1.0, 1e-3):
        with pytest.raises(SystemExit), caplog.at_level("ERROR", "dataflex"):
            run_phases(plan(output_dir=str(tmp_path), learning_rate=rate), tmp_path, [])
    assert started == ["round-1-reference"] * 2
    assert "begins it anew: there is no checkpoint" in caplog.text and "goes on" not in caplog.text


def test_a_phase_that_was_stopped_says_that_it_goes_on(
    tmp_path: Path, checkpoints: set[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    end_with(137, monkeypatch)
    phases = plan(output_dir=str(tmp_path))
    checkpoints.add(phases[0].output_dir)
    with pytest.raises(SystemExit) as caught, caplog.at_level("ERROR", "dataflex"):
        run_phases(phases, tmp_path, [])
    assert caught.value.code == 137
    assert "ended with exit code 137. The same command goes on from its last checkpoint." in caplog.text


@pytest.mark.parametrize("code", [1, 0])
def test_a_phase_that_cannot_go_on_from_its_checkpoints_promises_nothing(
    tmp_path: Path,
    checkpoints: set[Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: int,
) -> None:
    end_with(code, monkeypatch)
    phases = plan(output_dir=str(tmp_path), save_only_model=True)
    checkpoints.add(phases[0].output_dir)
    with pytest.raises(SystemExit), caplog.at_level("WARNING", "dataflex"):
        run_phases(phases, tmp_path, [])
    assert f"Delete {phases[0].output_dir} to begin it anew" in caplog.text and "save_only_model" in caplog.text
    assert "goes on" not in caplog.text


def test_a_phase_that_sigterm_has_stopped_is_not_complete_and_no_other_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started = end_with(0, monkeypatch)  # as a run that has written its checkpoint, but no ending of its record
    phases = plan(output_dir=str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        run_phases(phases, tmp_path, [])
    assert caught.value.code == 0
    assert started == ["round-1-reference"]
    assert "round 1, reference was stopped before its last step. The same command goes on" in caplog.text
    assert not json.loads((phases[0].output_dir / "phase.json").read_text())["complete"]


def test_a_final_phase_whose_weights_have_changed_is_refused(tmp_path: Path) -> None:
    final = plan(output_dir=str(tmp_path))[2]
    record(final)
    kept = json.loads((final.output_dir / "phase.json").read_text())
    (final.output_dir / "phase.json").write_text(json.dumps({**kept, "weights": "0" * 64}))
    with pytest.raises(ConfigError, match=r"begun with other weights than .*weights.json has now"):
        progress(final)


def test_complete_phases_start_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phases = plan(output_dir=str(tmp_path))
    for phase in phases:
        record(phase)
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: pytest.fail("a phase was started"))
    run_phases(phases, tmp_path, [])
    assert all(phase.run_file.is_file() for phase in phases)


def test_two_calls_never_work_in_one_folder(tmp_path: Path) -> None:
    handle = os.open(tmp_path / ".doremi.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(ConfigError, match="another `dataflex doremi`, or a phase it started, is still at work"):
            run_phases(plan(output_dir=str(tmp_path)), tmp_path, [])
    finally:
        os.close(handle)


def test_several_nodes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNODES", "2")
    with pytest.raises(ConfigError, match="runs on one node"):
        run_phases(plan(output_dir=str(tmp_path)), tmp_path, [])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A run file of a tiny model and two data sets."""
    model = write_model(tmp_path / "model")
    data = write_dataset(tmp_path / "data", web=tiny_rows(8), code=tiny_rows(8))
    run = tmp_path / "run.yaml"
    keys = {"stage": "pt", "do_train": True, "finetuning_type": "full", "max_steps": 4, "dataset": "web,code"}
    paths = {"model_name_or_path": model, "dataset_dir": data, "output_dir": tmp_path / "out"}
    run.write_text(json.dumps(keys | {name: str(path) for name, path in paths.items()}))
    return run


def test_a_dry_run_prints_phases_steps_and_model_sizes_and_writes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as caught, caplog.at_level("INFO", "dataflex"):
        cli.main([str(project), "--dry-run", "--json", "doremi.final.max_steps=9"])
    assert not caught.value.code
    assert any(line.startswith("checking the run files of 3 phases") for line in caplog.messages)
    rows = json.loads(capsys.readouterr().out)
    assert [(row["phase"], row["length"]) for row in rows] == [
        ("round 1, reference", "4 steps"),
        ("round 1, proxy", "4 steps"),
        ("round 1, final", "9 steps"),
    ]
    from transformers import AutoModelForCausalLM

    model = project.parent / "model"
    real = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_pretrained(model).parameters())
    assert {row["parameters"] for row in rows} == {real}
    assert not (project.parent / "out").exists()


def test_it_says_what_takes_seconds_before_the_interpreter_starts(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    def run(*args: Any, **kwargs: Any) -> Any:
        said.extend(caplog.messages)
        return subprocess.CompletedProcess(args, 2)

    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(SystemExit), caplog.at_level("INFO", "dataflex"):
        cli.main([str(project), "--dry-run"])
    assert any("which loads LlamaFactory: some seconds" in line for line in said)


@pytest.mark.parametrize("call", [["--dry-run"], []])
def test_what_a_later_phase_would_refuse_is_refused_before_the_first_trains(
    project: Path, capfd: pytest.CaptureFixture[str], call: list[str]
) -> None:
    mistakes = ["doremi.proxy.component_params.etta=1", "doremi.final.init_mixture_proportions=[1,1,1]"]
    with pytest.raises(SystemExit) as caught:
        cli.main([str(project), *mistakes, *call])
    assert caught.value.code == 2
    said = capfd.readouterr().err
    assert "mixer 'doremi' has no parameter 'etta' (from round-1-proxy.yaml). Did you mean 'eta'?" in said
    assert "init_mixture_proportions (from round-1-final.yaml) has 3 values for 2 domains (web, code)" in said
    assert not (project.parent / "out").exists()


def test_a_data_set_that_nobody_described_is_refused_before_anything_trains(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(project), "dataset=nope,code"])
    assert caught.value.code == 2
    assert "cannot find dataset: nope, code" in capfd.readouterr().err


def test_a_model_that_is_nowhere_is_refused_before_anything_trains(project: Path) -> None:
    missing = project.parent / "missing"
    with pytest.raises(ConfigError, match=r"missing of round 1, final is neither a folder with a model nor found"):
        cli.main([str(project), f"doremi.final.model_name_or_path={missing}"])


def test_a_number_of_parameters_is_spelled_as_people_write_it(tmp_path: Path) -> None:
    assert [spell(count) for count in (None, 12, 26_400, 494_000_000, 1_540_000_000)] == [
        "?",
        "12",
        "26.4 k",
        "494 M",
        "1.54 B",
    ]
    assert parameters(str(tmp_path / "missing"), {}) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [(["missing.yaml"], "missing.yaml does not exist"), (["{run}", "--dry-run", "eta"], "'eta' .* not an override")],
)
def test_mistakes_on_the_command_line_are_refused(tmp_path: Path, words: list[str], message: str) -> None:
    run = tmp_path / "run.yaml"
    run.write_text("dataset: web,code\n")
    with pytest.raises(ConfigError, match=message):
        cli.main([word.format(run=run) for word in words])
