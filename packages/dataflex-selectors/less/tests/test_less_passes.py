"""Passes over batches: which models stay in them, what falls back together, and what rows count with."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from less_cases import (
    VOCABULARY,
    Pad,
    Row,
    pool_and_goals,
    rows_of,
    selector,
    tiny_qwen,
    warmed_up,
    with_lora,
)
from torch import nn
from torch.nn import functional
from transformers.modeling_outputs import CausalLMOutput
from unusual_cases import in_half_precision, on_a_quantised_base, select

from dataflex.data.scoring_loader import ScoringLoader
from dataflex.gradients.coverage import Scope, cover
from dataflex.gradients.engine import GradientEngine
from dataflex.gradients.sinks import NormSink

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


def checkpointed() -> nn.Module:
    model: Any = with_lora(tiny_qwen())
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def partly_frozen() -> nn.Module:
    """As ``finetuning_type: freeze`` leaves it."""
    model = tiny_qwen()
    for name, value in model.named_parameters():
        value.requires_grad_(".layers.1." in name)
    return model


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
    "quantised": on_a_quantised_base,
    "checkpointed": checkpointed,
    "frozen": partly_frozen,
}
"""What the independent reference found exact in batches; dropout is in all of Qwen2's."""

WITHOUT_TARGETS = {"labels": [-100] * 9, "input_ids": [5] * 9, "attention_mask": [1] * 9}
COLLATORS = {"padded right": Pad(), "padded left": Pad("left"), "padded far": Pad(multiple=64)}


@pytest.mark.parametrize("numbers", ["no", "bf16", "fp16"])
def test_no_model_that_is_exact_in_batches_falls_back(numbers: str) -> None:
    accelerator = in_half_precision(numbers) if numbers != "no" else None
    pool, _ = pool_and_goals(size=20)
    pool.insert(3, WITHOUT_TARGETS)
    collated = [(name, make, "padded right") for name, make in IN_BATCHES.items()]
    collated += [(place, tiny_qwen, place) for place in COLLATORS]
    for name, make, place in collated:
        model, collator = make(), COLLATORS[place]
        engine = GradientEngine(model, cover(model, Scope.LINEAR), accelerator)

        def body(engine: GradientEngine = engine, collator: Pad = collator) -> list[int]:
            sizes = []
            loader = ScoringLoader(pool, collator, range(len(pool)), token_budget=192, uneven_first=True)
            for rows, batch in loader:
                engine.feed(batch, NormSink(), loader.alone(rows))
                sizes.append(len(rows))
            return sizes

        found = engine.attempt_once(body)
        assert found is not None and max(found) > 2, f"{name}: {engine.reason}"


class Blocks:
    """One packed row a batch, as under ``neat_packing``: a sample does not see the others of its row."""

    neat_packing = True

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        (row,) = features
        places = torch.tensor(row["position_ids"])
        samples = places.eq(0).cumsum(0)
        seen = (samples[:, None] == samples[None]).tril()
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        batch = {name: torch.tensor([row[name]]) for name in ("input_ids", "labels", "position_ids")}
        return {**batch, "attention_mask": mask[None, None]}


def test_a_packed_row_counts_as_the_mean_over_the_targets_of_its_samples() -> None:
    model = with_lora(tiny_qwen(attention_dropout=0.0), lora_dropout=0.0)
    samples, goals = rows_of([7, 12, 5, 9, 4, 20, 6, 11], 3), rows_of([8, 14], 4)
    packs = [samples[:3], samples[3:5], samples[5:6], samples[6:]]

    def packed(pack: Sequence[Row]) -> Row:
        joined = {name: [value for row in pack for value in row[name]] for name in ("input_ids", "labels")}
        return joined | {"position_ids": [place for row in pack for place in range(len(row["input_ids"]))]}

    found = selector(
        [packed(pack) for pack in packs],
        {"goal": [packed([row]) for row in goals]},
        collator=Blocks(),
        preconditioner="sgd",
    ).select(model, 6, 2)
    exact = copy.deepcopy(model).double().eval()
    trained = [value for value in exact.parameters() if value.requires_grad]

    def gradient(pack: Sequence[Row]) -> torch.Tensor:
        targets = [sum(label >= 0 for label in row["labels"]) for row in pack]
        losses = [exact(**{name: torch.tensor([value]) for name, value in row.items()}).loss for row in pack]
        loss = sum(loss * count for loss, count in zip(losses, targets, strict=True)) / sum(targets)
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, trained)])

    aims = torch.stack([gradient([row]) for row in goals])
    rows = torch.stack([gradient(pack) for pack in packs])
    wanted = functional.cosine_similarity(rows[:, None], aims[None], dim=2).mean(dim=1)
    assert found.metrics["one_by_one"] == 0
    np.testing.assert_allclose(found.scores, wanted.numpy(), atol=2e-6, rtol=0)


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
    for exponent in np.arange(24.0, 36.0, 0.5):  # up to where the first eval rows overflow
        caplog.clear()
        with caplog.at_level(logging.WARNING, "dataflex"):
            found = select(model, optimizer, pool, goals, accelerator=in_half_precision("fp16", 2.0**exponent))
        if found.metrics["validation_non_finite"]:
            break
    assert 0 < found.metrics["validation_non_finite"] < 7
    told = " ".join(caplog.text.split())
    assert f"of the 7 rows of the eval sets, {found.metrics['validation_non_finite']:.0f} have a gradient" in told
    assert "bf16: true has room" in told


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

    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None) -> CausalLMOutput:
        hidden = functional.one_hot(input_ids.clamp(max=1), 2).float()
        flat = input_ids[:, 1].eq(9).view(-1, 1, 1)
        logits = self.layer(hidden) * (~flat)
        return CausalLMOutput(logits=functional.pad(logits, (0, 8)))


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
