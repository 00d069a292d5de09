"""Tiny DoReMi runs under a plain Trainer, in this process or on two ranks."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

from dataflex.components.mixer import Mixer
from dataflex.distributed import end_rank
from dataflex.spec import Need
from dataflex.trainers import dynamic_trainer

SIZES = {"words": 24, "noise": 16, "long": 12}
VOCABULARY = 32
STEPS = 10


def pool() -> list[dict[str, list[int]]]:
    """Three domains of different lengths: counting up, noise, and long rows that repeat themselves."""
    draw = torch.Generator().manual_seed(1)

    def number(high: int, low: int = 0) -> int:
        return int(torch.randint(low, high, (1,), generator=draw))

    rows = [[(number(VOCABULARY) + step) % VOCABULARY for step in range(number(9, 3))] for _ in range(SIZES["words"])]
    rows += [[number(VOCABULARY) for _ in range(number(7, 3))] for _ in range(SIZES["noise"])]
    rows += [[number(4), number(4)] * number(12, 6) for _ in range(SIZES["long"])]
    return [{"input_ids": row, "labels": [-100, *row[1:]]} for row in rows]


def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    def padded(name: str, value: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row[name]) for row in rows], batch_first=True, padding_value=value)

    mask = pad_sequence([torch.ones(len(row["input_ids"]), dtype=torch.long) for row in rows], batch_first=True)
    return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100), "attention_mask": mask}


def model(seed: int = 0, hidden: int = 16) -> Any:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )
    return Qwen2ForCausalLM(config)


def watch(trainer: Any) -> list[dict[str, list[float]]]:
    """Keep alpha before and after each step, and the loss weights that step used."""
    seen: list[dict[str, list[float]]] = []
    make_engine = trainer._make_engine

    def made() -> Any:
        engine = make_engine()
        mixer = trainer.component
        objective, on_step = mixer.objective_weights, mixer.on_step

        def used(tokens: Any) -> Any:
            weights = objective(tokens)
            seen.append({"used": weights.tolist(), "tokens": tokens.tolist()})
            return weights

        def moved(stats: Any) -> None:
            on_step(stats)
            seen[-1] |= {"alpha": mixer.dro.alpha.tolist(), "seen_tokens": stats.losses.tokens.tolist()}

        if isinstance(mixer, Mixer) and Need.DOMAIN_LOSSES in trainer.session.run.entry.spec.needs:
            mixer.objective_weights, mixer.on_step = used, moved
        return engine

    trainer._make_engine = made
    return seen


def trainer(
    out: Path,
    *,
    batch: int = 8,
    accumulation: int = 1,
    steps: int = STEPS,
    domains: dict[str, int] | None = None,
    rows: Any = None,
    keys: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
    started: Any = None,
    **arguments: Any,
) -> Any:
    """A DoReMi run with SGD, in fp32 and without dropout, so that only the arithmetic can differ."""
    names = domains or SIZES
    config = {
        "train_type": "dynamic_mix",
        "component_name": "doremi",
        "init_mixture_proportions": [1 / len(names)] * len(names),
        "warmup_step": 0,
        "update_step": 4,
        "train_step": steps,
        "component_params": {"reference": str(out.parent / "reference"), **(params or {})},
        **(keys or {}),
    }
    args = TrainingArguments(
        str(out),
        **{
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
            "optim": "sgd",
            "learning_rate": 0.5,
            "lr_scheduler_type": "constant",
            "use_cpu": True,
            "report_to": "none",
            "logging_steps": 1,
            "save_strategy": "no",
            "remove_unused_columns": False,
            "disable_tqdm": True,
            **arguments,
        },
    )
    cls = dynamic_trainer(Trainer, config, domains=names)
    return cls(
        model=model() if started is None else started,
        args=args,
        train_dataset=pool() if rows is None else rows,
        data_collator=collate,
    )


def main(out: str, accumulation: str, normalizer: str, source: str) -> None:
    """One rank of a run; rank 0 writes what it saw."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    batch = 24 // int(accumulation) // ranks
    Path(out).mkdir(exist_ok=True)
    made = trainer(
        Path(out),
        batch=batch,
        accumulation=int(accumulation),
        params={"normalizer": normalizer, "reference_losses": source},
    )
    seen = watch(made)
    made.train()
    if made.is_world_process_zero():
        result = {"seen": seen, "weights": [value.tolist() for value in made.model.state_dict().values()]}
        (Path(out) / "seen.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
    end_rank()
