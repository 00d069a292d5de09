"""Models whose batches give other gradients than their rows alone: exact all the same, or refused by name.

The expected scores are those of ``less_cases.reference_cosines``: fp64, one unpadded row at a time.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from types import SimpleNamespace
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
    selector,
    tiny_qwen,
    warmed_up,
    with_lora,
)
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.nn.utils import weight_norm as old_weight_norm

from dataflex.data.scoring_loader import ScoringLoader
from dataflex.errors import ComponentError
from dataflex.gradients.coverage import Scope, cover
from dataflex.gradients.engine import GradientEngine
from dataflex_selectors_less.sinks import NormSink

EXACT = 2e-6  # an fp32 pass beside an fp64 one, batch 1


def select(model: nn.Module, optimizer: Any, pool: Any, goals: Any, **params: Any) -> Any:
    return selector(pool, goals, optimizer, **params).select(model, 6, 3)


def check(
    model: nn.Module, pool: Any = None, goals: Any = None, *, one_by_one: bool | None = True, **params: Any
) -> Any:
    """Select with a trained model and compare all scores with the reference."""
    optimizer = warmed_up(model)
    if pool is None:
        pool, goals = pool_and_goals()
    expected = reference_cosines(model, optimizer, pool, goals).max(axis=1)
    selection = select(model, optimizer, pool, goals, **params)
    if one_by_one is not None:
        assert selection.metrics["one_by_one"] == one_by_one
    np.testing.assert_allclose(selection.scores, expected, atol=EXACT, rtol=0)
    return selection


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
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
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

    expected = _reference_of_batches(model, optimizer, alone(pool), alone(goals["one"]))
    found = select(model, optimizer, pool, goals, collator=PadWithImages())
    assert found.metrics["one_by_one"] == 1
    assert "other gradients than they have alone" in caplog.text or "no axis of samples" in caplog.text
    np.testing.assert_allclose(found.scores, expected, atol=EXACT, rtol=0)


def test_rows_with_one_image_each_are_measured_in_batches() -> None:
    model = tiny_llava()
    optimizer = warmed_up(model)
    pool, goals = rows_with_images([1] * 5, 3), {"one": rows_with_images([1, 1, 1], 4)}
    assert select(model, optimizer, pool, goals, collator=PadWithImages()).metrics["one_by_one"] == 0


def _reference_of_batches(model: nn.Module, optimizer: Any, pool: Sequence[Any], goals: Sequence[Any]) -> np.ndarray:
    """LESS by the book for batches of one: fp64, the released code's constants, one subtask."""
    exact = copy.deepcopy(model).double().eval()
    names = [name for name, value in exact.named_parameters() if value.requires_grad]
    own, weights = dict(model.named_parameters()), dict(exact.named_parameters())

    def gradient(batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        given = {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}
        labels = given.pop("labels")
        logits = exact(**given).logits[0, :-1]
        loss = functional.cross_entropy(logits, labels[0, 1:])
        return list(torch.autograd.grad(loss, [weights[name] for name in names], materialize_grads=True))

    def step(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        parts = []
        for name, grad in zip(names, gradient(batch), strict=True):
            state = optimizer.state.get(own[name]) or {"exp_avg": torch.zeros(()), "exp_avg_sq": torch.zeros(())}
            first, second = 0.9 * state["exp_avg"] + 0.1 * grad, 0.999 * state["exp_avg_sq"] + 0.001 * grad**2
            parts.append((first / (second + 1e-8).sqrt()).flatten())
        return torch.cat(parts)

    aims = torch.stack([torch.cat([part.flatten() for part in gradient(batch)]) for batch in goals])
    steps = torch.stack([step(batch) for batch in pool])
    cosines: np.ndarray = functional.cosine_similarity(steps[:, None], aims[None], dim=2, eps=0).mean(dim=1).numpy()
    return cosines


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
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.3,
        rope_parameters={"rope_theta": 10000.0, **rope},
    )
    return with_lora(LlamaForCausalLM(config))


def longrope_model() -> nn.Module:
    from transformers import Phi3Config, Phi3ForCausalLM

    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
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


# --- beside the loss --------------------------------------------------------------------------------------------------


def test_a_routers_loss_is_left_out_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        output_router_logits=True,
        router_aux_loss_coef=0.5,
        initializer_range=0.2,
        experts_implementation="eager",  # the grouped product takes no fp64, in which the reference runs
    )
    model = with_lora(MixtralForCausalLM(config), target_modules=["q_proj", "v_proj"])
    optimizer = warmed_up(model)
    pool, goals = pool_and_goals()
    less = selector(pool, goals, optimizer)
    with caplog.at_level(logging.INFO, "dataflex"):
        found = less.select(model, 6, 3)
        less.select(model, 8, 3)
    assert caplog.text.count("the router's loss (router_aux_loss_coef: 0.5) is left out") == 1
    model.base_model.model.config.output_router_logits = False  # the reference then has the plain loss
    expected = reference_cosines(model, optimizer, pool, goals).max(axis=1)
    np.testing.assert_allclose(found.scores, expected, atol=EXACT, rtol=0)


def test_adaloras_own_term_is_left_out_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    from peft import AdaLoraConfig, get_peft_model

    torch.manual_seed(0)
    config = AdaLoraConfig(
        task_type="CAUSAL_LM", init_r=4, target_r=2, total_step=100, tinit=5, tfinal=5, target_modules=["q_proj"]
    )
    model = get_peft_model(tiny_qwen(), config)
    for name, value in model.named_parameters():
        if "lora_E" in name:
            nn.init.normal_(value, std=0.1)
    optimizer = warmed_up(model)
    pool, goals = pool_and_goals()
    with caplog.at_level(logging.INFO, "dataflex"):
        found = select(model, optimizer, pool, goals)
    assert "AdaLoRA's orthogonality term (orth_reg_weight: 0.5) is left out" in caplog.text
    batches = [[Pad(multiple=1)([dict(row)]) for row in rows] for rows in (pool, *goals.values())]
    expected = [_reference_of_batches(model, optimizer, batches[0], goal) for goal in batches[1:]]
    np.testing.assert_allclose(found.scores, np.max(expected, axis=0), atol=EXACT, rtol=0)


@pytest.mark.parametrize("name", ["CpmAnt", "Moshi", "XLNet", "TrOCR", "Bart"])
def test_a_model_that_is_trained_with_a_loss_of_its_own_is_refused_by_name(name: str) -> None:
    import transformers

    torch.manual_seed(0)
    size = {"vocab_size": VOCABULARY, "max_position_embeddings": 64}
    layers = {**size, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    decoder = {**size, "d_model": 32, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
    configs: dict[str, dict[str, Any]] = {
        "CpmAnt": {**layers, "dim_head": 16, "dim_ff": 32},
        "Moshi": {**layers, "head_dim": 16, "ffn_dim": 32},
        "XLNet": {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 32},
        "TrOCR": decoder,
        "Bart": decoder,
    }
    kind = "XLNetLMHeadModel" if name == "XLNet" else f"{name}ForCausalLM"
    model = getattr(transformers, kind)(getattr(transformers, f"{name}Config")(**configs[name]))
    pool, goals = pool_and_goals()
    with pytest.raises(ComponentError, match=rf"{kind} computes a loss of its own.*component_name: random"):
        selector(pool, goals, None, preconditioner="sgd").select(model, 6, 3)


def test_prompt_tuning_is_refused_where_the_first_token_is_a_target_and_exact_where_it_is_not() -> None:
    from peft import PromptTuningConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(tiny_qwen(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    pool, goals = pool_and_goals()
    check(model, pool, goals)
    for row in pool:  # stage: pt
        row["labels"] = list(row["input_ids"])
    with pytest.raises(ComponentError, match=r"under PROMPT_TUNING the first token.*stage: pt"):
        selector(pool, goals, None, preconditioner="sgd").select(model, 6, 3)


# --- what stays in batches --------------------------------------------------------------------------------------------

CAUSAL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}


def causal(name: str, **config: Any) -> nn.Module:
    import transformers

    torch.manual_seed(0)
    model: nn.Module = getattr(transformers, f"{name}ForCausalLM")(
        getattr(transformers, f"{name}Config")(**CAUSAL, **config)
    )
    return model


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128))


IN_BATCHES: dict[str, Callable[[], nn.Module]] = {
    "tied": lambda: with_lora(tiny_qwen(tied=True)),
    "rank stabilised": lambda: with_lora(tiny_qwen(), use_rslora=True),
    "biases": lambda: with_lora(tiny_qwen(), bias="all"),
    "ranks": lambda: with_lora(tiny_qwen(), rank_pattern={"q_proj": 8, "down_proj": 2}),
    "head": lambda: with_lora(tiny_qwen(), modules_to_save=["lm_head"]),
    "Qwen2": tiny_qwen,
    "Llama": lambda: causal("Llama"),
    "Gemma": lambda: causal("Gemma", head_dim=8),
    "Phi3": lambda: causal("Phi3"),
    "Mixtral": lambda: with_lora(causal("Mixtral", num_local_experts=4), target_modules=["q_proj", "v_proj"]),
    "GPT-2": lambda: with_lora(gpt2(), fan_in_fan_out=True),
}


@pytest.mark.parametrize("numbers", ["no", "bf16", "fp16"])
def test_no_model_that_is_exact_in_batches_falls_back(numbers: str) -> None:
    accelerator = in_half_precision(numbers) if numbers != "no" else None
    pool, _ = pool_and_goals(size=20)
    for name, make in IN_BATCHES.items():
        model = make()
        engine = GradientEngine(model, cover(model, Scope.LINEAR), accelerator)

        def body(engine: GradientEngine = engine) -> list[int]:
            sizes = []
            loader = ScoringLoader(pool, Pad(), range(len(pool)), token_budget=128, uneven_first=True)
            for rows, batch in loader:
                engine.feed(batch, NormSink(), loader.alone(rows))
                sizes.append(len(rows))
            return sizes

        found = engine.attempt_once(body)
        assert found is not None and max(found) > 2, f"{name}: {engine.reason}"


def in_half_precision(numbers: str, loss_scale: float | None = None) -> Any:
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[numbers]
    return SimpleNamespace(
        mixed_precision=numbers,
        autocast=lambda: torch.autocast("cpu", kind),
        scaler=SimpleNamespace(get_scale=lambda: loss_scale) if loss_scale else None,
        process_index=0,
        num_processes=1,
        device=torch.device("cpu"),
    )


def test_in_fp16_no_row_loses_its_score_at_the_loss_scale_of_a_large_batch_and_rows_that_do_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model)
    pool, goals = pool_and_goals()
    usual = select(model, optimizer, pool, goals).scores
    for scale in (2.0**20, 2.0**22):
        found = select(model, optimizer, pool, goals, accelerator=in_half_precision("fp16", scale))
        assert (found.metrics["non_finite"], found.metrics["validation_non_finite"]) == (0, 0)
        np.testing.assert_allclose(found.scores, usual, atol=0.02, rtol=0)
    with caplog.at_level(logging.WARNING, "dataflex"):
        found = select(model, optimizer, pool, goals, accelerator=in_half_precision("fp16", 2.0**35))
    assert 0 < found.metrics["validation_non_finite"] < 7
    told = " ".join(caplog.text.split())
    assert f"of the 7 rows of the eval sets, {found.metrics['validation_non_finite']:.0f} have a gradient" in told
    assert "bf16: true has room" in told


# --- directions and optimizers ----------------------------------------------------------------------------------------


class BatchShift(nn.Module):
    """Shifts hidden states by the mean over the batch, where a batch holds rows of unlike lengths."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x)
        return y + 0.3 * y.detach().mean(dim=(0, 1), keepdim=True) * (len(y) > 4)


def test_directions_are_measured_one_by_one_again_where_candidates_have_to_be() -> None:
    model: Any = with_lora(tiny_qwen())
    layers = model.base_model.model.model.layers
    layers[0].mlp = BatchShift(layers[0].mlp)
    pool, goals = pool_and_goals()
    goals = {"one": goals["one"][:4], "two": goals["two"]}  # batches of at most 4 rows: nothing is wrong with them
    calls: list[int] = []
    model.register_forward_pre_hook(lambda _, args, kwargs: calls.append(len(kwargs["input_ids"])), with_kwargs=True)
    optimizer = warmed_up(model)
    calls.clear()
    less = selector(pool, goals, optimizer)
    found = less.select(model, 6, 3)
    assert found.metrics["one_by_one"] == 1  # and so are directions, which no batch spoilt
    last_batch = max(place for place, size in enumerate(calls) if size > 1)
    assert len(calls) - last_batch - 1 >= 2 * 6 + len(pool)  # eval rows twice each, then candidates


def test_each_group_of_the_optimizer_counts_with_its_own_learning_rate() -> None:
    model = with_lora(tiny_qwen())
    optimizer = warmed_up(model)
    for group, rate in zip(optimizer.param_groups, (1e-3, 1.6e-2), strict=True):  # LoRA+ of ratio 16
        group.update(lr=rate, weight_decay=0.0)
    pool, goals = pool_and_goals()
    found = select(model, optimizer, pool, goals, preconditioner="adam").scores
    expected = _displacement_cosines(model, optimizer, pool, goals)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    for group in optimizer.param_groups:  # a schedule that has ended
        group["lr"] = 0.0
    assert np.isfinite(select(model, optimizer, pool, goals, preconditioner="adam").scores).all()


def _displacement_cosines(model: nn.Module, optimizer: Any, pool: Any, goals: Any) -> np.ndarray:
    """Cosines of what one step of the very optimizer does to the weights for a row, and the eval rows' gradients."""
    own = [value for value in model.parameters() if value.requires_grad]

    def gradient(row: Any) -> list[torch.Tensor]:
        model.eval()
        loss = model(**Pad(multiple=1)([dict(row)])).loss
        model.train()
        return list(torch.autograd.grad(loss, own, materialize_grads=True))

    def displacement(row: Any) -> torch.Tensor:
        copies = [nn.Parameter(value.detach().double()) for value in own]
        place = {id(value): copy_ for value, copy_ in zip(own, copies, strict=True)}
        groups = [
            {**group, "params": [place[id(value)] for value in group["params"]]} for group in optimizer.param_groups
        ]
        again = torch.optim.AdamW(groups)
        for value, copy_ in zip(own, copies, strict=True):
            again.state[copy_] = {
                name: kept.double().clone() if kept.ndim else kept.clone()
                for name, kept in optimizer.state[value].items()
            }
        for grad, copy_ in zip(gradient(row), copies, strict=True):
            copy_.grad = grad.double()
        again.step()
        return torch.cat(
            [(value.detach().double() - copy_.detach()).flatten() for value, copy_ in zip(own, copies, strict=True)]
        )

    steps = torch.stack([displacement(row) for row in pool])
    columns = []
    for goal in goals.values():
        aims = torch.stack([torch.cat([part.flatten() for part in gradient(row)]).double() for row in goal])
        columns.append(functional.cosine_similarity(steps[:, None], aims[None], dim=2, eps=0).mean(dim=1))
    return torch.stack(columns, dim=1).max(dim=1).values.numpy()


class Saturating(nn.Module):
    """One parameter; the loss of a row whose second token is 9 has a gradient of zero."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.layer.weight)

    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None) -> SimpleNamespace:
        hidden = functional.one_hot(input_ids.clamp(max=1), 2).float()
        flat = input_ids[:, 1].eq(9).view(-1, 1, 1)
        logits = self.layer(hidden) * (~flat)
        return SimpleNamespace(logits=functional.pad(logits, (0, 8)))


def test_an_eval_row_with_a_zero_gradient_counts_as_cosine_0(caplog: pytest.LogCaptureFixture) -> None:
    def row(*tokens: int) -> dict[str, list[int]]:
        return {"input_ids": list(tokens), "attention_mask": [1] * len(tokens), "labels": [-100, *tokens[1:]]}

    pool = [row(0, 1, 0), row(1, 0, 1), row(0, 0, 0)]
    # The only candidate that is also the first eval row has cosine 1 with it and 0 with the flat one: (1 + 0) / 2.
    goals = {"one": [row(0, 1, 0), row(0, 9, 0)]}
    model = Saturating()
    with caplog.at_level(logging.WARNING, "dataflex"):
        found = selector(pool, goals, None, preconditioner="sgd").select(model, 6, 2)
    assert found.scores[0] == pytest.approx(0.5, abs=1e-6)
    assert found.metrics["validation_zero"] == 1
    assert "1 have one that is zero" in " ".join(caplog.text.split())
