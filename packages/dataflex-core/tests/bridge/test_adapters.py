"""An adapter that is put on another model than its own is warned of before anything loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dataflex.bridge.adapters import of_other_bases


def model(folder: Path, weights: str) -> str:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text(weights)
    return str(folder)


def adapter(folder: Path, base: Any) -> str:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    return str(folder)


def told(**keys: Any) -> list[str]:
    return list(of_other_bases(keys, "run.yaml"))


def test_an_adapter_of_another_model_is_named_with_both(tmp_path: Path) -> None:
    mine, other = model(tmp_path / "mine", "a"), model(tmp_path / "other", "b")
    first, second = adapter(tmp_path / "first", mine), adapter(tmp_path / "second", other)
    (message,) = told(model_name_or_path=mine, adapter_name_or_path=f"{first},{second}")
    assert message.startswith(f"adapter_name_or_path: {second} (from run.yaml) was trained on another model, {other}")
    (message,) = told(ref_model=other, ref_model_adapters=[first])
    assert "than ref_model: " in message


@pytest.mark.parametrize(("then", "now", "said"), [("org/a", "org/b", 1), ("org/a", "org/a", 0), ("a", "org/b", 0)])
def test_names_on_a_hub_are_compared_as_names(tmp_path: Path, then: str, now: str, said: int) -> None:
    assert len(told(model_name_or_path=now, adapter_name_or_path=adapter(tmp_path / "one", then))) == said


def test_what_is_the_same_or_not_known_is_taken_as_it_is(tmp_path: Path) -> None:
    mine = model(tmp_path / "mine", "a")
    moved = shutil.copytree(mine, tmp_path / "moved")
    one = adapter(tmp_path / "one", str(moved))
    assert not told(model_name_or_path=mine, adapter_name_or_path=one)
    for base in ("org/elsewhere", str(tmp_path / "gone"), None, 3):
        shutil.rmtree(one)
        adapter(Path(one), base)
        assert not told(model_name_or_path=mine, adapter_name_or_path=one)
    assert not told(model_name_or_path=mine, adapter_name_or_path="org/adapter")
    assert not told(adapter_name_or_path=one)
    (Path(one) / "adapter_config.json").write_text("[")
    assert not told(model_name_or_path=mine, adapter_name_or_path=one)
