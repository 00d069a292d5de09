"""Whether a run has left a model at its end: the Trainer may write none, and says nothing then."""

from __future__ import annotations

import os
from pathlib import Path

from dataflex import checkpoints
from dataflex.checkpoint_files import holds_weights
from dataflex.errors import ConfigError
from dataflex.runs import RunPlan
from dataflex.sharding import STATE_TYPE, find_fsdp

_SHARDS = "pytorch_model_fsdp_0"


def require_model(folder: Path, output_dir: Path, plan: RunPlan) -> None:
    """Check that a final model was written. Call it on a rank that writes.

    Args:
        folder: Where it should lie.
        output_dir: The run's output directory, with its checkpoints.
        plan: The run.

    Raises:
        ConfigError: names the last checkpoint, which has the weights.
    """
    if holds_weights(folder):
        return
    fsdp = find_fsdp(plan.arguments, os.environ, plan.source)
    why = ""
    if fsdp is not None and not fsdp.full_state:
        why = (
            f" Under FSDP ({fsdp.source}) the Trainer writes none of {fsdp.state_type}: set "
            f"{STATE_TYPE}=FULL_STATE_DICT for the next run."
        )
    last = next(iter(checkpoints.newest_first(output_dir)), None)
    if last is None:
        kept = "There is no checkpoint either, so the weights are lost."
    elif (last / _SHARDS).is_dir():
        kept = f"The last checkpoint is {last}; `accelerate merge-weights {last / _SHARDS} DIR` makes a model of it."
    else:
        kept = f"The last checkpoint is {last}."
    raise ConfigError(f"the run has ended, but no final model was written to {folder}.{why} {kept}")
