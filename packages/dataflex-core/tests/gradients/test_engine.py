"""Per-sample gradients against torch.autograd, one sample at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from doubles import DeepSpeedEngine, OneRank, ScaledOptimizer, WrappedEngine, in_numbers
from torch import nn
from torch.nn import functional
from transformers.modeling_outputs import CausalLMOutput

from dataflex.errors import ComponentError
from dataflex.gradients import linear
from dataflex.gradients.coverage import Scope, cover
from dataflex.gradients.engine import GradientEngine

VOCABULARY = 11


class Small(nn.Module):
    """Embeds, mixes the positions before it, and predicts; every kind of layer the engine knows."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 6)
        self.first = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)
        self.second = nn.Linear(8, 6, bias=False)
        self.head = nn.Linear(6, VOCABULARY, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> CausalLMOutput:
        hidden = self.embed(input_ids).cumsum(dim=1)
        hidden = self.second(torch.tanh(self.norm(self.first(hidden))))
        return CausalLMOutput(logits=self.head(hidden))


class Keep:
    """Keeps every gradient, and counts how often each sample's was handed over."""

    def __init__(self) -> None:
        self.grads: dict[str, torch.Tensor] = {}
        self.times: dict[str, torch.Tensor] = {}
        self.finished = 0

    def begin(self, samples: int, device: torch.device) -> None:
        self.samples = samples
        self.grads, self.times = {}, {}

    def take(self, name: str, samples: slice, grads: torch.Tensor) -> None:
        assert grads.dtype == torch.float32 and grads.ndim == 2
        self.grads.setdefault(name, torch.zeros(self.samples, grads.shape[1]))[samples] += grads
        self.times.setdefault(name, torch.zeros(self.samples))[samples] += 1
        grads.fill_(torch.nan)  # a sink may overwrite what it is given

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    tokens = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0], [9, 9, 2, 1, 0]])
    labels = torch.tensor([[-100, 2, 3, 4, 5], [-100, -100, 8, -100, -100], [-100, 9, 2, 1, -100]])
    return {"input_ids": tokens, "attention_mask": tokens.ne(0).long(), "labels": labels}


def expected(model: nn.Module, batch: dict[str, torch.Tensor], names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Autograd's gradient of each row's mean loss."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    parameters = dict(model.named_parameters())
    for tokens, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        loss = functional.cross_entropy(model(tokens[None]).logits[0, :-1], labels[1:])
        grads = torch.autograd.grad(loss, [parameters[name] for name in names])
        for name, grad in zip(names, grads, strict=True):
            found[name].append(grad.flatten())
    return {name: torch.stack(grads) for name, grads in found.items()}


def batched(engine: GradientEngine, batch: dict[str, torch.Tensor], sink: Keep) -> Any:
    return engine.attempt(lambda: engine.feed(batch, sink))


def rows_of(batch: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    for row in range(len(batch["input_ids"])):
        yield {name: value[row : row + 1] for name, value in batch.items()}


@pytest.mark.parametrize("piece_bytes", [2**20, 1], ids=["whole batches", "pieces of one sample"])
def test_batches_give_each_sample_the_gradient_it_has_alone(
    batch: dict[str, torch.Tensor], piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "CPU_PIECE_BYTES", piece_bytes)
    torch.manual_seed(0)
    model, sink = Small(), Keep()
    coverage = cover(model, Scope.LINEAR)
    losses = batched(GradientEngine(model, coverage), batch, sink)
    assert list(coverage.parameters) == ["first.weight", "first.bias", "second.weight", "head.weight"]
    truth = expected(model, batch, list(coverage.parameters))
    for name, grads in truth.items():
        torch.testing.assert_close(sink.grads[name], grads, atol=1e-6, rtol=1e-5)
        assert torch.equal(sink.times[name], torch.ones(3))
    assert losses.counts_B.tolist() == [4, 1, 3] and sink.finished == 1


def test_the_loop_gives_every_parameter_and_needs_batches_of_one(batch: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    model, sink = Small(tied=True), Keep()
    engine = GradientEngine(model, cover(model, Scope.ALL))
    assert engine.max_batch == 1 and "embed.weight (used in several places)" in engine.reason
    names = [name for name, _ in model.named_parameters()]
    truth = expected(model, batch, names)
    for row, single in enumerate(rows_of(batch)):
        batched(engine, single, sink)
        for name in names:
            torch.testing.assert_close(sink.grads[name][0], truth[name][row], atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="a batch of 3 samples where one was asked for"):
        batched(engine, batch, sink)


def test_tied_and_frozen_parameters_are_not_taken_for_linear_ones() -> None:
    model = Small(tied=True)
    model.second.weight.requires_grad_(False)
    coverage = cover(model, Scope.LINEAR)
    assert list(coverage.parameters) == ["first.weight", "first.bias"] and list(coverage.layers) == ["first"]
    assert set(coverage.excluded) == {"embed.weight", "norm.weight", "norm.bias"}
    assert coverage.size == 6 * 8 + 8


def test_a_batch_without_any_target_runs_nothing(batch: dict[str, torch.Tensor]) -> None:
    model, sink = Small(), Keep()
    batch["labels"][:] = -100
    losses = batched(GradientEngine(model, cover(model, Scope.LINEAR)), batch, sink)
    assert losses.counts_B.tolist() == [0, 0, 0] and sink.grads == {} and sink.finished == 0


def test_a_body_that_meets_an_inseparable_batch_is_run_again_from_its_beginning(batch: dict[str, torch.Tensor]) -> None:
    class Flattening(Small):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> CausalLMOutput:
            hidden = self.embed(input_ids)
            flat = self.first(hidden.flatten(0, 1)).view(*hidden.shape[:-1], -1)
            return CausalLMOutput(logits=self.head(self.second(torch.tanh(flat))))

    torch.manual_seed(0)
    model, sink = Flattening(), Keep()
    engine = GradientEngine(model, cover(model, Scope.LINEAR))
    seen: list[int] = []

    def body() -> int:
        seen.clear()
        for single in rows_of(batch) if engine.max_batch == 1 else [batch]:
            engine.feed(single, sink)
            seen.append(len(single["input_ids"]))
        return len(seen)

    assert engine.attempt(body) == 3 and seen == [1, 1, 1]
    assert "first has shape [15, 6] for a batch of 3" in engine.reason
    truth = expected(model, batch, ["first.weight"])["first.weight"][2]
    torch.testing.assert_close(sink.grads["first.weight"][0], truth, atol=1e-6, rtol=1e-5)


def test_half_precision_gradients_are_handed_over_in_fp32_and_close(batch: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    model, sink = Small(), Keep()
    accelerator = OneRank(autocast=in_numbers(torch.bfloat16))
    batched(GradientEngine(model, cover(model, Scope.LINEAR), accelerator), batch, sink)
    for name, grads in expected(model, batch, ["first.weight", "head.weight"]).items():
        error = (sink.grads[name] - grads).norm() / grads.norm()
        assert 0 < error < 0.05


@pytest.mark.parametrize("loop", [False, True])
def test_hooks_of_gradients_are_silent_and_back_afterwards_in_order(batch: dict[str, torch.Tensor], loop: bool) -> None:
    model, calls = Small(), []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda _: calls.append(1))
        parameter.register_post_accumulate_grad_hook(lambda _: calls.append(2))
    engine = GradientEngine(model, cover(model, Scope.ALL if loop else Scope.LINEAR))
    batched(engine, next(rows_of(batch)), Keep())
    assert calls == [] and all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(ZeroDivisionError):
        engine.attempt(lambda: 1 // 0)
    model.head.weight.sum().backward()
    assert calls == [1, 2]


def test_a_loss_that_deepspeed_would_scale_is_scaled_here_and_gradients_are_not(batch: dict[str, torch.Tensor]) -> None:
    model, sink, scales = Small(), Keep(), []
    deepspeed = WrappedEngine(DeepSpeedEngine(ScaledOptimizer(2.0**20)))
    accelerator = OneRank(deepspeed_engine_wrapped=deepspeed)
    model.head.register_full_backward_pre_hook(lambda _, grads: scales.append(float(grads[0].abs().sum())))
    batched(GradientEngine(model, cover(model, Scope.LINEAR), accelerator), batch, sink)
    deepspeed.engine.optimizer.loss_scale = 1.0
    for name, grads in expected(model, batch, ["first.weight", "head.weight"]).items():
        torch.testing.assert_close(sink.grads[name], grads, atol=1e-6, rtol=1e-4)
    scaled = scales[0]
    batched(GradientEngine(model, cover(model, Scope.LINEAR), accelerator), batch, sink)
    assert scaled / scales[-1] == pytest.approx(2.0**4, rel=1e-3)  # room for samples that count whole


def test_running_out_of_memory_names_the_parameter_to_lower(batch: dict[str, torch.Tensor]) -> None:
    model = Small()
    engine = GradientEngine(model, cover(model, Scope.LINEAR))

    def out_of_memory(**_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("tried to allocate 1 GiB")

    model.forward = out_of_memory  # type: ignore[assignment]
    with pytest.raises(ComponentError, match=r"batch of 3 x 5 tokens\. Lower component_params\.token_budget"):
        batched(engine, batch, Keep())


def saved_between_forward_and_backward(output: torch.Tensor) -> Iterator[torch.Tensor]:
    """What the functions of the recorder keep for the backward of an output."""
    todo, seen = [output.grad_fn], set()
    while todo:
        node: Any = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if "PerSampleLinear" in type(node).__name__:
            yield from (tensor for tensor in node.saved_tensors if tensor is not None)
        todo += [parent for parent, _ in node.next_functions]


def test_no_layers_weight_is_kept_from_forward_to_backward() -> None:
    """Of a spread model it would be the gathered weight, and all of them together the whole model."""
    model = Small()
    recorder = linear.Recorder(cover(model, Scope.LINEAR).layers, frozenset())
    with recorder.attached():
        recorder.begin(2, Keep())
        logits = model(torch.tensor([[1, 2, 3], [4, 5, 6]])).logits
    kept = list(saved_between_forward_and_backward(logits))
    assert len(kept) == 3 and {tensor.ndim for tensor in kept} == {3}  # the inputs of three layers
