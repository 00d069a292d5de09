"""FSDP2 through LlamaFactory, by keys and by the variables of ``accelerate launch``: killed, resumed, and whole."""

from __future__ import annotations

import json
from pathlib import Path

import cpu_fsdp
import pytest
import witness
from held_runs import kill_at, run_to_the_end
from records import decisions_without_times
from tiny_runs import NOTE_SELECT, Workshop, weights_digest

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]  # several starts of two ranks

KEYS = {"fsdp": "full_shard auto_wrap", "fsdp_config": {"fsdp_version": 2}}
VARIABLES = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
}
RUN = NOTE_SELECT | {
    "component_name": "less",
    "component_params": {"token_budget": 512},
    "eval_dataset": "val",
    "per_device_train_batch_size": 1,
    "save_strategy": "steps",
    "save_steps": 2,
}
SHIM = Path(cpu_fsdp.__file__)


@pytest.fixture
def whole(workshop: Workshop) -> Path:
    """An uninterrupted run by keys."""
    run_to_the_end(workshop.run_file("keys", **RUN, **KEYS), ranks=2, plugins=[SHIM])
    pieces = workshop.out / "keys" / "checkpoint-8" / "pytorch_model_fsdp_0" / "pieces.json"
    assert len(json.loads(pieces.read_text(encoding="utf-8"))["ranks"]) == 2  # so it was sharded
    return workshop.out / "keys"


def test_a_run_by_keys_that_is_killed_while_scoring_ends_in_the_same_weights(workshop: Workshop, whole: Path) -> None:
    killed = workshop.run_file("killed", **RUN, **KEYS)
    kill_at(witness.SCORING, 5, killed, workshop.out, ranks=2, plugins=[SHIM])
    run_to_the_end(killed, ranks=2, plugins=[SHIM])
    _is_the_same(workshop.out / "killed", whole)


def test_a_run_by_variables_decides_and_ends_as_one_by_keys(
    workshop: Workshop, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    run_to_the_end(workshop.run_file("variables", **RUN), ranks=2, plugins=[SHIM])
    assert (workshop.out / "variables" / "checkpoint-8" / "pytorch_model_fsdp_0" / "pieces.json").is_file()
    _is_the_same(workshop.out / "variables", whole)


def _is_the_same(run: Path, whole: Path) -> None:
    assert weights_digest(run) == weights_digest(whole)
    assert decisions_without_times(run) == decisions_without_times(whole)
