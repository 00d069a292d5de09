"""A model, a tokenizer and data sets small enough for a test, made on the spot: nothing is downloaded.

``python -m dataflex.testing.tiny DIR`` writes ``DIR/model``, and the data sets web, code and val in ``DIR/data``.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_WORDS = ("red", "blue", "green", "stone", "river", "cloud", "seven", "nine", "walks", "sleeps", "over", "under")
_TOPICS = ("count", "colour", "place")


def tiny_rows(count: int, *, seed: int = 0, longest: int = 12) -> list[dict[str, str]]:
    """Alpaca-style rows with answers of 1 to ``longest`` words."""
    draw = random.Random(seed)
    return [
        {
            "instruction": f"{draw.choice(_TOPICS)} {index}",
            "input": "",
            "output": " ".join(draw.choice(_WORDS) for _ in range(draw.randint(1, longest))),
        }
        for index in range(count)
    ]


def write_dataset(folder: Path, **datasets: Sequence[dict[str, str]]) -> Path:
    """Write LlamaFactory data sets, ``name=rows``, with their ``dataset_info.json``; returns ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in datasets.items():
        text = "\n".join(json.dumps(row) for row in rows)
        (folder / f"{name}.jsonl").write_text(text + "\n", encoding="utf-8")
    info = {name: {"file_name": f"{name}.jsonl"} for name in datasets}
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    return folder


def write_tokenizer(folder: Path, *, special: Sequence[str] = ()) -> Any:
    """Write a byte-level tokenizer that LlamaFactory's Qwen templates accept, with more special tokens; returns it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", *special])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=512
    )
    wrapped.save_pretrained(folder)
    return wrapped


def write_model(folder: Path, *, hidden: int = 32, layers: int = 2, dropout: float = 0.0, seed: int = 0) -> Path:
    """Write a random Qwen2 and its tokenizer; returns ``folder``."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    wrapped = write_tokenizer(folder)
    config = Qwen2Config(
        vocab_size=len(wrapped),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        attention_dropout=dropout,
        tie_word_embeddings=True,
        eos_token_id=wrapped.eos_token_id,
        pad_token_id=wrapped.pad_token_id,
    )
    return save_random(Qwen2ForCausalLM, config, folder, seed=seed)


def save_random(cls: Any, config: Any, folder: Path, *, seed: int) -> Path:
    """Save a model with weights drawn from ``seed``; the global generator stays where it is. Returns ``folder``."""
    import torch

    generator_state = torch.get_rng_state()
    try:
        torch.manual_seed(seed)
        cls(config).float().save_pretrained(folder)
    finally:
        torch.set_rng_state(generator_state)
    return folder


def write_tiny(folder: Path) -> Path:
    """Write a model and data sets to try a run with; returns ``folder``."""
    write_model(folder / "model")
    write_dataset(folder / "data", web=tiny_rows(64), code=tiny_rows(24, seed=1, longest=4), val=tiny_rows(16, seed=2))
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m dataflex.testing.tiny DIR")
    write_tiny(Path(sys.argv[1]))
