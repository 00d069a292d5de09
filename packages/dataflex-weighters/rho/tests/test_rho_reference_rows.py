"""A reference of this run's own rows, or of rows in another form, is named; its folder says what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dataflex.testing import make_context
from dataflex_weighters_rho.reference_rows import warn_of_rows

INFO = {
    "train_type": "dynamic_select", "stage": "sft", "kind": "selector", "component": "random", "dist": "x",
    "params": {}, "arguments": {}, "seed": 3, "global_batch": 4, "ranks": 1, "pool": 20, "domain_sizes": [20],
    "warmup": 0, "update": 1, "total": 4, "versions": {}, "started": "", "domains": ["held_out"],
    "data": {"template": "default", "cutoff_len": 96, "max_samples": 50}, "pool_fingerprint": "f00",
}  # fmt: skip
SAME = {"template": "default", "cutoff_len": 96, "max_samples": 900}


@pytest.mark.parametrize(
    ("pool", "keys", "phrases"),
    [
        ("beef", SAME, []),  # other rows, as they should be
        ("beef", {}, []),  # another front end: nothing is known
        ("f00", SAME, ["was trained on the very rows of this run"]),
        ("beef", SAME | {"template": "llama3"}, ["made otherwise: template was 'default' and is now 'llama3'"]),
        ("f00", SAME | {"cutoff_len": 64}, ["the very rows", "cutoff_len was 96 and is now 64"]),
    ],
)
@pytest.mark.parametrize("name", ["reference", "reference/checkpoint-4"])
def test_rows_of_the_reference_are_looked_at(
    tmp_path: Path, pool: str, keys: dict[str, Any], phrases: list[str], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "reference" / "dataflex").mkdir(parents=True)
    (tmp_path / "reference" / "checkpoint-4").mkdir()
    (tmp_path / "reference" / "dataflex" / "run.json").write_text(json.dumps(INFO))
    context = make_context([], list, data_keys=keys)
    warn_of_rows(str(tmp_path / name), context, pool)
    assert len(caplog.messages) == len(phrases)
    assert all(phrase in message for phrase, message in zip(phrases, caplog.messages, strict=True))


def test_a_reference_without_a_record_is_taken_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = make_context([], list, data_keys=SAME)
    for name in (str(tmp_path), "of/a-hub"):
        warn_of_rows(name, context, "f00")
    assert not caplog.messages
