"""Mix runs count the tokens that are trained on, where the pool's columns tell other numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

from dataflex.checkpoint.state import EngineState, Saved
from dataflex.components.context import RunContext
from dataflex.errors import ConfigError
from dataflex.trainers import dynamic_trainer
from dataflex.trainers.token_counts import Counting, count_tokens, counting_of

# 40 tokens a row in a, 10 in b; the collator keeps 12: by columns b is owed 4 rows for each of a, in truth about one.
POOL = [{"input_ids": [1 + row % 7] * (40 if row < 24 else 10)} for row in range(48)]
MIX = {
    "train_type": "dynamic_mix", "component_name": "even", "init_mixture_proportions": [0.5, 0.5],
    "mixture_unit": "tokens", "warmup_step": 2, "update_step": 3, "update_times": 2,
}  # fmt: skip
EVEN = """
from dataflex import Mixer, register_mixer

@register_mixer("even")
class Even(Mixer):
    def mix(self, model, step_id, **kwargs):
        self.told = (self.context.row_tokens.tolist(), self.context.domain_tokens.tolist())
        return [0.5, 0.5]
"""


class Cutting:
    """Keeps 12 tokens of a row; counts how many rows it has made batches of."""

    def __init__(self, longest: int = 12) -> None:
        self.longest, self.rows = longest, 0

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        self.rows += len(rows)
        ids = [row["input_ids"][: self.longest] for row in rows]
        width = max(map(len, ids))
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in ids])
        return {"input_ids": tokens, "labels": tokens.masked_fill(tokens == 0, -100)}


@pytest.fixture
def make(tmp_path: Path) -> Any:
    def make(collator: Any, **arguments: Any) -> Any:
        (tmp_path / "mine.py").write_text(EVEN)
        torch.manual_seed(0)
        sizes: dict[str, Any] = {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        }
        model = Qwen2ForCausalLM(Qwen2Config(vocab_size=16, num_key_value_heads=1, max_position_embeddings=64, **sizes))
        values = {
            "per_device_train_batch_size": 4, "use_cpu": True, "report_to": "none", "disable_tqdm": True, "seed": 3,
            "save_strategy": "steps", "save_steps": 2,
        }  # fmt: skip
        args = TrainingArguments(str(tmp_path / "out"), **{**values, **arguments})
        cls = dynamic_trainer(Trainer, MIX, domains={"a": 24, "b": 24}, plugins=[tmp_path / "mine.py"])
        return cls(model=model, args=args, train_dataset=POOL, data_collator=collator)

    return make


def plans(folder: Path) -> list[list[int]]:
    return [np.load(path).tolist() for path in sorted((folder / "out" / "decisions").glob("plan-*.npy"))]


def test_shares_of_tokens_are_those_of_the_collator_and_a_resumed_run_keeps_them(make, tmp_path, caplog) -> None:
    with caplog.at_level("INFO", "dataflex"):
        trainer = make(Cutting())
        trainer.train()
    assert (
        "the collator trains on other tokens than the pool's columns tell (row 0: 11, by its columns 39" in caplog.text
    )
    assert trainer.component.told == ([11] * 24 + [9] * 24, [264, 216])
    record = list(trainer.recorder.log)[-1].metrics
    assert record["realised_tokens"] == pytest.approx([0.5, 0.5], abs=0.06)
    assert record["samples"] == pytest.approx([5.4, 6.6], abs=1)  # 12 samples at 11 and 9 tokens; by columns 2 and 10
    state = json.loads((tmp_path / "out" / "checkpoint-4" / "dataflex" / "engine.json").read_text())
    assert state["planner"]["counting"] == "collator"

    before, collator = plans(tmp_path), Cutting()
    again = make(collator)
    again.train(str(tmp_path / "out" / "checkpoint-4"))
    assert plans(tmp_path) == before
    assert collator.rows == 48 + 4 * 4  # the rows looked at, and those trained on: the counts were kept in a file


def test_a_run_that_counted_by_columns_goes_on_so(make, tmp_path) -> None:
    plain = make(Cutting(longest=64))  # as many tokens as the columns tell
    plain.train()
    assert plain.session.counting is Counting.COLUMNS and not list((tmp_path / "out" / "cache").glob("**/*.npy"))
    before = plans(tmp_path)
    path = tmp_path / "out" / "checkpoint-4" / "dataflex" / "engine.json"
    assert json.loads(path.read_text())["planner"]["counting"] == "columns"
    collator = Cutting()
    again = make(collator)
    again.train(str(tmp_path / "out" / "checkpoint-4"))
    assert plans(tmp_path) == before and collator.rows == 4 * 4  # nothing is looked at


def context(tmp_path: Path, pool: Any, collator: Any, stage: str = "") -> RunContext:
    return RunContext(dataset=pool, data_collator=collator, cache_dir=tmp_path, stage=stage, seed=1)


@pytest.mark.parametrize("stage", ["dpo", "kto", "rm"])
def test_stages_of_pairs_count_columns(tmp_path, stage) -> None:
    columns = np.array([39] * 24 + [9] * 24)
    counted = count_tokens(context(tmp_path, POOL, None, stage), columns, [24, 24])
    assert counted.counting is Counting.COLUMNS and counted.counts is columns


def test_counts_are_kept_for_one_pool_and_one_collator(tmp_path) -> None:
    columns = np.array([39] * 24 + [9] * 24)
    for collator, seen in ((Cutting(12), 48 + 48), (Cutting(12), 48), (Cutting(11), 48 + 48)):
        collator.rows = 0
        settings = type("Settings", (), {"__call__": lambda self, rows, inner=collator: inner(rows)})()
        settings.longest = collator.longest
        counted = count_tokens(context(tmp_path, POOL, settings), columns, [24, 24])
        assert collator.rows == seen
        assert counted.counts.tolist() == [collator.longest - 1] * 24 + [9] * 24
    (damaged, _) = sorted(tmp_path.glob("trained-tokens-*.npy"))
    for file in tmp_path.glob("trained-tokens-*.npy"):
        file.write_bytes(file.read_bytes()[:60])
    assert damaged.exists()
    assert count_tokens(context(tmp_path, POOL, settings), columns, [24, 24]).counts[0] == 10


def test_a_pool_with_pictures_says_first_how_long_it_will_take(tmp_path, caplog) -> None:
    pool = [{**row, "images": ["a.png"] if place == 30 else None} for place, row in enumerate(POOL)]
    with caplog.at_level("WARNING", "dataflex"):
        count_tokens(context(tmp_path, pool, Cutting()), np.array([39] * 24 + [9] * 24), [24, 24], workers=2)
    assert "holds pictures, film or sound: collating its 48 rows takes about 1 minutes" in caplog.text


@pytest.mark.parametrize("planner", [{"counting": "guesses"}, {"counting": ["columns"]}, []])
def test_a_checkpoint_that_names_no_count_is_refused(tmp_path: Path, planner: Any) -> None:
    engine = EngineState(
        step=2, stage=0, plan_start=0, warmup=2, update=3, total=8, seed=1, global_batch=4, pool_size=48,
        pool_fingerprint="", component="mixer even", planner=planner,
    )  # fmt: skip
    saved = Saved(engine, np.zeros(0, np.int64), {})
    with pytest.raises(ConfigError, match=r"the field 'planner' of its engine\.json is damaged"):
        counting_of(tmp_path, saved)
