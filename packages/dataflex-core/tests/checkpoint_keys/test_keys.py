"""The list of keys: every key that the installed libraries have is on it, in the class that was promised."""

from __future__ import annotations

import dataclasses

import pytest
from transformers import TrainingArguments

from dataflex.checkpoint_keys.groups import Effect
from dataflex.checkpoint_keys.keys import GROUPS, group_of
from dataflex.config.keys import RUN_KEYS

SILENT = [
    "logging_steps", "save_steps", "eval_steps", "save_total_limit", "save_strategy", "eval_strategy", "report_to",
    "dataloader_num_workers", "preprocessing_num_workers", "disable_tqdm", "early_stopping_steps", "output_dir",
    "load_best_model_at_end", "hub_token",
]  # fmt: skip
NOTED = [
    "learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "ranks",
    "neftune_noise_alpha", "component_params", "mixture_max_epochs", "update_times", "train_step",
]  # fmt: skip
REFUSED = [
    "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio", "optim", "optim_args", "use_galore",
    "apollo_rank", "badam_mode", "loraplus_lr_ratio", "finetuning_type", "lora_rank", "lora_alpha", "lora_dropout",
    "lora_target", "use_dora", "use_rslora", "pissa_init", "oft_rank", "freeze_trainable_layers", "additional_target",
    "quantization_bit", "quantization_type", "double_quantization", "use_dft_loss", "label_smoothing_factor",
    "pref_loss", "pref_beta", "kto_chosen_weight", "simpo_gamma", "bf16", "fp16", "pure_bf16", "fp8",
    "upcast_layernorm", "upcast_lmhead_output", "deepspeed", "fsdp", "data_seed", "disable_shuffling",
]  # fmt: skip


def on_no_list(names):
    """Keys whose class nobody has decided: a later LlamaFactory or transformers has new ones."""
    return [name for name in names if group_of(name) is None]


@pytest.mark.parametrize(
    ("effect", "names"), [(Effect.SILENT, SILENT), (Effect.NOTED, NOTED), (Effect.REFUSED, REFUSED)]
)
def test_a_key_has_the_effect_that_was_promised(effect, names):
    found = {name: group_of(name) for name in names}
    assert {name: group and group.effect for name, group in found.items()} == dict.fromkeys(names, effect)


def test_every_key_of_the_installed_llamafactory_is_on_a_list():
    parser = pytest.importorskip("llamafactory.hparams.parser")
    names = {field.name for group in parser._TRAIN_ARGS for field in dataclasses.fields(group) if field.init}
    assert {"learning_rate", "lora_rank", "model_name_or_path", "template", "top_p"} <= names
    assert sorted(on_no_list(names)) == []


def test_every_key_of_the_installed_transformers_is_on_a_list():
    names = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    assert sorted(on_no_list(names)) == []


def test_every_key_of_dataflex_is_on_a_list():
    assert sorted(on_no_list(key.name for key in RUN_KEYS)) == []


def test_no_key_is_on_two_lists():
    exact = [key for group in GROUPS for key in group.keys if "*" not in key]
    assert sorted(key for key in set(exact) if exact.count(key) > 1) == []


def test_a_key_that_nobody_knows_is_on_no_list():
    assert group_of("a_key_of_next_year") is None
    assert on_no_list(["seed", "a_key_of_next_year"]) == ["a_key_of_next_year"]


def test_an_exact_name_wins_over_a_pattern():
    assert group_of("fp16_full_eval").effect is Effect.SILENT and group_of("fp16_opt_level").effect is Effect.REFUSED
    assert group_of("export_quantization_bit").effect is Effect.SILENT
    assert group_of("ref_model_quantization_bit").effect is Effect.REFUSED
