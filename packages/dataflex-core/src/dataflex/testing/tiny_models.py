"""A mixture-of-experts and a vision-language model small enough for a test, with pictures to train the second on.

transformers 5 keeps both otherwise in memory than in files, which is what tests need them for.
``python -m dataflex.testing.tiny_models DIR`` writes ``DIR/moe``, ``DIR/vision`` and, beside the data sets of
:mod:`dataflex.testing.tiny`, ``pictures`` in ``DIR/data``.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataflex.testing.tiny import save_random, tiny_rows, write_tiny, write_tokenizer

_VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_SIDE = 56  # pixels of a picture: four tokens
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def write_moe(folder: Path, *, experts: int = 4, seed: int = 0) -> Path:
    """Write a random Qwen3-MoE in fp32 and its tokenizer; returns ``folder``."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    tokenizer = write_tokenizer(folder)
    settings: dict[str, Any] = {
        **_SIZES,
        "vocab_size": len(tokenizer),
        "head_dim": 8,
        "moe_intermediate_size": 16,
        "num_experts": experts,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return save_random(Qwen3MoeForCausalLM, Qwen3MoeConfig(**settings), folder, seed=seed)


def write_vision(folder: Path, *, seed: int = 0, sides: tuple[int, int] = (_SIDE, _SIDE)) -> Path:
    """Write a random Qwen2-VL in fp32 and its processor, for the template ``qwen2_vl``.

    Args:
        folder: Where to.
        seed: Of the weights.
        sides: Shortest and longest side of a square picture as the processor hands it on; 28 pixels are a token wide.

    Returns:
        The folder.
    """
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
    )
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    tokenizer = write_tokenizer(folder, special=_VISION_TOKENS)
    start, end, image, video = tokenizer.convert_tokens_to_ids(list(_VISION_TOKENS))
    config = Qwen2VLConfig(
        text_config={
            **_SIZES,
            "vocab_size": len(tokenizer),
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]},
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
        vision_start_token_id=start,
        vision_end_token_id=end,
        image_token_id=image,
        video_token_id=video,
    )
    save_random(Qwen2VLForConditionalGeneration, config, folder, seed=seed)
    pixels = {"min_pixels": sides[0] ** 2, "max_pixels": sides[1] ** 2}
    parts = Qwen2VLImageProcessor(**pixels), tokenizer, Qwen2VLVideoProcessor(**pixels)
    Qwen2VLProcessor(*parts).save_pretrained(folder)
    return folder


def add_pictures(folder: Path, *, rows: int = 16, seed: int = 3, sides: Sequence[int] = (_SIDE,)) -> Path:
    """Add a LlamaFactory data set ``pictures``, one picture a row, to a folder of data sets.

    Args:
        folder: Where to.
        rows: How many.
        seed: Of texts and pixels.
        sides: Pixels of the pictures' sides, in turn.

    Returns:
        The folder.
    """
    from PIL import Image

    draw = random.Random(seed)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines = []
    for index, row in enumerate(tiny_rows(rows, seed=seed)):
        name = f"pictures/{index}.png"
        side = sides[index % len(sides)]
        Image.frombytes("RGB", (side, side), draw.randbytes(3 * side**2)).save(folder / name)
        lines.append(json.dumps(row | {"instruction": f"<image>{row['instruction']}", "images": [name]}))
    (folder / "pictures.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    listed = folder / "dataset_info.json"
    info = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else {}
    columns = {"prompt": "instruction", "query": "input", "response": "output", "images": "images"}
    info["pictures"] = {"file_name": "pictures.jsonl", "columns": columns}
    listed.write_text(json.dumps(info), encoding="utf-8")
    return folder


def write_tiny_models(folder: Path) -> Path:
    """Write what :func:`~dataflex.testing.tiny.write_tiny` does, both models and the pictures; returns ``folder``."""
    write_tiny(folder)
    write_moe(folder / "moe")
    write_vision(folder / "vision")
    add_pictures(folder / "data")
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m dataflex.testing.tiny_models DIR")
    write_tiny_models(Path(sys.argv[1]))
