"""What two runs wrote down, so that they can be compared: everything but what a clock put there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_OF_A_CLOCK = ("second", "runtime")


def decisions_without_times(output_dir: Path) -> list[dict[str, Any]]:
    """The decision log; empty for a run without boundaries."""
    log = output_dir / "decisions.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return [without_times(json.loads(line)) for line in lines]


def logged_without_times(output_dir: Path) -> list[dict[str, Any]]:
    """The Trainer's log history."""
    history = json.loads((output_dir / "trainer_state.json").read_text())["log_history"]
    return [without_times(row) for row in history]


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    """A record without its times and rates, those of nested records included."""
    return {
        key: without_times(value) if isinstance(value, dict) else value
        for key, value in record.items()
        if not any(word in key for word in _OF_A_CLOCK)
    }
