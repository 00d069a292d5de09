"""Keys of a LlamaFactory run that were edited before the same command was given again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_runs import NOTE_SELECT, NOTE_WEIGHT, Workshop

from dataflex.cli.score import ScoreOptions, run_score
from dataflex.errors import ConfigError
from dataflex.testing.tiny import write_model

AT = 4
RUN = NOTE_SELECT | {
    "save_strategy": "steps",
    "save_steps": AT,
    "loraplus_lr_ratio": 16,
    "weight_decay": 0.01,
    "lr_scheduler_type": "cosine",
    "hub_token": "hf_hush",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_folder) -> Path:
    """Beside the model of all tests, a copy of it and another one of the same shape."""
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(tiny_folder / "data", folder / "data")
    shutil.copytree(tiny_folder / "model", folder / "model")
    shutil.copytree(tiny_folder / "model", folder / "moved")
    write_model(folder / "another", seed=1)
    return folder


@pytest.fixture(scope="module")
def first(folder, tmp_path_factory) -> Path:
    """A run with LoRA+ of 8 steps, with a checkpoint at step 4."""
    from dataflex.cli.train import run_train

    workshop = Workshop(folder, tmp_path_factory.mktemp("first"))
    run_train(workshop.run_file("first", **RUN), [], [])
    return workshop.out / "first"


@pytest.fixture
def again(folder, first, tmp_path, train):
    """The same command with changed keys, where only the checkpoint of step 4 is left."""

    def again(**changed) -> Path:
        workshop = Workshop(folder, tmp_path)
        out = tmp_path / "run"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(first / f"checkpoint-{AT}", out / f"checkpoint-{AT}")
        train(workshop.run_file("run", **{**RUN, **changed}))
        return out

    return again


def logged(out: Path) -> dict[int, float]:
    state = json.loads((out / "checkpoint-8" / "trainer_state.json").read_text())
    return {row["step"]: row["learning_rate"] for row in state["log_history"] if "learning_rate" in row}


def test_a_lower_learning_rate_is_at_work_in_every_group_from_the_next_step(again, first, caplog):
    out = again(learning_rate=1e-5)
    whole, resumed = logged(first), logged(out)
    assert {step: resumed[step] for step in range(1, 5)} == {step: whole[step] for step in range(1, 5)}
    expected = {step: whole[step] / 100 for step in range(5, 9)}
    assert {step: resumed[step] for step in range(5, 9)} == pytest.approx(expected)
    said = [text for text in caplog.messages if text.startswith("learning_rate was 0.001 when")]
    assert len(said) == 1 and "is now 1e-05" in said[0]
    import torch

    optimizer = torch.load(out / "checkpoint-8" / "optimizer.pt", weights_only=True)  # noqa: TID251
    groups = [(group["initial_lr"], group["weight_decay"]) for group in optimizer["param_groups"]]
    assert groups == [pytest.approx(pair) for pair in [(1e-5, 0.01), (16e-5, 0.01), (16e-5, 0), (1e-6, 0.01)]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lora_rank": 8}, "lora_rank was 4 and is now 8"),
        ({"lora_dropout": 0.1, "use_rslora": True}, "lora_dropout was 0.0 and is now 0.1; use_rslora was false"),
        ({"lr_scheduler_type": "linear", "warmup_ratio": 0.5}, "lr_scheduler_type was 'cosine' and is now 'linear'"),
        ({"use_dft_loss": True}, "use_dft_loss was false and is now true"),
        ({"model_name_or_path": "another"}, "another model by the content of its files"),
        ({"cutoff_len": 24}, "pool_fingerprint .* cutoff_len was 96 and is now 24"),
    ],
    ids=str,
)
def test_what_would_make_two_runs_of_one_is_refused_by_name(again, folder, changed, message):
    if "model_name_or_path" in changed:
        changed = {"model_name_or_path": str(folder / changed["model_name_or_path"])}
    with pytest.raises(ConfigError, match=rf"(?s)cannot resume from .*checkpoint-4: .*{message}"):
        again(**changed)


def test_a_model_that_was_moved_is_the_same_model(again, folder, first, caplog):
    out = again(model_name_or_path=str(folder / "moved"))
    assert logged(out) == logged(first)
    assert "model_name_or_path" not in " ".join(text for text in caplog.messages if " when " in text)


def test_a_checkpoint_holds_the_parsed_keys_and_no_secret(first):
    kept = json.loads((first / f"checkpoint-{AT}" / "dataflex" / "keys.json").read_text())
    values, given = kept["arguments"], kept["given"]
    assert values["lora_rank"] == 4 and values["optim"] and values["top_p"] == 0.7 and values["cutoff_len"] == 96
    assert "lora_rank" in given and "top_p" not in given
    assert values["hub_token"] == "(hidden)" and kept["dataflex"]["update_times"] == 2
    assert len(kept["models"]["model_name_or_path"]["identity"]) == 64


def test_scoring_with_the_weights_of_another_adapter_is_refused(folder, first, tmp_path):
    workshop = Workshop(folder, tmp_path)
    for changed, message in (
        ({"lora_alpha": 64}, "lora_alpha was 8 and is now 64"),
        ({"model_name_or_path": str(folder / "another")}, "model_name_or_path was .*another model"),
    ):
        run = workshop.run_file("score", **{**RUN, "learning_rate": 1.0, "optim": "sgd", **changed})
        checkpoint, out = first / f"checkpoint-{AT}", tmp_path / "-".join(changed)
        options = ScoreOptions(component="loss", out=out, checkpoint=checkpoint, keep_top=None, keep=None)
        with pytest.raises(ConfigError, match=rf"belongs to another model than this run file has: {message}"):
            run_score(run, [], [], options)


def test_a_weighted_run_names_what_changed_too(folder, tmp_path, train, caplog):
    workshop = Workshop(folder, tmp_path)
    keys = NOTE_WEIGHT | {"save_strategy": "steps", "save_steps": 2, "train_step": 2}
    train(workshop.run_file("run", **keys))
    train(workshop.run_file("run", **keys | {"train_step": 4, "weight_decay": 0.1, "max_grad_norm": 0.3}))
    for name in ("train_step", "weight_decay", "max_grad_norm"):
        assert len([text for text in caplog.messages if text.startswith(f"{name} was ")]) == 1
