"""A reference that was trained on other rows than a run mixes is named, with what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prepared_runs import mix_context

from dataflex_mixers_doremi.reference_rows import warn_of_other_rows

INFO = {
    "train_type": "static_mix", "stage": "sft", "kind": "mixer", "component": "static", "dist": "dataflex-core",
    "params": {}, "arguments": {}, "seed": 3, "global_batch": 4, "ranks": 1, "pool": 20, "domain_sizes": [10, 10],
    "warmup": 0, "update": 1, "total": 4, "versions": {}, "started": "", "domains": ["web", "code"],
    "data": {"template": "default", "cutoff_len": 96, "stage": "sft"}, "pool_fingerprint": "f00",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "phrase"),
    [
        ({}, ""),
        ({"domain_names": ["code", "web"], "pool": "another order"}, ""),
        ({"data_keys": {}}, ""),  # another front end: nothing is known
        ({"data_keys": {"template": "llama3", "cutoff_len": 96}}, "template was 'default' and is now 'llama3'"),
        ({"data_keys": {"cutoff_len": 64}, "pool": "beef"}, "cutoff_len was 96 and is now 64. DoReMi"),
        ({"domain_names": ["web", "chat"]}, "the data sets were web, code and are now web, chat"),
        ({"pool": "beef"}, "the rows are others: their files, or the tokenizer"),
    ],
    ids=["the same", "another order", "nothing known", "a key", "a key and so the rows", "a domain", "the rows"],
)
@pytest.mark.parametrize("name", ["reference", "reference/checkpoint-4"])
def test_what_differs_is_named(
    tmp_path: Path, changed: dict[str, Any], phrase: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "reference" / "dataflex").mkdir(parents=True)
    (tmp_path / "reference" / "checkpoint-4").mkdir()
    (tmp_path / "reference" / "dataflex" / "run.json").write_text(json.dumps(INFO))
    now: dict[str, Any] = {"domain_names": INFO["domains"], "data_keys": INFO["data"], "pool": "f00"} | changed
    context = mix_context(dict.fromkeys(now["domain_names"], 0.5), data_keys=now["data_keys"])
    warn_of_other_rows(str(tmp_path / name), context, now["pool"])
    assert bool(caplog.messages) is bool(phrase) and phrase in caplog.text
    if phrase:
        assert f"the reference {tmp_path / name} was trained on other rows than this run mixes" in caplog.text


def test_a_reference_without_a_record_is_taken_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = mix_context({"web": 1.0})
    (tmp_path / "dataflex").mkdir()
    for text in (None, "{", "[]"):
        if text is not None:
            (tmp_path / "dataflex" / "run.json").write_text(text)
        warn_of_other_rows(str(tmp_path), context, "f00")
    warn_of_other_rows("of/a-hub", context, "f00")
    assert not caplog.messages
