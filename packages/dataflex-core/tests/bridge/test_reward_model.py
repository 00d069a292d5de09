"""A reward model that could not be saved is refused by its configuration alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dataflex.bridge.reward_model import check_reward_model
from dataflex.errors import ConfigError

LLAVA = {"model_type": "llava", "text_config": {"model_type": "llama", "tie_word_embeddings": True}}


def keys(folder: Path, config: dict[str, Any] | str, **changed: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    full = {"stage": "rm", "finetuning_type": "full", "do_train": True, "model_name_or_path": str(folder)}
    return full | changed


@pytest.mark.parametrize(
    ("config", "because"),
    [
        ({"model_type": "qwen2", "tie_word_embeddings": True}, "tie_word_embeddings of its config.json"),
        ({"model_type": "gemma2"}, "as Gemma2Config has it by default"),
        (LLAVA, "as LlavaConfig has it"),
    ],
    ids=["said", "by default", "of its text model"],
)
@pytest.mark.parametrize("tuning", ["full", "freeze"])
def test_tied_embeddings_are_refused(tmp_path: Path, config: dict[str, Any], because: str, tuning: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_reward_model(keys(tmp_path / "model", config, finetuning_type=tuning), "run.yaml")
    message = str(refused.value)
    assert message.startswith(f"stage: rm with finetuning_type: {tuning} (from run.yaml)") and because in message
    assert "finetuning_type: lora" in message and "\n" not in message


@pytest.mark.parametrize(
    ("config", "changed"),
    [
        ({"model_type": "qwen2", "tie_word_embeddings": False}, {}),
        ({"model_type": "gemma2", "tie_word_embeddings": False}, {}),
        ({"model_type": "qwen2"}, {}),  # not tied by default
        ({"model_type": "gemma2"}, {"finetuning_type": "lora"}),
        ({"model_type": "gemma2"}, {"finetuning_type": None}),  # lora
        ({"model_type": "gemma2"}, {"stage": "sft"}),
        ({"model_type": "gemma2"}, {"do_train": False}),
        ({"model_type": "gemma2"}, {"deepspeed": "ds.json"}),
        ({"model_type": "gemma2"}, {"model_name_or_path": "nobody/nothing"}),
        ({"model_type": "of tomorrow"}, {}),
        ("{", {}),
    ],
    ids=["untied", "untied where tied by default", "untied by default", "lora", "lora by default", "another stage",
         "no training", "deepspeed", "not in the cache", "another model", "no JSON"],
)  # fmt: skip
def test_what_can_be_saved_or_is_not_known_is_not_refused(tmp_path: Path, config: Any, changed: dict[str, Any]) -> None:
    check_reward_model(keys(tmp_path / "model", config, **changed), "run.yaml")
