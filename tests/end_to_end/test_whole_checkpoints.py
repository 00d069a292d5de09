"""Real runs go on from checkpoints that are whole, and say so where one never is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_runs import NOTE_MIX, NOTE_SELECT, NOTE_WEIGHT, weights_digest

from dataflex.cli.check_run import check_runs
from dataflex.cli.score import ScoreOptions, run_score
from dataflex.errors import ConfigError

pytestmark = pytest.mark.slow

SAVES = {"save_strategy": "steps", "save_steps": 3}
RUNS = {
    "dynamic_select": NOTE_SELECT | {"component_name": "loss"},
    "dynamic_mix": NOTE_MIX | {"warmup_step": 2, "update_times": 1},
    "static_mix": {
        "train_type": "static_mix",
        "init_mixture_proportions": [0.6, 0.4],
        "dataset": "tiny,other",
        "train_step": 4,
    },
    "dynamic_weight": NOTE_WEIGHT | {"train_step": 4},
}


@pytest.fixture
def no_model(monkeypatch):
    """From the call on, a model that is loaded is a failure."""

    def forbid():
        import llamafactory.train.sft.workflow as workflow

        monkeypatch.setattr(workflow, "load_model", lambda *args, **kwargs: pytest.fail("the model was loaded"))

    return forbid


@pytest.mark.parametrize("train_type", RUNS)
def test_a_checkpoint_without_optimizer_state_is_never_resumed_but_scored(
    workshop, train, caplog, no_model, train_type
):
    run = workshop.run_file(**RUNS[train_type] | SAVES, save_only_model=True, eval_dataset="val")
    warning = "save_only_model: true (from run.yaml) keeps no optimizer state"
    check_runs([run], [])
    assert warning in caplog.text
    caplog.clear()
    train(run)
    assert caplog.text.count(warning) == 1
    out = workshop.out / "run"
    before = weights_digest(out)

    if train_type == "dynamic_select":
        for component, said in (("loss", ""), ("less", "no optimizer state")):
            caplog.clear()
            options = {"checkpoint": out / "checkpoint-3", "keep_top": None, "keep": None}
            run_score(run, [], [], ScoreOptions(component=component, out=workshop.out / component, **options))
            assert (workshop.out / component / "scores.parquet").is_file() and said in caplog.text
    no_model()
    last = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    shutil.rmtree(last)  # as a kill before it leaves the run
    for keys in ([], ["save_only_model=false"], ["save_only_model=false", "resume_from_checkpoint=true"]):
        with pytest.raises(ConfigError, match=r"cannot resume from .*: it holds no optimizer state.*Start anew"):
            train(run, *keys)
    assert weights_digest(out) == before


@pytest.mark.parametrize("finetuning", ["lora", "full"])
def test_a_file_of_the_trainer_that_was_cut_short_is_passed_over_and_the_run_is_the_whole_one(
    workshop, train, caplog, finetuning
):
    full = {"finetuning_type": "full", "lora_target": None, "lora_rank": None} if finetuning == "full" else {}
    run = workshop.run_file(**RUNS["dynamic_select"] | SAVES | {"save_steps": 2} | full)
    train(run)
    out = workshop.out / "run"
    whole = weights_digest(out)
    shutil.rmtree(out / "checkpoint-8")
    weights = "model.safetensors" if full else "adapter_model.safetensors"
    cut(out / "checkpoint-6" / weights)
    (out / "checkpoint-4" / "scheduler.pt").unlink()
    next(out.glob("*.safetensors")).unlink()

    named = rf"resume_from_checkpoint={out / 'checkpoint-6'}"
    with pytest.raises(ConfigError, match=rf"{weights} is damaged.*Resume from {out / 'checkpoint-2'}"):
        train(run, named)
    caplog.clear()
    with caplog.at_level("INFO", "dataflex"):
        train(run)
    assert f"not resuming from {out / 'checkpoint-6'}: {out / 'checkpoint-6' / weights} is damaged" in caplog.text
    assert f"{out / 'checkpoint-4' / 'scheduler.pt'} is missing" in caplog.text
    assert f"resuming from {out / 'checkpoint-2'}" in caplog.text
    assert weights_digest(out) == whole


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_fsdp_of_version_1_is_refused_whichever_way_it_is_asked_for(workshop, train, caplog, no_model, monkeypatch):
    for name in ("ACCELERATE_USE_FSDP", "FSDP_VERSION", "FSDP_STATE_DICT_TYPE"):
        monkeypatch.delenv(name, raising=False)
    run = workshop.run_file(**RUNS["dynamic_weight"] | SAVES)
    no_model()
    with pytest.raises(ConfigError, match=r"fsdp \(from run.yaml.*\) is FSDP of version 1"):
        train(run, "fsdp=full_shard")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match=r"ACCELERATE_USE_FSDP \(of the environment\) is FSDP of version 1"):
        train(run)
    caplog.clear()
    check_runs([workshop.run_file("static", max_steps=1)], [])
    assert "a resumed run goes on with other weights or without its optimizer state" in caplog.text


def test_a_run_that_leaves_no_model_ends_with_an_error_that_names_the_last_checkpoint(workshop, train, monkeypatch):
    from transformers import Trainer

    save = Trainer.save_model

    def as_under_sharded_state(trainer, output_dir=None, _internal_call=False):
        if _internal_call:
            save(trainer, output_dir, _internal_call)

    monkeypatch.setattr(Trainer, "save_model", as_under_sharded_state)
    run = workshop.run_file(**RUNS["static_mix"] | SAVES)
    last = workshop.out / "run" / "checkpoint-4"
    with pytest.raises(ConfigError, match=rf"no final model was written to .*run\. The last checkpoint is {last}"):
        train(run)
    assert (workshop.out / "run" / "train_results.json").is_file()  # all else was written first
