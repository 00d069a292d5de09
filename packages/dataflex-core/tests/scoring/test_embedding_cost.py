"""What a row's embedding costs, in forward passes of the run's model: sizes and tokens counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from dataflex.components.context import RunContext
from dataflex.scoring.embedding_cost import embedding_share, forward_size
from dataflex.scoring.embedding_params import EmbeddingParams
from dataflex.scoring.embedding_source import EmbeddingSource
from dataflex.scoring.embeddings import EmbeddingSpec
from dataflex.trainers.planners.selection_cost import beta_of

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
# q with its bias, k and v with theirs, o; gate, up and down; two norms
BLOCK = 32 * 32 + 32 + 2 * (32 * 16 + 16) + 32 * 32 + 3 * 32 * 64 + 2 * 32
HEAD = 60 * 32
WHOLE = 2 * BLOCK + HEAD
Row = dict[str, list[int]]


def qwen(**more: Any) -> nn.Module:
    return Qwen2ForCausalLM(Qwen2Config(num_hidden_layers=2, **SIZES, **more))


def row(tokens: int, prompt: int) -> Row:
    labels = [-100] * prompt + [1] * (tokens - prompt)
    return {"input_ids": [1] * tokens, "attention_mask": [1] * tokens, "labels": labels}


def _collator(rows: Sequence[Any]) -> NoReturn:
    raise AssertionError("no row passes through the model")


def context(rows: list[Row], **more: Any) -> RunContext:
    return RunContext(dataset=rows, data_collator=_collator, seed=0, **more)


@pytest.mark.parametrize("tied", [False, True])
def test_layers_above_the_deepest_and_the_head_are_not_paid_for(tied: bool) -> None:
    model, pool = qwen(tie_word_embeddings=tied), context([row(10, 5)])
    assert forward_size(model) == WHOLE
    for layers, blocks in (((-1,), 2), ((2,), 2), ((1,), 1), ((-2,), 1), ((0, 1), 1), ((0,), 0)):
        found = embedding_share(model, EmbeddingSpec(layers=layers), pool)
        assert found == pytest.approx(blocks * BLOCK / WHOLE)


@pytest.mark.parametrize(
    ("spec", "tokens"),
    [
        ({}, 10 + 40 + 1),
        ({"tokens": 20}, 10 + 20 + 1),
        ({"span": "prompt"}, 4 + 30 + 0),
        ({"span": "prompt", "tokens": 3}, 3 + 3 + 0),
        ({"span": "answer", "tokens": 2}, 6 + 32 + 1),  # what stands before the answer passes through the model too
    ],
)
def test_tokens_behind_the_last_that_counts_are_not_paid_for(spec: dict[str, Any], tokens: int) -> None:
    pool = context([row(10, 4), row(40, 30), row(1, 0)])
    found = embedding_share(qwen(), EmbeddingSpec(**spec), pool)
    assert found == pytest.approx(2 * BLOCK / WHOLE * tokens / 51)


def test_a_model_not_known_to_be_causal_reads_whole_rows() -> None:
    decoder = qwen().get_submodule("model")
    assert embedding_share(decoder, EmbeddingSpec(tokens=1), context([row(10, 5)])) == 1.0


def test_another_model_is_compared_by_its_size_and_loads_no_weights(tmp_path: Path) -> None:
    Qwen2Config(num_hidden_layers=1, **SIZES).save_pretrained(tmp_path)
    pool = context([row(10, 4), row(30, 10)])
    found = embedding_share(qwen(), EmbeddingSpec(model=str(tmp_path), span="answer", tokens=8), pool)
    assert found == pytest.approx(BLOCK / WHOLE * (6 + 8) / 40)  # it is given the text of the span alone


def test_one_that_cannot_be_read_counts_as_the_runs_own(tmp_path: Path) -> None:
    assert embedding_share(qwen(), EmbeddingSpec(model=str(tmp_path)), context([row(10, 4)])) == 1.0


def test_adapters_are_part_of_their_blocks() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(qwen(), LoraConfig(r=2, target_modules=["q_proj"]))
    assert forward_size(model) == WHOLE + 2 * 2 * (32 + 32)


def test_a_parameter_in_pieces_counts_whole() -> None:
    """Of ZeRO-3's a rank holds nothing between passes; then a full run looked like one of adapters."""
    model = qwen()
    whole = {name: value.numel() for name, value in model.named_parameters()}
    for name, value in model.named_parameters():
        value.ds_numel = whole[name]  # type: ignore[attr-defined]
        value.data = value.data.new_empty(0)
    assert forward_size(model) == WHOLE and beta_of(model) == 2.0


def test_a_run_pays_for_pool_and_targets(tmp_path: Path) -> None:
    targets = {"a": [row(3, 1)] * 2, "b": [row(3, 1)]}
    pool, model = context([row(10, 5)] * 9, eval_datasets=targets, cache_dir=tmp_path), qwen()
    for embedding_model, limit, rows, times in (
        ("run", None, 12, None),
        ("run", 4, 7, None),
        ("run", 99, 12, None),
        ("initial", None, 12, 1),
        ("initial", 4, 12, 1),  # made once, of all rows
    ):
        source = EmbeddingSource(EmbeddingParams(embedding_model=embedding_model), pool, who="A test")
        found = source.cost(model, limit)
        assert (found.rows, found.times, found.backward, found.validation) == (rows, times, False, 0)
        assert found.forward == pytest.approx(2 * BLOCK / WHOLE)
    aimed = EmbeddingSource(EmbeddingParams(targets=("b",)), pool, who="A test")
    assert aimed.cost(model).rows == 10
