"""A byte-level BPE tokenizer and a small random Qwen2, both made on the spot."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataflex.demo.chat import END, SPECIAL_TOKENS, STOP
from dataflex.demo.row import Row

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCABULARY = 1024
HIDDEN = 128
LAYERS = 2
POSITIONS = 256


def train_tokenizer(rows: Iterable[Row]) -> Tokenizer:
    """Learn byte pairs from rows; every text can be encoded, so no row is lost to unknown characters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for row in rows for text in (row.question, row.answer)), trainer)
    return tokenizer


def new_model(tokenizer: Tokenizer, seed: int) -> Any:
    """A Qwen2 of half a million parameters with random weights; the global random state is left as it was."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id(END),
        eos_token_id=tokenizer.token_to_id(STOP),
        pad_token_id=tokenizer.token_to_id(END),
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)


def save(tokenizer: Tokenizer, model: Any, folder: Path) -> None:
    """Write both as one model folder that LlamaFactory and transformers load."""
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import logging

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=STOP, pad_token=END, model_max_length=POSITIONS
    )
    wrapped.save_pretrained(folder)
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # one file of 2 MB
    try:
        model.save_pretrained(folder)
    finally:
        if shown:
            logging.enable_progress_bar()
