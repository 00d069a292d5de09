"""Which key of a run may change at a resume, and what then happens: the one list, which docs/resume.md shows.

Keys are those of LlamaFactory's argument classes, of ``transformers.TrainingArguments`` (TRL's ``SFTConfig`` too) and
DataFlex's own. A name may be a pattern (``hub_*``); an exact name wins over a pattern.
"""

from __future__ import annotations

import functools
from fnmatch import fnmatchcase

from dataflex.checkpoint_keys.at_work import AT_WORK
from dataflex.checkpoint_keys.groups import Group
from dataflex.checkpoint_keys.held import HELD

BEST_MODEL = ("metric_for_best_model", "greater_is_better", "eval_dataset", "eval_on_each_dataset")
"""Keys without which the best model so far cannot be compared with a later one."""

GROUPS = (*AT_WORK, *HELD)
"""All keys that DataFlex, LlamaFactory and transformers have; a key that is on no list is warned of by name."""

UNORDERED = frozenset(
    {
        "lora_target",
        "oft_target",
        "additional_target",
        "optim_target_modules",
        "galore_target",
        "apollo_target",
        "freeze_trainable_modules",
        "freeze_extra_modules",
    }
)
"""Keys that list names whose order means nothing."""

FILLED_IN = frozenset({"accelerator_config", "fsdp_config"})
"""Mappings that a parser fills in with its version's defaults: of them, what both versions have is compared."""


@functools.cache
def group_of(name: str) -> Group | None:
    """The group that a key belongs to; ``None`` for a key that is on no list."""
    patterns: Group | None = None
    for group in GROUPS:
        for key in group.keys:
            if key == name:
                return group
            if patterns is None and "*" in key and fnmatchcase(name, key):
                patterns = group
    return patterns
