"""Mix runs from the run file to the decisions, through LlamaFactory."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
from datasets import Dataset
from tiny_runs import NOTE_MIX, NOTE_MIXER, OTHER, POOL, call, script, weights_digest

from dataflex.decisions import DecisionLog
from dataflex.errors import ComponentError, ConfigError

pytestmark = pytest.mark.slow

LOSS_DRIVEN = '''
import json, os
from dataflex import Mixer, register_mixer
from dataflex.spec import Need

@register_mixer("hardest", needs={Need.DOMAIN_LOSSES})
class Hardest(Mixer):
    """More of the domain with the higher loss; keeps what it was shown."""

    def __init__(self, params, context):
        super().__init__(params, context)
        self.steps = []

    def mix(self, model, step_id, **kwargs):
        losses = self.context.losses
        means = losses.mean()
        path = self.context.output_dir / "seen.jsonl"
        with path.open("a") as file:
            record = [step_id, self.steps, losses.sums.tolist(), losses.tokens.tolist(), losses.samples.tolist()]
            file.write(json.dumps(record) + "\\n")
        return means / means.sum()

    def on_step(self, stats):
        self.steps.append([stats.step, stats.losses.samples.tolist()])

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]
'''


def records(folder):
    return list(DecisionLog(folder))


@pytest.fixture
def seen(monkeypatch):
    """Rows of every micro-batch trained on, with its optimizer step."""
    from dataflex.trainers.engine.engine import Engine

    rows = []
    fetch = Engine.fetch

    def fetching(self, ticket):
        batch = fetch(self, ticket)
        rows.append((int(self.trainer.state.global_step), self.fetched[-1].tolist()))
        return batch

    monkeypatch.setattr(Engine, "fetch", fetching)
    return rows


@pytest.fixture
def pools(monkeypatch):
    """The tokenised pool of each run, and its domains."""
    from dataflex.trainers.session import Session

    found = []
    check = Session.check

    def checking(self, pool, args):
        found.append((pool, self.domains))
        return check(self, pool, args)

    monkeypatch.setattr(Session, "check", checking)
    return found


@pytest.fixture
def no_model(monkeypatch):
    import llamafactory.train.sft.workflow as workflow

    monkeypatch.setattr(workflow, "load_model", lambda *args, **kwargs: pytest.fail("the model was loaded"))


def test_the_notes_yaml_trains_from_the_command_line(workshop):
    done = call(script("dataflex-cli"), "train", str(workshop.run_file(**NOTE_MIX)))
    assert done.returncode == 0
    first, second = records(workshop.out / "run")
    assert (first.step, second.step) == (4, 7)
    assert first.metrics["domains"] == ["tiny", "other"]
    assert first.metrics["proportions"] != second.metrics["proportions"]
    state = json.loads((workshop.out / "run" / "trainer_state.json").read_text())
    assert state["global_step"] == 10  # 4 + 3 x 2


def test_samples_come_in_the_proportions_asked_for(workshop, train, seen):
    train(workshop.run_file(**NOTE_MIX | {"warmup_step": 20, "update_times": 1}))
    warmup = [row for step, batch in seen if step < 20 for row in batch]
    assert len(warmup) == 80
    assert sum(row >= POOL for row in warmup) == 24  # 30 % of 80
    tiny, other = ([row for row in warmup if (row >= POOL) is which] for which in (False, True))
    assert len(set(other)) == OTHER and len(set(tiny)) == len(tiny)  # nothing repeats before all were read
    (record,) = records(workshop.out / "run")
    rows = [row for step, batch in seen if step >= 20 for row in batch]
    assert record.metrics["samples"] == [sum(row < POOL for row in rows), sum(row >= POOL for row in rows)]
    assert record.metrics["realised_samples"] == pytest.approx(record.metrics["proportions"], abs=1 / 12)


def test_the_notes_random_mixer_trains_from_a_single_file(workshop, train):
    mine = workshop.out / "mine.py"
    mine.write_text(NOTE_MIXER)
    train(workshop.run_file(**NOTE_MIX, component_params={"seed": 42}), plugins=(str(mine),))
    expected = np.random.RandomState(42).random(2)
    for record in records(workshop.out / "run"):
        assert "mine.py" in record.dist
        assert record.metrics["proportions"] == pytest.approx((expected / expected.sum()).tolist())


def test_a_mixer_sees_the_losses_of_each_domain_and_training_stays_the_same(workshop, train, seen):
    mine = workshop.out / "mine.py"
    mine.write_text(LOSS_DRIVEN)
    keys = NOTE_MIX | {"component_name": "hardest", "update_times": 2}
    train(workshop.run_file(**keys), plugins=(str(mine),))
    (step, steps, sums, tokens, samples), (_, later, *_, samples_later) = map(
        json.loads, (workshop.out / "run" / "seen.jsonl").read_text().splitlines()
    )
    warmup = [row for at, batch in seen if at < 4 for row in batch]
    assert (step, steps) == (4, [])  # on_step is for steps past the warm-up
    assert samples == [sum(row < POOL for row in warmup), sum(row >= POOL for row in warmup)]
    assert [at for at, _ in later] == [5, 6, 7]
    assert np.sum([counts for _, counts in later], axis=0).tolist() == samples_later  # since the last boundary
    # The Trainer's own log of the warm-up, each step a mean over its tokens: between the domains' means.
    history = json.loads((workshop.out / "run" / "trainer_state.json").read_text())["log_history"]
    logged = [entry["loss"] for entry in history if "loss" in entry and entry["step"] <= 4]
    assert min(logged) - 0.1 <= sum(sums) / sum(tokens) <= max(logged) + 0.1
    # The same proportions without watching give the same weights, bit for bit.
    shares = [record.metrics["proportions"] for record in records(workshop.out / "run")]
    points = {at: dict(zip(("tiny", "other"), share, strict=True)) for at, share in zip((4, 7), shares, strict=True)}
    replay = {"component_name": "schedule", "component_params": {"points": points}}
    train(workshop.run_file("replay", **NOTE_MIX | replay))
    assert weights_digest(workshop.out / "replay") == weights_digest(workshop.out / "run")


EVALUATING = """
import json
from dataflex import Mixer, register_mixer

@register_mixer("evaluating")
class Evaluating(Mixer):
    def mix(self, model, step_id, **kwargs):
        losses = [self.context.evaluate(name) for name in self.context.domain_names]
        part = self.context.evaluate("tiny", max_samples=8)
        (self.context.output_dir / "losses.json").write_text(json.dumps([*losses, part]))
        return [0.5, 0.5]
"""


def test_a_mixer_may_evaluate_a_domain_on_the_spot(workshop, train, pools):
    import torch
    from transformers import AutoModelForCausalLM

    mine = workshop.out / "mine.py"
    mine.write_text(EVALUATING)
    keys = {"component_name": "evaluating", "warmup_step": 0, "update_times": 1, "save_strategy": "no"}
    train(workshop.run_file(**NOTE_MIX | keys), plugins=(str(mine),))
    *losses, part = json.loads((workshop.out / "run" / "losses.json").read_text())
    ((pool, _),) = pools
    model, sums, counts = AutoModelForCausalLM.from_pretrained(workshop.folder / "model"), [], []
    for row in pool:  # before the first step, LoRA changes nothing
        labels = torch.tensor([row["labels"]])
        count = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            sums.append(float(model(input_ids=torch.tensor([row["input_ids"]]), labels=labels).loss) * count)
        counts.append(count)
    expected = [sum(sums[:POOL]) / sum(counts[:POOL]), sum(sums[POOL:]) / sum(counts[POOL:])]
    assert losses == pytest.approx(expected, abs=1e-5)
    assert part != losses[0] and part == pytest.approx(losses[0], abs=0.2)


@pytest.mark.parametrize("step", [4, 6, 7, 9], ids=["boundary", "mid-stage", "boundary-2", "last stage"])
def test_a_resumed_mix_run_gives_the_same_model_and_samples(workshop, train, seen, step):
    mine = workshop.out / "mine.py"
    mine.write_text(LOSS_DRIVEN)
    keys = NOTE_MIX | {"component_name": "hardest", "save_strategy": "steps", "save_steps": 1, "logging_steps": 4}
    run = workshop.run_file(**keys)
    train(run, plugins=(str(mine),))
    out = workshop.out / "run"
    digest, before, whole = weights_digest(out), [record.metrics for record in records(out)], list(seen)
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    for later in range(step + 1, 11):
        shutil.rmtree(out / f"checkpoint-{later}")
    (out / "adapter_model.safetensors").unlink()
    seen.clear()
    train(run, plugins=(str(mine),))
    assert weights_digest(out) == digest
    assert [record.metrics for record in records(out)] == before
    assert seen == [entry for entry in whole if entry[0] >= step]
    resumed = json.loads((out / "trainer_state.json").read_text())["log_history"]
    assert [{k: v for k, v in entry.items() if "runtime" not in k and "second" not in k} for entry in resumed] == [
        {k: v for k, v in entry.items() if "runtime" not in k and "second" not in k} for entry in history
    ]


def test_two_ranks_see_the_losses_of_one(workshop, train):
    mine = workshop.out / "mine.py"
    mine.write_text(LOSS_DRIVEN)
    keys = NOTE_MIX | {"component_name": "hardest"}
    train(workshop.run_file("one", **keys), plugins=(str(mine),))
    two = workshop.run_file("two", **keys | {"gradient_accumulation_steps": 1})  # the same global batch
    command = (script("dataflex-cli"), "-p", str(mine), "train", str(two))
    assert call(*command, FORCE_TORCHRUN="1", NPROC_PER_NODE="2").returncode == 0
    for one, other in zip(records(workshop.out / "one"), records(workshop.out / "two"), strict=True):
        assert one.metrics["domain_tokens"] == other.metrics["domain_tokens"]
        assert one.metrics["domain_losses"] == pytest.approx(other.metrics["domain_losses"], abs=1e-5)
        assert one.metrics["samples"] == other.metrics["samples"]


def test_an_extended_mix_run_is_the_longer_run_from_the_start(workshop, train):
    mine = workshop.out / "mine.py"
    mine.write_text(LOSS_DRIVEN)
    keys = NOTE_MIX | {"component_name": "hardest", "update_times": 3, "save_strategy": "steps", "save_steps": 9}
    keys |= {"lr_scheduler_type": "constant"}
    train(workshop.run_file("long", **keys), plugins=(str(mine),))
    # The short run's last stage is cut at step 9; extended, it goes on from the sample and the losses it had come to.
    train(workshop.run_file("short", **keys, train_step=9), plugins=(str(mine),))
    train(workshop.run_file("short", **keys), plugins=(str(mine),))
    assert weights_digest(workshop.out / "short") == weights_digest(workshop.out / "long")
    short, long = ([(r.step, r.metrics) for r in records(workshop.out / name)] for name in ("short", "long"))
    assert [step for step, _ in short] == [step for step, _ in long] == [4, 7, 10]
    assert (short[0], short[2]) == (long[0], long[2])
    assert short[1][1]["proportions"] == long[1][1]["proportions"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            {"init_mixture_proportions": [0.5, 0.5]},
            {"init_mixture_proportions": [0.9, 0.1]},
            r"init_mixture_proportions was \[0\.5, 0\.5\] and is now",
        ),
        (
            {"mixture_sample_rule": "uniform"},
            {"mixture_sample_rule": "stratified"},
            r"mixture_sample_rule was 'uniform' and is now 'stratified'",
        ),
    ],
    ids=["proportions", "rule"],
)
def test_a_mixture_that_was_set_otherwise_is_not_resumed(workshop, train, before, after, message):
    keys = {"train_type": "static_mix", "dataset": "tiny,other", "save_strategy": "steps", "save_steps": 4}
    train(workshop.run_file(**keys, max_steps=4, **before))
    with pytest.raises(ConfigError, match=message):
        train(workshop.run_file(**keys, max_steps=8, **after))


def test_a_changed_parameter_of_the_mixer_is_warned_about(workshop, train, caplog):
    keys = NOTE_MIX | {"save_strategy": "steps", "save_steps": 5}
    train(workshop.run_file(**keys, train_step=5))
    with caplog.at_level(logging.WARNING, "dataflex"):
        train(workshop.run_file(**keys, component_params={"concentration": 99.0}))
    assert "component_params.concentration was 1.0 when" in caplog.text and "is now 99.0" in caplog.text


@pytest.mark.parametrize(
    ("proportions", "message"),
    [
        ([0.5, 0.3, 0.2], r"3 values for 2 domains \(tiny, other\)"),
        ([1.2, -0.2], r"not negative, but has other: -0\.2"),
        ([0.9, 0.6], r"must sum to 1, but sums to 1\.5 \(tiny: 0\.9, other: 0\.6\)"),
        ([float("nan"), 1.0], r"must be a list of finite numbers"),
        ({"tiny": 0.5, "othr": 0.5}, r"unknown domain 'othr'. Did you mean 'other'\? Domains: tiny, other"),
    ],
    ids=["length", "negative", "sum", "nan", "name"],
)
def test_bad_proportions_are_refused_before_the_model_loads(workshop, train, no_model, proportions, message):
    with pytest.raises(ConfigError, match=rf"(?s)init_mixture_proportions.*\(from run\.yaml\).*{message}"):
        train(workshop.run_file(**NOTE_MIX | {"init_mixture_proportions": proportions}))


def test_bad_proportions_of_a_mixer_stop_the_run_after_a_checkpoint(workshop, train):
    mine = workshop.out / "mine.py"
    broken = NOTE_MIXER.replace("raw / raw.sum()", "raw / raw.sum() if step_id < 7 else raw * 0 + 0.75")
    mine.write_text(broken)
    run = workshop.run_file(**NOTE_MIX, component_params={"seed": 42})
    message = r"(?s)mixer 'random'.*in mix\(\) at step 7.*sums to 1\.5 \(tiny: 0\.75, other: 0\.75\).*checkpoint-7"
    with pytest.raises(ComponentError, match=message):
        train(run, plugins=(str(mine),))
    mine.write_text(NOTE_MIXER)
    train(run, plugins=(str(mine),))
    assert [record.step for record in records(workshop.out / "run")] == [4, 7]


def test_proportions_may_be_given_by_name(workshop, train, seen):
    keys = {"init_mixture_proportions": {"other": 0.25, "tiny": 0.75}, "update_times": 1}
    train(workshop.run_file(**NOTE_MIX | keys))
    assert sum(row >= POOL for step, batch in seen if step < 4 for row in batch) == 4


@pytest.mark.parametrize(
    ("keys", "others"),
    [
        ({"mixture_sample_rule": "uniform"}, 16),
        ({"mixture_sample_rule": "stratified"}, 9),  # 32 x 24 / 88 = 8.7
        ({"mixture_sample_rule": "temperature", "mixture_temperature": 2.0}, 12),  # sqrt 24 : sqrt 64 = 0.38
        ({"mixture_sample_rule": "unimax", "mixture_max_epochs": 0.5}, 12),  # no more than 24 / 2
        ({"init_mixture_proportions": [0.5, 0.5]}, 16),
    ],
    ids=["uniform", "stratified", "temperature", "unimax", "mixture"],
)
def test_static_mix_keeps_the_proportions_of_its_rule(workshop, train, seen, keys, others):
    train(workshop.run_file(train_type="static_mix", dataset="tiny,other", max_steps=8, **keys))
    rows = [row for _, batch in seen for row in batch]
    assert len(rows) == 32
    assert sum(row >= POOL for row in rows) == others
    (closing,) = records(workshop.out / "run")  # no boundary: the shares are recorded at the end
    assert (closing.step, closing.stage, closing.plan_ref) == (8, 0, "")
    assert closing.metrics["samples"] == [32 - others, others]
    assert closing.metrics["realised_samples"] == [(32 - others) / 32, others / 32]
    assert closing.metrics["proportions"][1] == pytest.approx(others / 32, abs=1 / 32)


def test_max_epochs_gives_the_share_of_a_used_up_domain_to_the_others(workshop, train, seen):
    keys = {"init_mixture_proportions": [0.2, 0.8], "mixture_max_epochs": {"other": 1}}
    train(workshop.run_file(train_type="static_mix", dataset="tiny,other", max_steps=12, **keys))
    rows = [row for _, batch in seen for row in batch]
    assert sum(row >= POOL for row in rows) == OTHER and len(rows) == 48


def test_a_run_longer_than_its_limits_allow_is_refused_before_the_model_loads(workshop, train, no_model):
    keys = {"mixture_sample_rule": "uniform", "mixture_max_epochs": 0.5, "max_steps": 12}
    with pytest.raises(ConfigError, match=r"mixture_max_epochs allows 44 samples in all, but the run draws 48"):
        train(workshop.run_file(train_type="static_mix", dataset="tiny,other", **keys))


def test_a_limit_that_stops_a_fixed_mixture_is_found_before_the_model_loads(workshop, train, no_model):
    keys = {"init_mixture_proportions": [0.5, 0.5], "mixture_max_epochs": 1, "mixture_on_exhausted": "stop"}
    with pytest.raises(ConfigError, match=r"^domain 'other' is used up after 49 samples"):
        train(workshop.run_file(train_type="static_mix", dataset="tiny,other", max_steps=20, **keys))


def test_a_limit_that_stops_a_moving_mixture_names_itself_and_keeps_what_was_trained(workshop, train):
    keys = NOTE_MIX | {"mixture_max_epochs": {"other": 0.25}, "mixture_on_exhausted": "stop"}
    message = r"^at step 4: domain 'other' is used up .*max_epochs.* from .*checkpoint-4"
    with pytest.raises(ComponentError, match=message):
        train(workshop.run_file(**keys))


def test_a_fixed_rule_with_a_mixer_is_refused(workshop, train):
    keys = NOTE_MIX | {"mixture_sample_rule": "uniform", "init_mixture_proportions": None}
    with pytest.raises(ConfigError, match=r"uniform keeps its proportions fixed.*random would be ignored.*static_mix"):
        train(workshop.run_file(**keys))


def test_a_share_of_tokens_is_reached_where_samples_differ_in_length(workshop, train):
    keys = {"init_mixture_proportions": [0.5, 0.5], "mixture_unit": "tokens", "warmup_step": 1, "update_step": 20}
    equal = {"component_name": "schedule", "component_params": {"points": {0: {"tiny": 0.5, "other": 0.5}}}}
    train(workshop.run_file(**NOTE_MIX | keys | equal | {"update_times": 1}))
    (record,) = records(workshop.out / "run")
    assert record.metrics["realised_tokens"] == pytest.approx([0.5, 0.5], abs=0.02)
    assert record.metrics["realised_samples"][1] > 0.6  # the answers of `other` are shorter


def test_eval_sets_are_kept_apart_and_one_of_them_decides_which_model_is_the_best(workshop, train):
    keys = {"eval_dataset": "val,other", "eval_on_each_dataset": True, "eval_strategy": "steps", "eval_steps": 5}
    keys |= {"save_strategy": "steps", "save_steps": 5, "load_best_model_at_end": True}
    best = {"metric_for_best_model": "eval_val_loss", "greater_is_better": True}  # so that it is not the last one
    train(workshop.run_file(**NOTE_MIX | keys | best))
    out = workshop.out / "run"
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    losses = {entry["step"]: entry["eval_val_loss"] for entry in history if "eval_val_loss" in entry}
    assert any("eval_other_loss" in entry for entry in history) and losses[5] > losses[10]
    assert weights_digest(out) == weights_digest(out / "checkpoint-5") != weights_digest(out / "checkpoint-10")


@pytest.mark.parametrize(("val_size", "held_out"), [(0.25, 22), (10, 10)])
def test_val_size_holds_out_rows_of_all_domains(workshop, train, pools, val_size, held_out):
    train(workshop.run_file(**NOTE_MIX, val_size=val_size, eval_strategy="steps", eval_steps=10))
    ((pool, domains),) = pools
    assert len(pool) == sum(domains.sizes) == POOL + OTHER - held_out
    assert domains.sizes[0] < POOL and domains.sizes[1] < OTHER
    history = json.loads((workshop.out / "run" / "trainer_state.json").read_text())["log_history"]
    assert any("eval_loss" in entry for entry in history)


def test_max_samples_cuts_every_domain(workshop, train, seen):
    train(workshop.run_file(**NOTE_MIX, max_samples=8))
    rows = {row for _, batch in seen for row in batch}
    assert rows <= set(range(16)) and max(rows) >= 8


@pytest.mark.parametrize("neat", [False, True])
def test_packed_rows_stay_within_their_domain(workshop, train, pools, neat):
    train(workshop.run_file(**NOTE_MIX, packing=True, neat_packing=neat, cutoff_len=256))
    ((pool, domains),) = pools
    assert len(pool) == sum(domains.sizes) < POOL + OTHER
    assert all(size < whole for size, whole in zip(domains.sizes, (POOL, OTHER), strict=True))
    later = Dataset.from_dict({"attention_mask": [[1]]})  # neat packing changes how rows are written: for its own only
    assert later.features["attention_mask"].feature.dtype == "int8"


def test_a_tokenised_path_keeps_each_domain_and_is_read_again(workshop, train, monkeypatch):
    path = workshop.out / "tokenised"
    keys = NOTE_MIX | {"tokenized_path": str(path), "eval_dataset": "val"}
    train(workshop.run_file("first", **keys))
    assert sorted(folder.name for folder in path.iterdir()) == ["eval", "train-other", "train-tiny"]
    import llamafactory.data.loader as loader

    monkeypatch.setattr(loader, "_get_merged_dataset", lambda *args, **kwargs: pytest.fail("tokenised again"))
    train(workshop.run_file("second", **keys))
    assert weights_digest(workshop.out / "first") == weights_digest(workshop.out / "second")


def test_merged_tokenised_data_is_refused(workshop, train, no_model):
    (workshop.out / "merged").mkdir()
    (workshop.out / "merged" / "dataset_dict.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"merged when they were tokenised, so their domains are lost"):
        train(workshop.run_file(**NOTE_MIX, tokenized_path=str(workshop.out / "merged")))


def test_a_changed_data_set_is_not_resumed(workshop, train):
    keys = NOTE_MIX | {"save_strategy": "steps", "save_steps": 5}
    train(workshop.run_file(**keys))
    shutil.rmtree(workshop.out / "run" / "checkpoint-10")
    with pytest.raises(ConfigError, match=r"domains was \['tiny', 'other'\] and is now \['other', 'tiny'\]"):
        train(workshop.run_file(**keys | {"dataset": "other,tiny"}))


def test_llamafactorys_own_mixing_keys_are_warned_about(workshop, train, caplog):
    with caplog.at_level(logging.WARNING, "dataflex"):
        train(workshop.run_file(**NOTE_MIX, mix_strategy="interleave_under"))
    assert "mix_strategy has no effect" in caplog.text


@pytest.mark.parametrize("stage", ["pt", "dpo"])
def test_other_stages_mix_too(workshop, train, stage, tiny_folder, seen):
    if stage == "dpo":
        folder = workshop.out / "pairs"
        folder.mkdir()
        pairs = [{"instruction": f"say {i}", "input": "", "chosen": "yes", "rejected": "no"} for i in range(16)]
        for name in ("tiny", "other"):
            (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, pairs)))
        columns = {"prompt": "instruction", "query": "input", "chosen": "chosen", "rejected": "rejected"}
        info = {name: {"file_name": f"{name}.jsonl", "ranking": True, "columns": columns} for name in ("tiny", "other")}
        (folder / "dataset_info.json").write_text(json.dumps(info))
        keys = {"stage": "dpo", "dataset_dir": str(folder)}
    else:
        keys = {"stage": "pt"}
    train(workshop.run_file(**NOTE_MIX | keys))
    assert len(records(workshop.out / "run")) == 2
