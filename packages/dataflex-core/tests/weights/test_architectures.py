"""Models that transformers keeps otherwise in memory than in files: saved, loaded into a running model, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from dataflex.weights import compare
from dataflex.weights.convert import load_converted
from dataflex.weights.files import saved_weights
from dataflex.weights.views import model_views, tolerated

TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
}
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
MROPE = {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 0]}}
QWEN_VISION = {"depth": 1, "hidden_size": 16, "num_heads": 2}
QWEN_TOKENS = {"image_token_id": 1, "video_token_id": 2, "vision_start_token_id": 3, "vision_end_token_id": 4}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
ROUTED = {"moe_intermediate_size": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1}

CONVERTED: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen3Moe": (
        "ForCausalLM",
        {**TEXT, "moe_intermediate_size": 8, "num_experts": 4, "head_dim": 4, "tie_word_embeddings": True},
    ),
    "Qwen2Moe": ("ForCausalLM", {**TEXT, "moe_intermediate_size": 8, "num_experts": 4, "decoder_sparse_step": 1}),
    "Mixtral": ("ForCausalLM", {**TEXT, "num_local_experts": 3}),
    "Phimoe": ("ForCausalLM", {**TEXT, "num_local_experts": 4}),
    "Olmoe": ("ForCausalLM", {**TEXT, "num_experts": 4, "num_experts_per_tok": 2}),
    "DeepseekV3": ("ForCausalLM", {**TEXT, **ROUTED, **LATENT, "n_group": 2, "topk_group": 1}),
    "Glm4Moe": ("ForCausalLM", {**TEXT, **ROUTED, "head_dim": 4}),
    "Qwen2VL": (
        "ForConditionalGeneration",
        {"text_config": {**TEXT, **MROPE}, "vision_config": {**QWEN_VISION, "embed_dim": 16}, **QWEN_TOKENS},
    ),
    "Qwen2_5_VL": (
        "ForConditionalGeneration",
        {
            "text_config": {**TEXT, **MROPE, "tie_word_embeddings": True},
            "vision_config": {**QWEN_VISION, "out_hidden_size": 16, "intermediate_size": 24},
            "tie_word_embeddings": True,
            **QWEN_TOKENS,
        },
    ),
    "Llava": (
        "ForConditionalGeneration",
        {"text_config": {**TEXT, "model_type": "llama"}, "vision_config": CLIP, "image_token_index": 1},
    ),
    "Gemma3": (
        "ForConditionalGeneration",
        {
            "text_config": {**TEXT, "head_dim": 4},
            "vision_config": {**CLIP, "model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 1,
            "image_token_index": 1,
        },
    ),
    "InternVL": (
        "ForConditionalGeneration",
        {
            "text_config": {**TEXT, "model_type": "qwen2"},
            "vision_config": {**CLIP, "model_type": "internvl_vision", "image_size": [28, 28], "patch_size": [14, 14]},
            "image_token_id": 1,
        },
    ),
}
PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2": ("ForCausalLM", {**TEXT, "tie_word_embeddings": True}),
    "GPT2": ("LMHeadModel", {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 64}),
    "GptOss": ("ForCausalLM", {**TEXT, "num_local_experts": 4, "head_dim": 4}),
    "T5": (
        "ForConditionalGeneration",
        {"vocab_size": 64, "d_model": 16, "d_ff": 24, "num_layers": 1, "num_heads": 2, "d_kv": 8},
    ),
}


def make(name: str, dtype: torch.dtype = torch.float32, *, seed: int = 0) -> Any:
    """A model none of whose numbers is zero by its initialisation."""
    head, keys = (CONVERTED | PLAIN)[name]
    torch.manual_seed(seed)
    model = getattr(transformers, name + head)(getattr(transformers, f"{name}Config")(**keys)).to(dtype)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn(tensor.shape))
    return model


def checkpoint(model: Any, folder: Path, **keys: Any) -> Any:
    model.save_pretrained(folder, **keys)
    saved = saved_weights(folder)
    assert saved is not None
    return saved


@pytest.mark.parametrize("name", CONVERTED)
def test_a_model_that_transformers_converts_gets_the_weights_of_its_checkpoint(name: str, tmp_path: Path) -> None:
    trained, running = make(name, torch.bfloat16), make(name, torch.bfloat16, seed=1)
    saved, parameters = checkpoint(trained, tmp_path), list(running.parameters())
    state, files = torch.get_rng_state(), load_file(tmp_path / "model.safetensors")

    assert set(running.load_state_dict(files, strict=False).unexpected_keys) & set(files)  # what the Trainer does
    view = compare.fitting(saved, model_views(running))
    assert view.converts
    assert compare.names_and_shapes(saved, view, tolerated(running, files)) == []
    assert {name for name, _ in compare.values(saved, view)} & set(files)

    assert load_converted(running, saved) == []
    assert compare.values(saved, model_views(running)[0]) == []
    wanted = trained.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in running.state_dict().items())
    assert all(old is new for old, new in zip(parameters, running.parameters(), strict=True))  # an optimizer has them
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", PLAIN)
def test_a_model_that_is_the_same_in_files_needs_no_conversion(name: str, tmp_path: Path) -> None:
    trained, running = make(name), make(name, seed=1)
    saved = checkpoint(trained, tmp_path)
    (view,) = model_views(running)
    assert not view.converts
    assert compare.names_and_shapes(saved, view) == []
    assert {name for name, _ in compare.values(saved, view)} == set(saved.tensors)  # seed 1 is another model
    running.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)
    assert compare.values(saved, view) == []


def test_a_model_of_several_precisions_is_loaded_without_rounding(tmp_path: Path) -> None:
    trained, running = make("Qwen2VL"), make("Qwen2VL", seed=1)
    for model in (trained, running):
        model.model.visual.to(torch.bfloat16)  # frozen and in half precision, as LlamaFactory leaves it
    trained.config.dtype = torch.bfloat16
    saved = checkpoint(trained, tmp_path)
    assert {tensor.dtype for tensor in saved.tensors.values()} == {"F32", "BF16"}
    assert load_converted(running, saved) == []
    wanted = trained.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in running.state_dict().items())
    assert running.lm_head.weight.dtype == torch.float32


def test_a_checkpoint_in_the_format_of_memory_is_seen_as_one(tmp_path: Path) -> None:
    saved = checkpoint(make("Mixtral"), tmp_path, save_original_format=False)
    view = compare.fitting(saved, model_views(make("Mixtral", seed=1)))
    assert not view.converts
    assert compare.names_and_shapes(saved, view) == []


def test_renames_of_transformers_4_are_turned_round_as_it_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = make("Qwen2VL")
    saved = checkpoint(model, tmp_path)  # Qwen2-VL has the same names in files under both
    # As Qwen2VLForConditionalGeneration of transformers 4.52 to 4.57 has it.
    mapping = {"^visual": "model.visual", r"^model(?!\.(language_model|visual))": "model.language_model"}
    monkeypatch.setattr(type(model), "_checkpoint_conversion_mapping", mapping, raising=False)
    monkeypatch.setitem(__import__("sys").modules, "transformers.core_model_loading", None)
    view = compare.fitting(saved, model_views(model))
    assert view.converts
    assert compare.names_and_shapes(saved, view) == []
    assert compare.values(saved, view) == []
