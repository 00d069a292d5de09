"""What a component may see of a run: its context, made of the Trainer and the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataflex.components.context import RunContext
from dataflex.config.plan import PreparedRun
from dataflex.data.given_scores import RawColumn
from dataflex.gradients.passes import PoolPasses
from dataflex.trainers.batches import handed_out
from dataflex.trainers.host import DynamicHost
from dataflex.trainers.objectives import objective_of
from dataflex.trainers.resume.row_seed import row_seed


def run_context(
    trainer: DynamicHost,
    run: PreparedRun,
    *,
    data_seed: int | None,
    global_batch: int,
    data_keys: Mapping[str, Any] | None = None,
    total_steps: int | None = None,
    columns: RawColumn | None = None,
    answer_header: tuple[int, ...] = (),
) -> RunContext:
    """Collect what a component may see of a Trainer.

    Args:
        trainer: The ``transformers.Trainer``.
        run: The checked run.
        data_seed: The seed that rows are drawn by; ``None`` takes that of the arguments.
        global_batch: Samples of one optimizer step over all ranks.
        data_keys: LlamaFactory's keys that the pool was tokenised under.
        total_steps: Optimizer steps of the run.
        columns: Finds a column of the data as it was loaded.
        answer_header: Tokens that the template puts right before an answer.
    """
    plan, handed = run.facts, handed_out(trainer)
    output_dir = Path(trainer.args.output_dir)
    cache_dir = run.bound.run_values.get("cache_dir", output_dir / "cache" / plan.component.name)
    return RunContext(
        dataset=handed.dataset,
        data_collator=handed.collator,
        accelerator=trainer.accelerator,
        output_dir=output_dir,
        cache_dir=Path(cache_dir),
        seed=row_seed(trainer.args) if data_seed is None else data_seed,
        global_batch=global_batch,
        stage=plan.stage,
        eval_datasets=handed.eval_datasets,
        tokenizer=getattr(trainer, "processing_class", None),
        vocab_size=_vocab_size(getattr(trainer.model, "config", None)),
        optimizer=lambda: trainer.optimizer,
        scheduler=lambda: trainer.lr_scheduler,
        scores_only=plan.scores_only,
        passes=PoolPasses(),
        data_keys=data_keys or {},
        total_steps=total_steps,
        columns=columns,
        answer_header=answer_header,
        trust_remote_code=plan.arguments.get("trust_remote_code") is True,
        objective=objective_of(trainer, plan.stage),
    )


def _vocab_size(config: Any) -> int | None:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return getattr(text, "vocab_size", None)
