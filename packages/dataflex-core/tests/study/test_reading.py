"""What a run cost, from the files it leaves: training and deciding, nothing else."""

from __future__ import annotations

import json

import pytest

from dataflex.decisions import Decision, DecisionLog
from dataflex.errors import ConfigError
from dataflex.record.run import Ending, Logged, RunInfo, RunRecord
from dataflex.study.reading import costs, curve, has_finished, phases_of, read_trained

INFO = {
    "train_type": "dynamic_select",
    "stage": "sft",
    "kind": "selector",
    "component": "loss",
    "dist": "dataflex-selectors-loss",
    "params": {},
    "arguments": {},
    "seed": 1,
    "global_batch": 8,
    "ranks": 1,
    "pool": 100,
    "domains": (),
    "domain_sizes": (),
    "warmup": 2,
    "update": 3,
    "total": 100,
    "versions": {},
}


def seconds(elapsed, decisions, checkpoints, evaluation, cpu=2.0):
    found = {"elapsed": elapsed, "decisions": decisions, "checkpoints": checkpoints, "evaluation": evaluation}
    return found | {f"cpu_{name}": cpu * value for name, value in found.items()}


def dynamic(folder, *, steps=100, spent=None, started="2026-01-01T00:00:00+00:00", ended=True, **metrics):
    """A finished dynamic run that trained 100 s, decided 41.4214 s, evaluated 6 s and saved 2 s."""
    record = RunRecord(folder)
    spent = spent or seconds(149.4214, 41.4214, 2.0, 6.0)
    half = {name: value / 2 for name, value in spent.items()}
    record.append(Logged(step=steps // 2, values={"loss": 5.0}, seconds=half))
    record.append(Logged(step=steps // 2, values={"eval_a_loss": 4.9, "eval_a_runtime": 6.0}, seconds=half))
    record.append(Logged(step=steps, values={"train_runtime": 150.0}, seconds=spent))
    late = {name: value + 50 for name, value in spent.items()}  # the evaluation at the end, and the final model
    record.append(Logged(step=steps, values={"eval_a_loss": 4.62, "eval_a_runtime": 9.0}, seconds=late))
    ending = Ending(steps=steps, metrics={}, written=ended)
    record.write_info(RunInfo(**INFO, started=started, ending=ending))
    (folder / "eval_results.json").write_text(json.dumps({"eval_a_loss": 4.62, "eval_a_runtime": 9.0, **metrics}))
    return folder


def static(folder, *, runtime=150.0, steps=100):
    folder.mkdir(parents=True)
    history = [{"step": 50, "eval_a_loss": 4.8, "eval_a_runtime": 20.0}, {"step": 100, "train_runtime": runtime}]
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": steps, "log_history": history}))
    (folder / "all_results.json").write_text(json.dumps({"train_runtime": runtime, "eval_a_loss": 4.7}))
    (folder / "eval_results.json").write_text(json.dumps({"eval_a_loss": 4.7, "eval_a_runtime": 10.0, "epoch": 1.0}))
    return folder


def test_starting_evaluating_and_saving_are_not_counted(tmp_path):
    run = read_trained(dynamic(tmp_path / "run"))
    assert run.steps == 100 and run.metrics == {"eval_a_loss": 4.62, "eval_a_runtime": 9.0}
    assert run.seconds.training == pytest.approx(100.0) and run.seconds.deciding == 41.4214
    assert (run.seconds.evaluating, run.seconds.saving, run.evaluation) == (6.0, 2.0, 9.0)
    whole, deciding = costs(run)
    assert whole == {"steps": pytest.approx(141.4214), "seconds": pytest.approx(141.4214)} | {
        "cpu_seconds": pytest.approx(282.8428)
    }
    assert deciding == {"steps": pytest.approx(41.4214), "seconds": 41.4214, "cpu_seconds": pytest.approx(82.8428)}


def test_steps_hardly_mind_a_busy_machine(tmp_path):
    slow = seconds(*(3 * value for value in (149.4214, 41.4214, 2.0, 6.0)))
    whole, _ = costs(read_trained(dynamic(tmp_path / "run", spent=slow)))
    assert whole["steps"] == pytest.approx(141.4214) and whole["seconds"] == pytest.approx(3 * 141.4214)


def test_a_static_run_costs_its_training_without_its_evaluations(tmp_path):
    run = read_trained(static(tmp_path / "run"))
    whole, deciding = costs(run)
    assert (run.seconds.training, run.seconds.evaluating, run.evaluation) == (130.0, 20.0, 10.0)
    assert whole == {"steps": 100.0, "seconds": 130.0, "cpu_seconds": None}
    assert deciding == {"steps": 0.0, "seconds": 0.0, "cpu_seconds": None}


def test_a_run_of_an_older_core_has_its_evaluations_taken_off_by_their_own_times(tmp_path):
    old = {"elapsed": 149.4214, "decisions": 41.4214, "checkpoints": 2.0}
    run = read_trained(dynamic(tmp_path / "run", spent=old))
    assert run.seconds.training == pytest.approx(100.0) and run.cpu is None
    assert costs(run)[0]["cpu_seconds"] is None


def deciding_at(folder, step, **metrics):
    known = {"stage": 1, "kind": "selector", "component": "rds", "dist": "d", "version": "1", "params": {}, "seed": 1}
    DecisionLog(folder).append(Decision(step=step, seconds=1.0, metrics=metrics, **known))


def test_an_index_that_lay_ready_costs_what_making_it_had_cost(tmp_path):
    folder = dynamic(tmp_path / "run")
    deciding_at(folder, 40, index_seconds_saved=20.0, index_cpu_seconds_saved=50.0)
    deciding_at(folder, 60, index_seconds_saved=10.0, index_cpu_seconds_saved=25.0, seconds=3.0)
    run = read_trained(folder)
    assert run.seconds.deciding == 41.4214  # as it was spent
    whole, deciding = costs(run)
    assert whole["seconds"] == pytest.approx(171.4214) and deciding["seconds"] == pytest.approx(71.4214)
    assert whole["steps"] == pytest.approx(171.4214) and deciding["steps"] == pytest.approx(71.4214)
    assert whole["cpu_seconds"] == pytest.approx(282.8428 + 75) and deciding["cpu_seconds"] == pytest.approx(157.8428)
    free, free_deciding = costs(run, counts_index=False)
    assert free["seconds"] == pytest.approx(141.4214) and free_deciding["cpu_seconds"] == pytest.approx(82.8428)
    (point,) = curve(folder, "eval_a_loss")  # at step 50: half the time, and the first index
    (unpaid,) = curve(folder, "eval_a_loss", counts_index=False)
    assert point.cost["seconds"] - unpaid.cost["seconds"] == 20.0
    assert point.cost["cpu_seconds"] - unpaid.cost["cpu_seconds"] == 50.0
    assert point.cost["steps"] > unpaid.cost["steps"]
    phase = read_trained(dynamic(tmp_path / "last", spent=seconds(100.0, 0.0, 0.0, 0.0)))
    assert costs(phase, [run])[1]["seconds"] == pytest.approx(100 + 71.4214)


def test_phases_before_the_last_one_are_deciding_complete_ones_too(tmp_path):
    names = {"reference": "T01", "proxy": "T02", "final": "T03"}
    for name, hour in names.items():
        spent = seconds(60.0, 10.0, 5.0, 5.0) if name != "final" else seconds(100.0, 0.0, 0.0, 0.0)
        dynamic(tmp_path / "round-1" / name, spent=spent, started=f"2026-01-01{hour}:00:00+00:00")
    phases = phases_of(tmp_path)
    assert [phase.name for phase in phases] == ["reference", "proxy", "final"]
    *before, last = map(read_trained, phases)
    whole, deciding = costs(last, before)
    # 40 s of training and 10 s of deciding in each of the first two, beside 100 s for the last one's 100 steps
    assert (whole["seconds"], deciding["seconds"], whole["steps"]) == (200.0, 100.0, 200.0)
    assert whole["cpu_seconds"] == 400.0


def test_the_metric_on_the_way_has_its_cost(tmp_path):
    (point,) = curve(dynamic(tmp_path / "run"), "eval_a_loss")
    assert (point.step, point.value) == (50, 4.9)
    assert point.cost["steps"] == pytest.approx(50 * 1.414214) and point.cost["seconds"] == pytest.approx(70.7107)
    (point,) = curve(static(tmp_path / "static"), "eval_a_loss")
    assert (point.step, point.value, point.cost) == (50, 4.8, {"steps": 50.0})


def test_a_run_has_finished_when_everything_is_written(tmp_path):
    assert has_finished(dynamic(tmp_path / "whole"))
    assert not has_finished(dynamic(tmp_path / "unwritten", ended=False))
    assert has_finished(static(tmp_path / "static"))
    (tmp_path / "static" / "eval_results.json").write_text('{"eval_a_lo')
    assert not has_finished(tmp_path / "static") and not has_finished(tmp_path / "nothing")


def test_numbers_that_are_none_are_kept_as_none(tmp_path):
    run = read_trained(dynamic(tmp_path / "run", eval_b_loss=float("nan"), word="x", truth=True))
    assert run.metrics["eval_b_loss"] is None and not {"word", "truth"} & run.metrics.keys()


def test_a_folder_that_no_run_ended_in_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not a run that has ended"):
        read_trained(tmp_path)
    record = RunRecord(tmp_path / "begun")
    record.write_info(RunInfo(**INFO, started="x"))
    with pytest.raises(ConfigError, match="not a run that has ended"):
        read_trained(tmp_path / "begun")
