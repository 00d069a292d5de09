"""The engine drives every LlamaFactory stage it names, at loader level."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from stage_data import stage_data
from tiny_runs import NOTE_SELECT, weights_digest

from dataflex.decisions import DecisionLog
from dataflex.errors import ConfigError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stage", ["pt", "dpo", "rm", "kto"])
def test_a_stage_trains_on_what_the_selector_chose(workshop, train, stage):
    data = stage_data(workshop.out / "data", stage)
    keys = NOTE_SELECT | {"stage": stage, "dataset": "pairs", "dataset_dir": str(data)}
    train(workshop.run_file(**keys, packing=False if stage == "pt" else None))
    steps = json.loads((workshop.out / "run" / "trainer_state.json").read_text())["global_step"]
    records = list(DecisionLog(workshop.out / "run"))
    assert steps == 8 and [record.step for record in records] == [2, 5]
    rows = np.load(workshop.out / "run" / records[0].result_ref)
    assert len(set(rows.tolist())) == 12


@pytest.mark.parametrize("finetuning_type", ["full", "lora"])
@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_runs_on_preferences_resume_to_the_same_weights(workshop, train, stage, finetuning_type):
    data = stage_data(workshop.out / "data", stage)
    keys = NOTE_SELECT | {"stage": stage, "dataset": "pairs", "dataset_dir": str(data)}
    run = workshop.run_file(**keys, finetuning_type=finetuning_type, save_strategy="steps", save_steps=4)
    train(run)
    out = workshop.out / "run"
    digest = weights_digest(out)
    shutil.rmtree(out / "checkpoint-8")
    next(out.glob("*.safetensors")).unlink()
    train(run)
    assert weights_digest(out) == digest


def test_a_reward_model_is_not_resumed(workshop, train, monkeypatch):
    import llamafactory.train.rm.workflow as workflow

    keys = NOTE_SELECT | {"stage": "rm", "dataset": "pairs", "save_strategy": "steps", "save_steps": 4}
    run = workshop.run_file(**keys, dataset_dir=str(stage_data(workshop.out / "data", "rm")))
    train(run)
    monkeypatch.setattr(workflow, "load_model", lambda *args, **kwargs: pytest.fail("the model was loaded"))
    with pytest.raises(ConfigError, match=r"cannot resume from .*checkpoint-8: .*value head.*Start anew"):
        train(run)


def test_a_reward_model_that_could_not_be_saved_is_refused_before_anything_loads(workshop, train, monkeypatch):
    import llamafactory.train.rm.workflow as workflow

    from dataflex.bridge import reward_model
    from dataflex.cli.check_run import check_runs

    data = {"stage": "rm", "dataset": "pairs", "dataset_dir": str(stage_data(workshop.out / "data", "rm"))}
    keys = data | {"finetuning_type": "full", "lora_target": None}  # the tiny model's embeddings are tied
    train(workshop.run_file("lora", **NOTE_SELECT | keys | {"finetuning_type": "lora", "lora_target": "all"}))
    unknown = {"save_strategy": "steps", "save_steps": 2}
    with monkeypatch.context() as patch:  # a model whose configuration does not tell: at step 0, by its tensors
        patch.setattr(reward_model, "_what_ties", lambda *args: "")
        with pytest.raises(ConfigError, match=r"lm_head.weight and model.embed_tokens.weight share memory"):
            train(workshop.run_file("unknown", **NOTE_SELECT | keys | unknown))
        assert not list((workshop.out / "unknown").glob("checkpoint-*"))
    monkeypatch.setattr(workflow, "get_dataset", lambda *args, **kwargs: pytest.fail("data was loaded"))
    for name, more in {"dynamic": NOTE_SELECT, "static": {"max_steps": 4}}.items():
        run = workshop.run_file(name, **more | keys)
        for command in (lambda run=run: train(run), lambda run=run: check_runs([run], [])):
            with pytest.raises(ConfigError, match=r"stage: rm with finetuning_type: full .* cannot save: the embedd"):
                command()
