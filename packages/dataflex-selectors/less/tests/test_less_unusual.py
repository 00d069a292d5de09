"""Models whose batches give other gradients than their rows alone: exact all the same, or refused by name.

The expected scores are those of ``less_cases.reference_cosines``: fp64, one unpadded row at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from less_cases import (
    VOCABULARY,
    Pad,
    pool_and_goals,
    reference_cosines,
    rows_of,
    tiny_qwen,
    warmed_up,
    with_lora,
)
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.nn.utils import weight_norm as old_weight_norm
from unusual_cases import EXACT, LLAMA_SIZES, check, reference_of_batches, select

# --- images -----------------------------------------------------------------------------------------------------------


def tiny_llava() -> nn.Module:
    """A random LLaVA: a vision tower of 4 patches an image, and a projector, all of it with LoRA."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    with torch.random.fork_rng():
        torch.manual_seed(0)
        vision = CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=8,
            patch_size=4,
            projection_dim=16,
        )
        text = LlamaConfig(
            **LLAMA_SIZES,
            max_position_embeddings=128,
            initializer_range=0.2,
        )
        config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=IMAGE, vision_feature_layer=-1)
        model = LlavaForConditionalGeneration(config)
    return with_lora(model.train())


IMAGE, PATCHES = VOCABULARY - 1, 4


def rows_with_images(images: Sequence[int], seed: int, length: int = 30) -> list[dict[str, Any]]:
    """Rows of like length with unequal numbers of images."""
    rng = np.random.default_rng(seed)
    rows = []
    for place, count in enumerate(images):
        text = rng.integers(1, IMAGE, length + place % 3 - PATCHES * count).tolist()
        tokens = [IMAGE] * (PATCHES * count) + text
        labels = [-100] * (PATCHES * count + 5) + text[5:]
        pictures = [rng.normal(size=(3, 8, 8)).astype(np.float32) for _ in range(count)]
        rows.append({"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": labels, "images": pictures})
    return rows


class PadWithImages(Pad):
    """Puts the images of all rows one after the other, as LLaVA takes them."""

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        pictures = [picture for feature in features for picture in feature.pop("images")]
        batch = super().__call__(features)
        if pictures:
            batch["pixel_values"] = torch.from_numpy(np.stack(pictures))
        return batch


@pytest.mark.parametrize("images", [[1, 2, 1, 0], [0, 2, 2, 0, 1, 1, 1, 1]])
def test_rows_with_unequal_numbers_of_images_are_measured_one_by_one(
    images: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_llava()
    optimizer = warmed_up(model)
    pool, goals = rows_with_images(images, 3), {"one": rows_with_images([1, 1, 1], 4)}

    def alone(rows: Sequence[dict[str, Any]]) -> list[Any]:
        return [PadWithImages(multiple=1)([dict(row)]) for row in rows]

    expected = reference_of_batches(model, optimizer, alone(pool), alone(goals["one"]))
    found = select(model, optimizer, pool, goals, collator=PadWithImages())
    assert found.metrics["one_by_one"] == 1
    assert "other gradients than they have alone" in caplog.text or "no axis of samples" in caplog.text
    np.testing.assert_allclose(found.scores, expected, atol=EXACT, rtol=0)


def test_rows_with_one_image_each_are_measured_in_batches() -> None:
    model = tiny_llava()
    optimizer = warmed_up(model)
    pool, goals = rows_with_images([1] * 5, 3), {"one": rows_with_images([1, 1, 1], 4)}
    assert select(model, optimizer, pool, goals, collator=PadWithImages()).metrics["one_by_one"] == 0


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [True, False])
def test_functional_dropout_is_off_under_gradient_checkpointing(reentrant: bool) -> None:
    from transformers import FalconConfig, FalconForCausalLM

    torch.manual_seed(0)
    config = FalconConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_dropout=0.3,
        attention_dropout=0.3,
        initializer_range=0.2,
    )
    model = with_lora(FalconForCausalLM(config))
    optimizer = warmed_up(model)
    pool, goals = pool_and_goals()
    expected = reference_cosines(model, optimizer, pool, goals).max(axis=1)
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    calls: list[bool] = []
    model.base_model.model.transformer.h[0].self_attention.register_forward_hook(
        lambda *_: calls.append(torch.is_grad_enabled())
    )
    found = select(model, optimizer, pool, goals)
    np.testing.assert_allclose(found.scores, expected, atol=EXACT, rtol=0)
    assert found.metrics["one_by_one"] == 0
    assert len(calls) % 2 == 0 and calls[1::2] == [True] * (len(calls) // 2)  # each layer ran twice: it checkpointed
    assert model.config.hidden_dropout == 0.3 and all(module.training for module in model.modules())


# --- RoPE -------------------------------------------------------------------------------------------------------------


def rotary_model(**rope: Any) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    positions = rope.pop("positions")
    config = LlamaConfig(
        **LLAMA_SIZES,
        max_position_embeddings=positions,
        initializer_range=0.3,
        rope_parameters={"rope_theta": 10000.0, **rope},
    )
    return with_lora(LlamaForCausalLM(config))


def longrope_model() -> nn.Module:
    from transformers import Phi3Config, Phi3ForCausalLM

    torch.manual_seed(0)
    config = Phi3Config(
        **LLAMA_SIZES,
        max_position_embeddings=128,
        original_max_position_embeddings=32,
        initializer_range=0.3,
        pad_token_id=0,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0] * 4,
            "long_factor": [4.0, 5.0, 6.0, 7.0],
            "original_max_position_embeddings": 32,
        },
    )
    return with_lora(Phi3ForCausalLM(config))


def frequencies(model: nn.Module) -> list[torch.Tensor]:
    return [buffer.clone() for name, buffer in model.named_buffers() if "inv_freq" in name]


ROPE: dict[str, tuple[Callable[[], nn.Module], list[int]]] = {
    "dynamic": (lambda: rotary_model(rope_type="dynamic", factor=4.0, positions=16), [18, 25, 33, 41, 52, 60]),
    "longrope, both sides": (longrope_model, [18, 25, 31, 33, 52, 60]),
    "longrope, padded beyond it": (longrope_model, [27, 29, 30, 31, 32, 26]),
}


@pytest.mark.parametrize("case", ROPE)
def test_rope_that_scales_with_the_longest_row_is_measured_one_by_one_and_put_back(case: str) -> None:
    make, lengths = ROPE[case]
    model = make()
    before = frequencies(model)
    multiple = 64 if "padded" in case else 8
    found = check(model, rows_of(lengths, 3), {"one": rows_of(lengths[:3], 4)}, collator=Pad(multiple=multiple))
    assert all(map(torch.equal, frequencies(model), before))
    assert len(found.rows) == 3


def test_rope_of_short_rows_is_measured_in_batches() -> None:
    model = rotary_model(rope_type="dynamic", factor=4.0, positions=64)
    check(model, one_by_one=False)


# --- layers -----------------------------------------------------------------------------------------------------------


def down_proj(model: nn.Module) -> nn.Linear:
    found: Any = model.get_submodule("model.layers.0.mlp.down_proj")
    return found


def only_down_proj(model: nn.Module) -> nn.Module:
    """Train the linear layers of one block alone."""
    model.requires_grad_(False)
    for name, value in model.named_parameters():
        value.requires_grad_("layers.0.mlp" in name)
    return model


class ScaledMlp(nn.Module):
    """Uses a further parameter that lies in a linear layer, and that layer's weight once more."""

    def __init__(self, inner: Any, *, scale: bool) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale
        if scale:
            inner.down_proj.gain = nn.Parameter(torch.full((inner.down_proj.out_features,), 1.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x)
        layer = self.inner.down_proj
        return y * layer.gain if self.scale else y + 0.1 * functional.linear(x.tanh(), layer.weight[:, : x.shape[-1]])


def with_weight_norm() -> nn.Module:
    model = tiny_qwen()
    old_weight_norm(down_proj(model))
    return only_down_proj(model)


def with_pruning() -> nn.Module:
    model = tiny_qwen()
    prune.random_unstructured(down_proj(model), "weight", amount=0.3)
    return only_down_proj(model)


def with_parametrization() -> nn.Module:
    model = tiny_qwen()
    nn.utils.parametrizations.weight_norm(down_proj(model))
    return only_down_proj(model)


def with_gain() -> nn.Module:
    model: Any = tiny_qwen()
    model.model.layers[0].mlp = ScaledMlp(model.model.layers[0].mlp, scale=True)
    return only_down_proj(model)


def with_second_use() -> nn.Module:
    model: Any = tiny_qwen()
    model.model.layers[0].mlp = ScaledMlp(model.model.layers[0].mlp, scale=False)
    return only_down_proj(model)


LAYERS = {
    "weight_v": with_weight_norm,
    "weight_orig": with_pruning,
    "original1": with_parametrization,
    "gain": with_gain,
    "down_proj.weight outside its layer's forward": with_second_use,
}


@pytest.mark.parametrize("reason", LAYERS)
def test_layers_of_more_than_a_weight_and_a_bias_are_measured_one_by_one(
    reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = LAYERS[reason]()
    optimizer = warmed_up(model)
    pool, goals = pool_and_goals()
    with caplog.at_level(logging.WARNING, "dataflex"):
        found = select(model, optimizer, pool, goals)
    assert found.metrics["one_by_one"] == 1 and reason in caplog.text
    expected = _reference_without_copy(model, optimizer, pool, goals)
    np.testing.assert_allclose(found.scores, expected, atol=1e-4, rtol=0)


def _reference_without_copy(model: nn.Module, optimizer: Any, pool: Any, goals: Any) -> np.ndarray:
    """Of a model that cannot be copied while a hook makes its weights: fp32, one row at a time."""
    model.eval()
    names = [(name, value) for name, value in model.named_parameters() if value.requires_grad]

    def gradient(row: Any) -> torch.Tensor:
        loss = model(**Pad(multiple=1)([dict(row)])).loss
        grads = torch.autograd.grad(loss, [value for _, value in names], materialize_grads=True)
        return torch.cat([grad.flatten() for grad in grads]).double()

    def memory(key: str) -> torch.Tensor:
        return torch.cat([optimizer.state[value][key].flatten() for _, value in names]).double()

    first, second = memory("exp_avg"), memory("exp_avg_sq")

    def step(row: Any) -> torch.Tensor:
        grad = gradient(row)
        return (0.9 * first + 0.1 * grad) / (0.999 * second + 0.001 * grad**2 + 1e-8).sqrt()

    columns = []
    for goal in goals.values():
        aims = torch.stack([gradient(row) for row in goal])
        steps = torch.stack([step(row) for row in pool])
        columns.append(functional.cosine_similarity(steps[:, None], aims[None], dim=2, eps=0).mean(dim=1))
    model.train()
    return torch.stack(columns, dim=1).max(dim=1).values.numpy()


class SequenceFirst(nn.Module):
    """Hands its layers [T, B, ...]."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x.transpose(0, 1)).transpose(0, 1)
        return y


def test_layers_that_put_the_sequence_first_are_measured_one_by_one_also_where_it_is_as_long_as_the_batch() -> None:
    model: Any = with_lora(tiny_qwen())
    for layer in model.base_model.model.model.layers:
        layer.mlp = SequenceFirst(layer.mlp)
    square = rows_of([8] * 8, 3)  # 8 rows of 8 tokens
    check(model, square, {"one": rows_of([8] * 8, 4)}, token_budget=64)
