"""A vision-language model with LlamaFactory's own pool, eval set and collator for it, pictures of several sizes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataflex.testing.tiny import tiny_rows, write_dataset
from dataflex.testing.tiny_models import add_pictures, write_vision

PICTURES, TEXTS = 12, 8
SIDES = (28, 84, 56, 112)


@dataclass(frozen=True)
class PicturePool:
    """What a selector is handed under ``template: qwen2_vl``.

    Attributes:
        model: With LoRA on the language model, trained away from its beginning; in train mode.
        dataset: Rows with one picture each, and then rows of text.
        eval_dataset: Rows of text.
        collator: LlamaFactory's.
        tokenizer: The model's.
    """

    model: Any
    dataset: Any
    eval_dataset: Any
    collator: Any
    tokenizer: Any


def write_picture_files(folder: Path) -> Path:
    """Write ``vision`` and ``data`` with the data sets ``other``, ``val`` and ``pictures``; returns the folder."""
    write_vision(folder / "vision", sides=(28, 112))
    write_dataset(folder / "data", other=tiny_rows(TEXTS, seed=2, longest=20), val=tiny_rows(6, seed=1))
    add_pictures(folder / "data", rows=PICTURES, sides=SIDES)
    return folder


def picture_pool(folder: Path) -> PicturePool:
    """Load them as LlamaFactory's sft workflow does."""
    os.environ.setdefault("DISABLE_VERSION_CHECK", "1")
    import torch
    from llamafactory.data import SFTDataCollatorWith4DAttentionMask, get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_model, load_tokenizer

    write_picture_files(folder)
    keys = {
        "model_name_or_path": str(folder / "vision"),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_target": "all",
        "lora_rank": 4,
        "dataset": "pictures,other",
        "eval_dataset": "val",
        "dataset_dir": str(folder / "data"),
        "template": "qwen2_vl",
        "cutoff_len": 256,
        "output_dir": str(folder / "out"),
        "report_to": "none",
        "use_cpu": True,
    }
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(keys)
    parts = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(parts["tokenizer"], data_args)
    sets = get_dataset(template, model_args, data_args, training_args, stage="sft", **parts)
    model = load_model(parts["tokenizer"], model_args, finetuning_args, is_trainable=True)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.2)
    collator = SFTDataCollatorWith4DAttentionMask(
        template=template, model=model, pad_to_multiple_of=8, label_pad_token_id=-100, **parts
    )
    return PicturePool(model.train(), sets["train_dataset"], sets["eval_dataset"], collator, parts["tokenizer"])
