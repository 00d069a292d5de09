"""What a run writes down: decisions with scores and overlap, its log, what runs, samples to look at."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from dataflex.decisions import DecisionLog
from dataflex.errors import ComponentError
from dataflex.record.run import RunRecord
from dataflex.trainers import dynamic_trainer

KEYS = {
    "train_type": "dynamic_select",
    "component_name": "scored",
    "warmup_step": 1,
    "update_step": 2,
    "update_times": 2,
}
SCORED = """
import numpy as np
from dataflex import Selection, Selector, register_selector

@register_selector("scored")
class Scored(Selector):
    def __init__(self, dataset, accelerator, data_collator, cache_dir, api_key: str = "none"):
        super().__init__(dataset, accelerator, data_collator, cache_dir)

    def select(self, model, step_id, num_samples, **kwargs):
        scores = np.arange(len(self.dataset), dtype=float)
        scores[0] = np.nan
        first = 0 if step_id == 1 else 1  # the second choice shares all rows but one
        return Selection(range(first, first + num_samples), scores=scores)
"""
POOL = [{"input_ids": torch.tensor([float(row), 1.0]), "labels": torch.tensor([1.0])} for row in range(20)]


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, input_ids, labels):
        return {"loss": (self.layer(input_ids) - labels).pow(2).mean()}


class Letters:
    """Decodes row 3 to 'd'."""

    def decode(self, ids):
        return "".join("</script>" if number == 0 else chr(ord("a") + number) for number in ids[:1])

    def save_pretrained(self, folder):
        pass


@pytest.fixture
def make(tmp_path):
    def make(code=SCORED, keys=KEYS, domains=None, **arguments):
        mine = tmp_path / "mine.py"
        mine.write_text(code)
        given = {"report_to": "none", "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True, **arguments}
        args = TrainingArguments(
            str(tmp_path / "out"), per_device_train_batch_size=2, use_cpu=True, learning_rate=1e-4, **given
        )
        cls = dynamic_trainer(Trainer, keys, domains=domains, plugins=[mine])
        trainer = cls(model=Line(), args=args, train_dataset=POOL, eval_dataset=POOL[:4])
        trainer.processing_class = Letters()
        return trainer

    return make


def test_a_decision_has_scores_overlap_times_and_its_plan(make, tmp_path):
    make().train()
    first, second = DecisionLog(tmp_path / "out")
    assert first.scores["nan"] == 1 and first.scores["finite"] == 19
    assert first.scores["quantiles"][0] == 1.0 and first.scores["quantiles"][-1] == 19.0
    assert first.scores["chosen_quantiles"][-1] == 3.0
    assert "overlap" not in first.metrics and second.metrics["overlap"] == 0.75
    assert set(first.timing) == {"component_seconds", "planning_seconds"}
    assert sum(first.timing.values()) == pytest.approx(first.seconds)
    assert first.plan_ref == first.result_ref == "decisions/step-00000001.npy"


def test_the_share_of_each_domain_is_recorded_where_domains_are_known(make, tmp_path):
    make(domains={"low": 3, "high": 17}).train()
    first, second = DecisionLog(tmp_path / "out")
    assert first.metrics["domains"] == ["low", "high"]
    assert first.metrics["realised_samples"] == [0.75, 0.25] and second.metrics["samples"] == [2, 2]


def test_the_plan_of_the_warm_up_is_kept_but_is_no_decision(make, tmp_path):
    make().train()
    assert len(np.load(tmp_path / "out" / "decisions" / "plan-00000000.npy")) == 2
    assert [record.step for record in DecisionLog(tmp_path / "out")] == [1, 3]


def test_what_runs_and_how_it_ended_is_recorded_without_secrets(make, tmp_path):
    make(keys=KEYS | {"component_params": {"api_key": "hush"}}, hub_token="hush").train()
    text = (tmp_path / "out" / "dataflex" / "run.json").read_text()
    info = RunRecord(tmp_path / "out").info()
    assert (info.component, info.pool, info.global_batch, info.total) == ("scored", 20, 2, 5)
    assert (info.warmup, info.update, info.ending.steps) == (1, 2, 5)
    assert {"python", "torch", "transformers", "dataflex-core"} <= set(info.versions)
    assert "hush" not in text


def test_the_log_is_the_trainers_with_the_time_spent(make, tmp_path):
    trainer = make(save_strategy="steps", save_steps=2)
    trainer.train()
    log = list(RunRecord(tmp_path / "out").log())
    history = [{k: v for k, v in entry.items() if k != "total_flos"} for entry in trainer.state.log_history]
    assert [{**entry.values, "step": entry.step} for entry in log] == history  # a printing callback takes the flos out
    assert log[-1].seconds["elapsed"] >= log[-1].seconds["checkpoints"] > 0
    assert log[-1].seconds["decisions"] == pytest.approx(
        sum(record.seconds for record in DecisionLog(tmp_path / "out"))
    )


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_resumed_run_writes_the_same_record(make, tmp_path, stop):
    def kept():
        out = tmp_path / "out"
        decisions = [
            {name: value for name, value in json.loads(line).items() if name not in ("seconds", "timing")}
            for line in (out / "decisions.jsonl").read_text().splitlines()
        ]
        log = [
            (entry.step, {name: value for name, value in entry.values.items() if "second" not in name})
            for entry in RunRecord(out).log()
            if "train_runtime" not in entry.values
        ]
        plans = {path.name: np.load(path).tolist() for path in (out / "decisions").iterdir()}
        return decisions, log, plans, (out / "dataflex" / "samples.jsonl").read_text()

    torch.manual_seed(0)
    make(save_strategy="steps", save_steps=1).train()
    whole = kept()
    torch.manual_seed(0)
    make(save_strategy="steps", save_steps=1).train(str(tmp_path / "out" / f"checkpoint-{stop}"))
    assert kept() == whole


def test_a_fresh_run_in_a_used_folder_begins_its_record_anew(make, tmp_path):
    make().train()
    make(keys=KEYS | {"update_times": 1}).train()
    assert [record.step for record in DecisionLog(tmp_path / "out")] == [1]
    assert sorted(path.name for path in (tmp_path / "out" / "decisions").iterdir()) == [
        "plan-00000000.npy",
        "step-00000001.npy",
    ]
    assert [entry.step for entry in RunRecord(tmp_path / "out").log()] == [1, 1, 2, 3, 3]


def test_samples_are_those_chosen_most_and_least_as_text(make, tmp_path):
    make().train()
    samples = RunRecord(tmp_path / "out").samples()
    plans = [np.load(path).tolist() for path in (tmp_path / "out" / "decisions").iterdir()]
    counts = Counter(row for plan in plans for row in plan)
    assert [sample.chosen for sample in samples] == [counts[sample.row] for sample in samples]
    most, least = [[each for each in samples if each.most is end] for end in (True, False)]
    assert min(each.chosen for each in most) >= max(each.chosen for each in least) and least[0].chosen == 0
    by_row = {each.row: each for each in samples}
    assert by_row[2].text == "c" and by_row[2].score == 2.0 and by_row[2].most


def test_a_row_that_cannot_be_decoded_ends_no_run(make, tmp_path, caplog):
    trainer = make()
    trainer.processing_class.decode = lambda ids: 1 / 0
    trainer.train()
    assert "the samples to look at could not be written: ZeroDivisionError" in caplog.text
    assert RunRecord(tmp_path / "out").info().ending.steps == 5


def test_scores_of_another_shape_are_refused(make):
    with pytest.raises(ComponentError, match=r"scores of shape \[3\]; there must be one for each of the 20 rows"):
        make(SCORED.replace("scores=scores", "scores=scores[:3]")).train()


def test_decisions_are_in_the_event_file_that_tensorboard_shows(make, tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make(report_to="tensorboard", domains={"low": 3, "high": 17}).train()
    events = EventAccumulator(str(tmp_path / "events")).Reload()

    def read(name):
        return [(event.step, event.value) for event in events.Scalars(f"train/dataflex/{name}")]

    assert read("overlap") == [(3, 0.75)]
    assert read("distinct") == [(1, 4.0), (3, 4.0)]
    assert read("realised_samples/low") == [(1, 0.75), (3, 0.5)]
    assert read("score/q50") == [(1, 10.0), (3, 10.0)] and read("score/nan") == [(1, 1.0), (3, 1.0)]
    assert [step for step, _ in read("decision_seconds")] == [1, 3]


def test_the_log_tells_cpu_seconds_and_those_of_evaluations_apart(make, tmp_path):
    trainer = make(eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2)
    trainer.train()
    trained = next(entry for entry in RunRecord(tmp_path / "out").log() if "train_runtime" in entry.values)
    parts = ("decisions", "checkpoints", "evaluation")
    assert [name for name in parts if not trained.seconds[name] > 0 or not trained.seconds[f"cpu_{name}"] >= 0] == []
    assert trained.seconds["elapsed"] >= sum(trained.seconds[name] for name in parts)
    assert trained.seconds["cpu_elapsed"] >= sum(trained.seconds[f"cpu_{name}"] for name in parts)
    before = trained.seconds["evaluation"]
    trainer.evaluate()
    assert trainer.recorder.clock.read()["evaluation"] > before


def test_a_resumed_run_counts_on_from_its_checkpoint_not_from_its_last_log_entry(make, tmp_path):
    given = {"save_strategy": "steps", "save_steps": 3, "logging_steps": 2}
    make(**given).train()
    record = RunRecord(tmp_path / "out")
    lines = [json.loads(line) for line in record.seconds_path.read_text().splitlines()]
    kept = [line["seconds"] for line in lines if line["step"] == 3][-1]
    kept["elapsed"] = kept["elapsed"] + 1000
    record.seconds_path.write_text("".join(json.dumps({"step": step, "seconds": kept}) + "\n" for step in (3, 5)))
    make(**given).train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    log = list(record.log())
    assert [entry.seconds["elapsed"] > 1000 for entry in log] == [entry.step > 2 for entry in log]
    assert log[-1].seconds["elapsed"] < 1500
    assert next(json.loads(line)["step"] for line in record.seconds_path.read_text().splitlines()) == 3


def test_a_run_of_an_older_core_counts_on_from_its_log(make, tmp_path):
    given = {"save_strategy": "steps", "save_steps": 2}
    make(**given).train()
    record = RunRecord(tmp_path / "out")
    record.seconds_path.unlink()
    shown = next(entry for entry in record.log() if entry.step == 2).seconds["elapsed"]
    make(**given).train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert next(entry for entry in record.log() if entry.step == 3).seconds["elapsed"] > shown
