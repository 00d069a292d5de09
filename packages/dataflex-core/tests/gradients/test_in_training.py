"""Labels of rows from training's own backward: against fp64 of one row at a time, and ``.grad`` against a plain run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dataflex.errors import ComponentError
from dataflex.gradients.coverage import Scope, cover
from dataflex.gradients.in_training import TrainingRecorder, directions_for

VOCABULARY = 60
Batch = dict[str, torch.Tensor]


def tiny(*, lora: bool, tied: bool = False, dropout: float = 0.0, checkpointing: bool | None = None) -> nn.Module:
    """A random Qwen2 with biases; ``checkpointing`` says whether it is reentrant."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.2,
            attention_dropout=dropout,
            tie_word_embeddings=tied,
        )
        model: Any = Qwen2ForCausalLM(config)
        if checkpointing is not None:
            model.gradient_checkpointing_enable({"use_reentrant": checkpointing})
            model.enable_input_require_grads()
        if lora:
            model = get_peft_model(model, LoraConfig(r=4, lora_dropout=dropout, target_modules="all-linear"))
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    nn.init.normal_(weight, std=0.1)
    return model.train()  # type: ignore[no-any-return]


def rows_of(lengths: Sequence[int], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, VOCABULARY, (length,), generator=generator) for length in lengths]


def collated(rows: Sequence[torch.Tensor]) -> Batch:
    """Padded right; the first third of a row is its prompt."""
    width = max(map(len, rows))
    batch = {
        "input_ids": torch.zeros(len(rows), width, dtype=torch.long),
        "attention_mask": torch.zeros(len(rows), width, dtype=torch.long),
        "labels": torch.full((len(rows), width), -100),
    }
    for place, row in enumerate(rows):
        batch["input_ids"][place, : len(row)] = row
        batch["attention_mask"][place, : len(row)] = 1
        batch["labels"][place, len(row) // 3 : len(row)] = row[len(row) // 3 :]
    return batch


def train_on(model: nn.Module, batches: Sequence[Batch], recorder: TrainingRecorder | None = None) -> torch.Tensor:
    """Forward and backward of a step of several micro-batches, its loss the mean over all target tokens; the labels."""
    model.zero_grad()
    torch.manual_seed(7)  # dropout
    tokens = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in batches)
    found = []
    for batch in batches:
        rows = len(batch["labels"])
        if recorder is None:
            model(**batch, num_items_in_batch=tokens).loss.backward()
            continue
        with recorder.micro_batch(rows):
            model(**batch, num_items_in_batch=tokens).loss.backward()
        found.append(recorder.labels())
    return torch.cat(found) if found else torch.zeros(0)


def grads_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def vectors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Two random directions for what linear layers train."""
    generator = torch.Generator().manual_seed(5)
    parameters = cover(model, Scope.LINEAR).parameters
    return {name: torch.randn(2, value.numel(), generator=generator) for name, value in parameters.items()}


def recording(model: nn.Module, *, summed: bool) -> TrainingRecorder:
    coverage = cover(model, Scope.LINEAR)
    return TrainingRecorder(coverage, directions_for(coverage, vectors_of(model)), summed=summed)


def expected_labels(model: nn.Module, rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """fp64, one unpadded row at a time, whole gradients side by side."""
    exact = copy.deepcopy(model).double()
    names = vectors_of(model)
    found = []
    for row in rows:
        exact.zero_grad()
        exact(**collated([row])).loss.backward()
        wanted = {name: value.grad.flatten() for name, value in exact.named_parameters() if name in names}
        grad = torch.cat([wanted[name] for name in names])
        found.append(torch.cat([names[name].double() for name in names], dim=1) @ grad / grad.norm())
    return torch.stack(found)


LENGTHS = [9, 15, 21, 30, 12, 18, 7, 25]


@pytest.mark.parametrize("checkpointing", [None, False, True], ids=["kept", "checkpoints", "reentrant"])
@pytest.mark.parametrize(("lora", "summed"), [(True, False), (False, True), (False, False)])
def test_labels_are_those_of_one_row_at_a_time(lora: bool, summed: bool, checkpointing: bool | None) -> None:
    model = tiny(lora=lora, checkpointing=checkpointing)
    recorder, rows = recording(model, summed=summed), rows_of(LENGTHS)
    found = train_on(model, [collated(rows[:4]), collated(rows[4:])], recorder)
    expected = expected_labels(tiny(lora=lora), rows)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("checkpointing", [None, False, True], ids=["kept", "checkpoints", "reentrant"])
@pytest.mark.parametrize("lora", [True, False])
def test_gradients_are_bit_equal_where_the_stock_product_is_kept(lora: bool, checkpointing: bool | None) -> None:
    model = tiny(lora=lora, dropout=0.3, checkpointing=checkpointing)
    rows = rows_of(LENGTHS)
    batches = [collated(rows[:3]), collated(rows[3:6]), collated(rows[6:])]
    train_on(model, batches)
    plain = grads_of(model)
    train_on(model, batches, recording(model, summed=False))
    found = grads_of(model)
    assert plain.keys() == found.keys()
    assert all(torch.equal(plain[name], found[name]) for name in plain)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("checkpointing", [None, False], ids=["kept", "checkpoints"])
def test_summed_gradients_are_the_stock_ones_to_rounding(checkpointing: bool | None, tied: bool) -> None:
    model = tiny(lora=False, dropout=0.3, tied=tied, checkpointing=checkpointing)
    rows = rows_of(LENGTHS)
    batches = [collated(rows[:4]), collated(rows[4:])]
    train_on(model, batches)
    plain = grads_of(model)
    train_on(model, batches, recording(model, summed=True))
    found = grads_of(model)
    assert plain.keys() == found.keys()
    for name, grad in plain.items():
        assert float((found[name] - grad).abs().max()) <= 1e-6 * float(grad.abs().max()), name
    assert any(not torch.equal(found[name], plain[name]) for name in plain)  # the other product was made


def test_a_layer_whose_bias_alone_counts_keeps_its_tied_weights_gradient() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 5), nn.Linear(5, 9)
            self.head.weight = self.embed.weight

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(tokens)).square().mean()  # type: ignore[no-any-return]

    model, tokens = Small(), torch.arange(8).reshape(2, 4)
    model(tokens).backward()
    plain = grads_of(model)
    model.zero_grad()
    recorder = recording(model, summed=True)
    with recorder.micro_batch(2):
        model(tokens).backward()
    for name, grad in grads_of(model).items():
        torch.testing.assert_close(grad, plain[name])
    assert list(vectors_of(model)) == ["head.bias"]


def test_how_rows_are_ordered_and_batched_does_not_matter() -> None:
    model, rows = tiny(lora=True), rows_of(LENGTHS)
    recorder = recording(model, summed=False)
    once = train_on(model, [collated(rows)], recorder)
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = [rows[place] for place in order]
    parts = train_on(model, [collated(shuffled[:1]), collated(shuffled[1:5]), collated(shuffled[5:])], recorder)
    torch.testing.assert_close(parts, once[torch.as_tensor(order)], rtol=0, atol=1e-5 * float(once.abs().max()))


def test_what_the_loss_is_multiplied_by_does_not_matter() -> None:
    model, batch = tiny(lora=True), collated(rows_of([9, 15]))
    recorder = recording(model, summed=False)
    found = []
    for scale in (1.0, 4096.0):
        with recorder.micro_batch(2):
            (model(**batch).loss * scale).backward()
        found.append(recorder.labels())
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=0)


def test_a_row_without_a_gradient_has_no_label() -> None:
    model, batch = tiny(lora=True), collated(rows_of([9, 15, 12]))
    batch["labels"][1] = -100
    found = train_on(model, [batch], recording(model, summed=False))
    assert found.isnan().any(dim=1).tolist() == [False, True, False]


def test_the_layers_have_their_own_forward_back_afterwards() -> None:
    model, batch = tiny(lora=True), collated(rows_of([9, 15]))
    train_on(model, [batch], recording(model, summed=False))
    assert not any("forward" in vars(module) for module in model.modules())
    with pytest.raises(ZeroDivisionError), recording(model, summed=False).micro_batch(2):
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in model.modules())


class Odd(nn.Module):
    """Uses its layer in a way that hides the rows."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.layer = how, nn.Linear(4, 4)

    def forward(self, x_BTi: torch.Tensor) -> torch.Tensor:
        if self.how == "twice":
            return self.layer(self.layer(x_BTi))  # type: ignore[no-any-return]
        if self.how == "flat":
            return self.layer(x_BTi.flatten(0, 1))  # type: ignore[no-any-return]
        return x_BTi @ self.layer.weight + self.layer.bias


@pytest.mark.parametrize(
    ("how", "said"),
    [("twice", "layer 2 times"), ("flat", "no axis of rows"), ("past", "layer not through its own forward")],
)
def test_a_layer_whose_rows_cannot_be_told_apart_is_refused_by_name(how: str, said: str) -> None:
    model = Odd(how)
    recorder = recording(model, summed=False)
    with pytest.raises(ComponentError, match=said), recorder.micro_batch(3):
        model(torch.randn(3, 5, 4)).sum().backward()


def test_a_direction_of_another_model_is_refused() -> None:
    coverage = cover(tiny(lora=True), Scope.LINEAR)
    with pytest.raises(ComponentError, match=r"made for another model"):
        directions_for(coverage, {name: torch.zeros(1, 3) for name in coverage.parameters})


def test_labels_in_half_precision_are_near_those_in_fp32() -> None:
    model, rows = tiny(lora=True), rows_of(LENGTHS)
    recorder = recording(model, summed=False)
    exact = train_on(model, [collated(rows)], recorder)
    with torch.autocast("cpu", torch.bfloat16):
        rough = train_on(model, [collated(rows)], recorder)
    assert 0 < float((rough - exact).abs().max()) < 0.1 * float(exact.abs().max())
