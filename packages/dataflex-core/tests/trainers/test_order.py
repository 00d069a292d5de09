"""A run in order: whole passes, one that is cut short, boundaries with new losses, resumes and longer runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from dataflex.data.fingerprint import fingerprint
from dataflex.decisions import DecisionLog
from dataflex.errors import ComponentError, ConfigError
from dataflex.trainers import dynamic_trainer

ORDERERS = """
from dataclasses import dataclass

import numpy as np
from dataflex import ComponentSpec, Kind, Orderer, OrdererParams, Pattern, hookimpl, param, register_orderer


@dataclass(frozen=True)
class FoldsParams(OrdererParams):
    layers: int = param(3, "Cycles.")


class Folds(Pattern):
    def ranks(self, n, rng):
        return [rank for first in range(self.params.layers) for rank in range(first, n, self.params.layers)]


@dataclass(frozen=True)
class DrawnParams(OrdererParams):
    needs_scores = False


class Drawn(Pattern):
    def ranks(self, n, rng):
        return rng.permutation(n)


class Falling(Orderer):
    def order(self, rows, scores, step_id, domain, model):
        assert domain is None and model is not None
        return rows[np.argsort(-scores, kind="stable")]


class Loses(Pattern):
    def ranks(self, n, rng):
        return [0] * n


@hookimpl
def dataflex_components():
    return [
        ComponentSpec(
            kind=Kind.ORDERER, name=name, target=f"order_plugin:{cls}", params=f"order_plugin:{params}", api=1
        )
        for name, cls, params in (
            ("folds", "Folds", "FoldsParams"), ("drawn", "Drawn", "DrawnParams"),
            ("falling", "Falling", "OrdererParams"), ("loses", "Loses", "OrdererParams"),
        )
    ]
"""
STATIC = [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
THINNED = [0, 5, 9, 2, 6, 11, 3, 8]


@pytest.fixture(autouse=True)
def _plugins(fake_dist: Any) -> None:
    sys.modules.pop("order_plugin", None)
    fake_dist("order", ORDERERS)


class Line(torch.nn.Module):
    """Sees one number a row."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[int] = []

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        self.seen += [round(value) for value in x[:, 0].tolist()]
        return {"loss": (self.layer(x) / 20 - labels).pow(2).mean()}


def pool(count: int = 12) -> list[dict[str, Any]]:
    return [
        {
            "x": torch.tensor([float(row)]),
            "labels": torch.tensor([1.0]),
            "quality": float(row),
            "words": "dull",
            "input_ids": [1] * (row + 1),
        }
        for row in range(count)
    ]


def collate(rows: list[Any]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in ("x", "labels")}


def make(
    folder: Path, *, name: str = "out", component: str = "folds", batch: int = 4, rows: int = 12, **keys: Any
) -> Any:
    params = {"by": "column:quality"} | keys.pop("params", {})
    arguments = {key: keys.pop(key) for key in list(keys) if key not in KEYS}
    config = {"train_type": "dynamic_order", "component_name": component, "component_params": params, **keys}
    args = TrainingArguments(
        str(folder / name), per_device_train_batch_size=batch, use_cpu=True, report_to="none", disable_tqdm=True,
        remove_unused_columns=False, **{"save_strategy": "no", **arguments},
    )  # fmt: skip
    torch.manual_seed(0)
    return dynamic_trainer(Trainer, config)(model=Line(), args=args, train_dataset=pool(rows), data_collator=collate)


KEYS = ("warmup_step", "update_step", "update_times", "train_step")


def batches(trainer: Any, size: int = 4) -> list[list[int]]:
    """Rows of each batch; in which order they lie in it does not count."""
    seen = trainer.model.seen
    return [sorted(seen[start : start + size]) for start in range(0, len(seen), size)]


def cut(rows: list[int], size: int = 4) -> list[list[int]]:
    return [sorted(rows[start : start + size]) for start in range(0, len(rows), size)]


def test_a_pass_is_served_in_order(tmp_path: Path) -> None:
    trainer = make(tmp_path, num_train_epochs=1)
    trainer.train()
    assert batches(trainer) == cut(STATIC)
    (decision,) = DecisionLog(tmp_path / "out")
    assert (decision.kind, decision.component, decision.step) == ("orderer", "folds", 0)
    assert decision.metrics["score_by_tenth"] == [1.5, 7.5, 1.0, 4.0, 7.0, 10.0, 2.0, 5.0, 8.0, 11.0]
    assert decision.metrics["rank_correlation"] == pytest.approx(
        1 - 6 * sum((row - at) ** 2 for at, row in enumerate(STATIC)) / (12 * 143)
    )
    assert (decision.metrics["pass"], decision.metrics["ordered"], decision.metrics["unscored"]) == (0, 12, 0)


@pytest.mark.parametrize(
    ("keys", "steps"),
    [
        ({"num_train_epochs": 1}, 3),
        ({"num_train_epochs": 1.5}, 5),
        ({"max_steps": 4}, 4),
        ({"train_step": 2, "max_steps": 4}, 2),
        ({"num_train_epochs": 1, "update_step": 1, "update_times": 9}, 3),  # by: loss alone reads them
    ],
)
def test_the_length_is_that_of_a_stock_run(tmp_path: Path, keys: dict[str, Any], steps: int) -> None:
    trainer = make(tmp_path, **keys)
    trainer.train()
    assert trainer.state.global_step == steps


def test_a_run_shorter_than_a_pass_is_thinned(tmp_path: Path) -> None:
    trainer = make(tmp_path, train_step=2)
    trainer.train()
    assert batches(trainer) == cut(THINNED)


def test_only_the_last_pass_is_thinned(tmp_path: Path) -> None:
    trainer = make(tmp_path, train_step=5)
    trainer.train()
    assert batches(trainer) == cut([*STATIC, *THINNED])
    assert [each.metrics["pass"] for each in DecisionLog(tmp_path / "out")] == [0, 1]


def test_passes_are_drawn_anew_and_need_no_whole_number_of_steps(tmp_path: Path) -> None:
    trainer = make(tmp_path, component="drawn", params={"by": None}, rows=10, train_step=5)
    trainer.train()
    first, second = trainer.model.seen[:10], trainer.model.seen[10:]
    assert sorted(trainer.model.seen) == sorted(2 * list(range(10)))
    assert set(first[:8]) != set(second[-8:])


@pytest.mark.parametrize(("by", "expected"), [("length", STATIC), ("file:scores.npy", STATIC[::-1])])
def test_scores_come_from_where_the_run_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, expected: list[int]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("scores.npy", np.argsort(STATIC[::-1])[np.argsort(np.argsort(STATIC))].astype(float))
    trainer = make(tmp_path, params={"by": by}, train_step=3)
    trainer.train()
    assert sorted(trainer.model.seen) == list(range(12))
    if by == "length":
        assert batches(trainer) == cut(expected)
    else:
        scores = np.load("scores.npy")
        assert batches(trainer) == cut(np.argsort(scores, kind="stable")[STATIC].tolist())


def test_a_table_of_scores_has_to_be_of_this_pool(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"score": -np.arange(12.0)}), tmp_path / "scores.parquet")
    summary = tmp_path / "summary.json"
    keys: dict[str, Any] = {"params": {"by": f"file:{tmp_path / 'scores.parquet'}"}, "train_step": 3}
    with pytest.raises(ConfigError, match=r"summary\.json is missing beside it"):
        make(tmp_path, **keys)
    summary.write_text(json.dumps({"pool_fingerprint": "other"}))
    with pytest.raises(ConfigError, match="scores of another pool"):
        make(tmp_path, **keys)
    summary.write_text(json.dumps({"pool_fingerprint": fingerprint(pool())}))
    trainer = make(tmp_path, **keys)
    trainer.train()
    assert batches(trainer) == cut([11 - row for row in STATIC])


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("column:beauty", "is no column of the pool's rows. They have: x, labels, quality, words, input_ids"),
        ("column:words", "row 0 holds 'dull', which is no number"),
        ("file:{folder}/short.npy", r"holds scores of shape \[3\], but the pool has 12 rows"),
        ("file:{folder}/words.npy", "holds <U1 values; scores are numbers"),
        ("file:{folder}/broken.npy", "could not be read"),
    ],
)
def test_scores_that_do_not_fit_are_refused(tmp_path: Path, by: str, said: str) -> None:
    np.save(tmp_path / "short.npy", np.zeros(3))
    np.save(tmp_path / "words.npy", np.array(list("abcdefghijkl")))
    (tmp_path / "broken.npy").write_bytes(b"no numbers")
    with pytest.raises(ConfigError, match=said):
        make(tmp_path, params={"by": by.format(folder=tmp_path)}, train_step=1)


def test_rows_without_a_score_are_counted_and_stand_in_the_middle(tmp_path: Path) -> None:
    np.save(tmp_path / "scores.npy", np.array([np.nan, *range(11)], float))
    trainer = make(tmp_path, params={"by": f"file:{tmp_path / 'scores.npy'}", "layers": 1}, train_step=3)
    trainer.train()
    assert batches(trainer) == cut([1, 2, 3, 4, 5, 0, 6, 7, 8, 9, 10, 11])
    assert next(iter(DecisionLog(tmp_path / "out"))).metrics["unscored"] == 1


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"by": None}, "set by to selector, loss, length, file:PATH or column:NAME"),
        ({"by": "selector"}, "needs a selector in the run"),
        ({"by": "loss"}, "scores at boundaries, and update_step is missing"),
        ({"by": "quality"}, "is no source of scores; write selector, loss"),
        ({"by": "column:"}, "names nothing; write column:NAME"),
        ({"by": "length:5"}, "must be length alone"),
        ({"by": "file:nowhere.npy"}, "there is no such file"),
        ({"by": "file:scores.json"}, "neither a .npy file nor scores.parquet"),
        ({"direction": "up"}, "direction"),
        ({"window": -1}, "must be at least 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_loads(tmp_path: Path, params: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make(tmp_path, params=params)


def test_an_order_and_grouping_by_length_are_refused_beside_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'folds' orders the rows, and train_sampling_strategy .* by length"):
        make(tmp_path, train_sampling_strategy="group_by_length", train_step=1)


def test_a_pattern_that_is_no_permutation_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match=r"orderer 'loses' of order .*its ranks\(\) returned 0 several times"):
        make(tmp_path, component="loses", train_step=1).train()


def test_an_orderer_of_any_other_kind_gets_rows_and_scores(tmp_path: Path) -> None:
    trainer = make(tmp_path, component="falling", train_step=3)
    trainer.train()
    assert batches(trainer) == cut(list(range(12))[::-1])


def test_a_window_is_shuffled_in_the_finished_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make(tmp_path, rows=48, params={"layers": 1, "window": 8}, train_step=12)
    trainer.train()
    seen = trainer.model.seen
    assert [sorted(seen[start : start + 8]) for start in range(0, 48, 8)] == cut(list(range(48)), 8)
    assert batches(trainer) != cut(list(range(48)))
    assert "below two global batches" not in caplog.text
    make(tmp_path, params={"window": 4}, train_step=1).train()
    assert "window=4 is below two global batches of 4" in caplog.text


class StopAt(TrainerCallback):
    """An interrupt after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            control.should_training_stop = True


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_resumed_run_serves_what_the_first_would_have(tmp_path: Path, stop: int) -> None:
    keys: dict[str, Any] = {"train_step": 5, "save_strategy": "steps", "save_steps": 1}
    whole, first = make(tmp_path, name="whole", **keys), make(tmp_path, **keys)
    whole.train()
    first.add_callback(StopAt(stop))
    first.train()
    resumed = make(tmp_path, **keys)
    resumed.train(resume_from_checkpoint=True)
    assert batches(first) + batches(resumed) == batches(whole)
    assert [each.metrics for each in DecisionLog(tmp_path / "out")] == [
        each.metrics for each in DecisionLog(tmp_path / "whole")
    ]


def test_an_extended_run_goes_on_with_what_was_left_out(tmp_path: Path) -> None:
    first = make(tmp_path, train_step=2, save_strategy="steps", save_steps=1)
    first.train()
    longer = make(tmp_path, train_step=3)
    longer.train(resume_from_checkpoint=True)
    assert batches(first) + batches(longer) == cut([*THINNED, 1, 10, 4, 7])


def test_a_run_extended_in_its_middle_ranks_what_is_left_anew(tmp_path: Path) -> None:
    first = make(tmp_path, train_step=2, save_strategy="steps", save_steps=1)
    first.add_callback(StopAt(1))
    first.train()
    longer = make(tmp_path, train_step=3)
    longer.train(resume_from_checkpoint=True)
    assert batches(first) + batches(longer) == cut([0, 5, 9, 2, 1, 6, 10, 3, 7, 11, 4, 8])
