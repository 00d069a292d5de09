"""The stages of a run, now that its pool is known."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from dataflex.config.order_params import ScoreKind
from dataflex.config.prepared import PreparedRun
from dataflex.data.stock_order import epoch_samples as stock_epoch_samples
from dataflex.errors import ConfigError
from dataflex.kinds import KINDS, StepKeys, step_keys
from dataflex.math.rereading import per_pass
from dataflex.runs import RunFacts
from dataflex.schedule import Schedule, by_epochs, by_passes, resolve
from dataflex.spec import Kind


def global_batch(args: Any) -> int:
    """Samples of one optimizer step over all ranks.

    Args:
        args: The ``transformers.TrainingArguments``.
    """
    per_rank = int(args.per_device_train_batch_size) * int(args.gradient_accumulation_steps)
    return per_rank * int(args.world_size)


def lay_out(run: PreparedRun, pool: Sized, args: Any) -> Schedule:
    """Lay out the stages and check that the pool can fill them.

    Args:
        run: The run.
        pool: The tokenised training pool.
        args: The ``transformers.TrainingArguments``.

    Raises:
        ConfigError: when a stage draws more samples than the pool holds and repeats were not asked for, or the run
            would spread over several devices in one process.
    """
    refuse_data_parallel(args)
    facts, batch = run.facts, global_batch(args)
    if step_keys(facts.train_type) is StepKeys.PASSES:
        return by_passes(
            facts.steps,
            epochs=args.num_train_epochs,
            pool_size=len(pool),
            global_batch=batch,
            max_steps=args.max_steps,
            moves=facts.params.get("by") == ScoreKind.LOSS,
        )
    weighs = all(part.component.kind is Kind.WEIGHTER for part in facts.parts)
    schedule = resolve(
        facts.steps,
        epochs=args.num_train_epochs,
        pool_size=epoch_samples(facts, pool, args) if weighs else len(pool),
        global_batch=batch,
        max_steps=args.max_steps,
    )
    if weighs:
        return _epochs(facts, schedule.total, pool, args)
    if 0 < args.max_steps != schedule.total:
        raise ConfigError(
            f"max_steps={args.max_steps} differs from the {schedule.total} steps of update_times: -1 over "
            f"{args.num_train_epochs} epochs (from {facts.origin('max_steps')}). Leave max_steps out, or set "
            "train_step to it."
        )
    if run.mixture is not None:
        return schedule  # an exhausted domain begins anew, unless mixture_max_epochs forbids it
    if any(part.every > 1 or part.keep != "stage" or KINDS[part.component.kind].orders for part in facts.parts):
        return schedule  # a selection, or a pass, that is used up begins anew
    passes = facts.params.get("passes") or 1  # a stage reads the rows that it draws so many times
    drawn = per_pass(schedule.longest_update * batch, passes)
    if drawn > len(pool) and not facts.params.get("replacement", False):
        fitting = passes * len(pool) // batch
        advice = f"Lower update_step to {fitting} or less" if fitting else "Lower the batch size"
        stage = f"{schedule.longest_update} steps of {batch}" + (f", read passes={passes} times" if passes > 1 else "")
        raise ConfigError(
            f"update_step={facts.steps.update} draws {drawn} samples ({stage}) but the pool holds {len(pool)} (from "
            f"{facts.origin('update_step')}). {advice}, add data, or let samples repeat with "
            "component_params.replacement: true if the component has it."
        )
    return schedule


def epoch_samples(facts: RunFacts, pool: Sized, args: Any) -> int:
    """Samples that the stock Trainer trains on in one epoch, over all ranks.

    Args:
        facts: The run.
        pool: The tokenised training pool.
        args: The ``transformers.TrainingArguments``.

    Raises:
        ConfigError: when there are none.
    """
    samples = stock_epoch_samples(
        len(pool),
        batch_size=int(args.per_device_train_batch_size),
        ranks=int(args.world_size),
        drop_last=bool(args.dataloader_drop_last),
    )
    if not samples:
        raise ConfigError(
            f"dataloader_drop_last leaves nothing of a pool of {len(pool)} samples (from "
            f"{facts.origin('dataloader_drop_last')}). Lower "
            "per_device_train_batch_size, or set it to false."
        )
    return samples


def _epochs(facts: RunFacts, total: int, pool: Sized, args: Any) -> Schedule:
    if total <= facts.steps.warmup:
        raise ConfigError(
            f"the run ends after {total} steps, before the weighter acts at warmup_step={facts.steps.warmup} "
            f"(from {facts.origin('warmup_step')}). Lower warmup_step, or train longer: train_step, "
            "max_steps or num_train_epochs."
        )
    return by_epochs(total, epoch_samples(facts, pool, args), global_batch(args))


def refuse_data_parallel(args: Any) -> None:
    """Refuse several devices in one process.

    Raises:
        ConfigError: says how to start one process a device.
    """
    if args.n_gpu > 1:
        raise ConfigError(
            f"this process sees {args.n_gpu} devices and would run DataParallel, which is not supported. "
            "Set FORCE_TORCHRUN=1, or show it one device."
        )
