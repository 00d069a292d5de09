from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_outputs import CausalLMOutput

from dataflex.errors import ComponentError
from dataflex.math.losses import output_logits, sample_losses, token_losses

LN_3 = math.log(3)
QUARTER, THREE_QUARTERS = 1.386294, 0.287682  # -ln(1/4), -ln(3/4)


def tiny_model() -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )
    return Qwen2ForCausalLM(config).eval()


def hand_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Every position gives probabilities [1/4, 3/4]; the last logits predict nothing."""
    logits = torch.tensor([0.0, LN_3]).expand(3, 4, 2).clone()
    labels = torch.tensor([[-100, 1, 0, 1], [-100, -100, 1, -100], [0, -100, -100, -100]])
    return logits, labels


def test_token_losses_are_shifted_and_zero_where_there_is_no_target() -> None:
    losses, mask = token_losses(*hand_batch())
    wanted = [[THREE_QUARTERS, QUARTER, THREE_QUARTERS], [0, THREE_QUARTERS, 0], [0, 0, 0]]
    assert losses.tolist() == pytest.approx([pytest.approx(row, abs=1e-6) for row in wanted])
    assert mask.tolist() == [[True, True, True], [False, True, False], [False, False, False]]


def test_a_sample_without_targets_has_no_mean_loss() -> None:
    losses = sample_losses(*hand_batch())
    assert losses.sums_B.tolist() == pytest.approx([2 * THREE_QUARTERS + QUARTER, THREE_QUARTERS, 0], abs=1e-6)
    assert losses.counts_B.tolist() == [3, 1, 0]
    assert losses.means[:2].tolist() == pytest.approx([0.653886, THREE_QUARTERS], abs=1e-6)
    assert math.isnan(losses.means[2].item())


@pytest.mark.parametrize("chunk", [1, 3, 7, 1024])
def test_the_chunk_size_does_not_change_a_loss(chunk: int) -> None:
    logits = torch.randn(3, 9, 11, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(11, (3, 9), generator=torch.Generator().manual_seed(1))
    labels[0, 4:] = -100
    losses, _ = token_losses(logits, labels, chunk_tokens=chunk)
    for row in range(3):
        wanted = functional.cross_entropy(logits[row, :-1], labels[row, 1:], ignore_index=-100, reduction="none")
        torch.testing.assert_close(losses[row], wanted, atol=1e-6, rtol=0)


class LargestFloat(TorchDispatchMode):
    """Remembers the number of elements of the largest fp32 tensor any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(item, torch.Tensor) and item.dtype is torch.float32:
                self.elements = max(self.elements, item.numel())
        return result


def test_no_fp32_copy_is_larger_than_one_chunk() -> None:
    logits = torch.randn(4, 65, 100, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.zeros(4, 65, dtype=torch.long)
    with LargestFloat() as largest:
        losses = sample_losses(logits, labels, chunk_tokens=8)
    assert largest.elements == 8 * 100
    wanted = functional.cross_entropy(logits[0, :-1].float(), labels[0, 1:])
    assert losses.means.dtype is torch.float32
    assert losses.means[0].item() == pytest.approx(wanted.item(), abs=1e-6)


def test_gradients_flow_through_the_sums() -> None:
    logits, labels = hand_batch()
    logits.requires_grad_()
    sample_losses(logits, labels, chunk_tokens=2).sums_B.sum().backward()
    assert logits.grad is not None
    # softmax minus one-hot at (sample 1, position 1), whose target is 1
    assert logits.grad[1, 1].tolist() == pytest.approx([0.25, -0.25], abs=1e-6)
    assert logits.grad[2].abs().sum() == 0


@dataclass
class LossAlone:
    """Outputs of a model that keeps its logits to itself."""

    loss: float


@pytest.mark.parametrize("outputs", [LossAlone(1.0), {"loss": 1.0, "logits": None}, (torch.tensor(1.0),)])
def test_outputs_without_logits_name_the_switch_that_brings_them_back(outputs: Any) -> None:
    with pytest.raises(ComponentError, match="enable_liger_kernel: false"):
        output_logits(outputs, torch.zeros(1, 3, dtype=torch.long))


def test_logits_that_do_not_line_up_with_the_labels_are_refused() -> None:
    outputs = CausalLMOutput(logits=torch.zeros(1, 7, 5))
    with pytest.raises(ComponentError, match=r"logits for 7 positions.*3 labels"):
        output_logits(outputs, torch.zeros(1, 3, dtype=torch.long), tiny_model())


@pytest.mark.parametrize("kind", ["prompt", "p_tuning", "prefix", "lora"])
def test_virtual_tokens_of_an_adapter_do_not_shift_the_loss(kind: str) -> None:
    import peft

    task = peft.TaskType.CAUSAL_LM
    config = {
        "prompt": peft.PromptTuningConfig(task_type=task, num_virtual_tokens=5),
        "p_tuning": peft.PromptEncoderConfig(task_type=task, num_virtual_tokens=3, encoder_hidden_size=16),
        "prefix": peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=4),
        "lora": peft.LoraConfig(task_type=task, r=2),
    }[kind]
    model = peft.get_peft_model(tiny_model(), config).eval()
    tokens = torch.randint(50, (2, 12), generator=torch.Generator().manual_seed(3))
    labels = tokens.clone()
    labels[0, :5] = labels[1, 0] = -100
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    with torch.no_grad():
        means = sample_losses(output_logits(model(**inputs), labels, model), labels).means
        for row in range(2):
            alone = {name: value[row : row + 1] for name, value in inputs.items()}
            wanted = model(**alone, labels=labels[row : row + 1]).loss.item()
            assert means[row].item() == pytest.approx(wanted, abs=1e-5)
