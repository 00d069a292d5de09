"""What a component is told of a run, gathered from its Trainer and its session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataflex.components.context import RunContext
from dataflex.trainers.batches import handed_out
from dataflex.trainers.row_seed import row_seed
from dataflex.trainers.run_keys import data_keys
from dataflex.trainers.session import Session


def run_context(trainer: Any, session: Session, global_batch: int) -> RunContext:
    """Collect what a component may see of a Trainer."""
    plan, handed = session.run.plan, handed_out(trainer)
    output_dir = Path(trainer.args.output_dir)
    bound = getattr(session.run, "bound", None)  # a plan alone has no values of a component
    given = {} if bound is None else bound.run_values
    cache_dir = given.get("cache_dir", output_dir / "cache" / plan.component.name)
    return RunContext(
        dataset=handed.dataset,
        data_collator=handed.collator,
        accelerator=trainer.accelerator,
        output_dir=output_dir,
        cache_dir=Path(cache_dir),
        seed=_row_seed(trainer, session),
        global_batch=global_batch,
        stage=plan.stage,
        eval_datasets=handed.eval_datasets,
        tokenizer=getattr(trainer, "processing_class", None),
        vocab_size=_vocab_size(getattr(trainer.model, "config", None)),
        optimizer=lambda: trainer.optimizer,
        scheduler=lambda: trainer.lr_scheduler,
        scores_only=plan.scores_only,
        data_keys=data_keys(session),
    )


def _row_seed(trainer: Any, session: Session) -> int:
    known = getattr(session, "data_seed", None)
    return row_seed(trainer.args) if known is None else int(known)


def _vocab_size(config: Any) -> int | None:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return getattr(text, "vocab_size", None)
