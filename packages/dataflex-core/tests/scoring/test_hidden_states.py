from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dataflex.errors import ComponentError
from dataflex.scoring.hidden_states import Decoder, HiddenStates, decoder_of
from dataflex.scoring.quiet import evaluating

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
BATCH = {
    "input_ids": torch.tensor([[5, 6, 7, 8, 9], [4, 3, 2, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    "labels": torch.tensor([[-100, 6, 7, 8, 9], [4, 3, 2, -100, -100]]),
}


def qwen(cls: str = "Qwen2ForCausalLM", **more: Any) -> nn.Module:
    import transformers

    config = transformers.Qwen2Config(
        vocab_size=50, intermediate_size=64, num_key_value_heads=2, initializer_range=0.3, **SIZES, **more
    )
    return made(getattr(transformers, cls), config)


def made(cls: Any, config: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return cls(config).train()


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return made(GPT2LMHeadModel, GPT2Config(vocab_size=50, n_embd=32, n_layer=3, n_head=4, n_positions=32))


def bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    return made(BertModel, BertConfig(vocab_size=50, intermediate_size=64, **SIZES))


def gemma() -> nn.Module:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(vocab_size=50, intermediate_size=64, num_key_value_heads=2, head_dim=8, **SIZES)
    return made(Gemma2ForCausalLM, config)


def lora() -> nn.Module:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(qwen(), LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.2)
    return model.train()


def expected(model: nn.Module) -> tuple[torch.Tensor, ...]:
    with evaluating(model):
        inputs = {name: BATCH[name] for name in ("input_ids", "attention_mask")}
        return tuple(model(**inputs, output_hidden_states=True).hidden_states)


@pytest.mark.parametrize("model", [qwen, gpt2, bert, gemma, lora])
def test_each_layer_is_what_transformers_calls_it(model: Any) -> None:
    subject = model()
    whole = expected(subject)
    for layer in (0, 1, 2, 3, -1, -2, -4):
        with evaluating(subject), HiddenStates(subject, [layer]) as states:
            (found,) = states.of(BATCH)
        assert torch.equal(found, whole[layer])
    with evaluating(subject), HiddenStates(subject, [3, 0, 2]) as states:
        assert all(map(torch.equal, states.of(BATCH), (whole[3], whole[0], whole[2])))


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_as_many_blocks_run_as_the_layer_needs_and_no_head(layer: int) -> None:
    model: Any = qwen()
    ran: list[int] = []
    for number, block in enumerate(model.model.layers):
        block.mlp.register_forward_hook(lambda *_, number=number: ran.append(number))
    heads: list[torch.Size] = []
    model.register_forward_hook(lambda _, __, output: heads.append(output.logits.shape))
    with evaluating(model), HiddenStates(model, [layer]) as states:
        states.of(BATCH)
    assert ran == list(range(layer))
    assert heads == [torch.Size([2, 5, 32])]  # the hidden size, not the vocabulary's


@pytest.mark.parametrize(
    ("depth", "layers"), [(24, [4, 8, 12, 16, 20]), (32, [5, 11, 16, 21, 27]), (2, [1, 2]), (1, [1])]
)
def test_no_layers_are_five_spread_over_the_depth(depth: int, layers: list[int]) -> None:
    blocks = nn.ModuleList(nn.Identity() for _ in range(depth))
    decoder = Decoder(nn.Identity(), blocks, None)
    assert decoder.layers(()) == layers
    assert decoder.layers((-1,)) == [depth]


def test_attention_is_read_after_its_output_projection() -> None:
    model: Any = qwen()
    seen: list[torch.Tensor] = []
    handle = model.model.layers[1].self_attn.o_proj.register_forward_hook(lambda _, __, output: seen.append(output))
    with evaluating(model), HiddenStates(model, [2], "attention") as states:
        (found,) = states.of(BATCH)
    handle.remove()
    assert torch.equal(found, seen[0])


def test_the_model_is_left_as_it_was_found_even_after_an_error() -> None:
    model: Any = qwen()
    model.model.layers[1].__dict__["forward"] = model.model.layers[1].forward  # somebody's own
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")

    def traces() -> list[Any]:
        return [
            (set(vars(module)), vars(module).get("forward"), *(dict(getattr(module, kind)) for kind in kinds))
            for module in model.modules()
        ]

    before = traces()
    with evaluating(model), HiddenStates(model, [1], "attention") as states:
        assert traces() != before
        states.of(BATCH)
    assert traces() == before
    with pytest.raises(ValueError, match="exactly one"), evaluating(model), HiddenStates(model, [0, 2]) as states:
        states.of({"attention_mask": BATCH["attention_mask"]})
    assert traces() == before


@pytest.mark.parametrize(
    ("layers", "site", "message"),
    [
        ([4], "block", "layer 4 was asked for; the model has layers 0 .* to 3"),
        ([-5], "block", "layer -5 was asked for"),
        ([0], "attention", "layer 0 is what enters the first block"),
    ],
)
def test_layers_that_are_not_there_are_refused(layers: list[int], site: Any, message: str) -> None:
    with pytest.raises(ComponentError, match=message):
        HiddenStates(qwen(), layers, site)


def test_models_without_one_stack_of_blocks_are_refused() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    with pytest.raises(ComponentError, match="encoder with a decoder"):
        decoder_of(T5ForConditionalGeneration(T5Config(**sizes)))
    with pytest.raises(ComponentError, match="no list of any blocks was found in Linear"):
        decoder_of(nn.Linear(2, 2))


def test_the_language_model_of_a_vision_model_is_found() -> None:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    config = Qwen2VLConfig(
        text_config={**SIZES, "vocab_size": 60, "intermediate_size": 64, "num_key_value_heads": 2}
        | {"rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}},
        vision_config={"depth": 3, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
    )
    model: Any = made(Qwen2VLForConditionalGeneration, config)
    assert decoder_of(model).blocks is model.model.language_model.layers
