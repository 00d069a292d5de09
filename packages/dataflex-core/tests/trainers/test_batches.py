"""Batches that components make are those of the Trainer's own loaders: columns go that the model does not know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Qwen2Config, Qwen2ForCausalLM, Trainer, TrainingArguments

from dataflex.components.context import RunContext
from dataflex.data.scoring_loader import ScoringLoader
from dataflex.trainers import dynamic_trainer
from dataflex.trainers.batches import HandedCollator, handed_out

EXTRA = ("text", "source")
ROWS = [
    {"input_ids": [1 + row % 5] * (3 + row % 4), "text": f"row {row}", "source": "web" if row % 2 else "forum"}
    for row in range(24)
]
MINE = """
import numpy as np
from dataflex import Mixer, Selector, register_mixer, register_selector

@register_selector("own_batches")
class OwnBatches(Selector):
    \"\"\"Collates rows of the pool and of the eval sets by itself, in every way a component gets at them.\"\"\"
    def select(self, model, step_id, num_samples, dataset=None, data_collator=None, **kwargs):
        sets = [(self.dataset, self.data_collator), (dataset, data_collator)]
        sets += [(self.context.dataset, self.context.data_collator)]
        sets += [(rows, self.context.data_collator) for rows in self.context.eval_datasets.values()]
        self.seen = [sorted(collate([rows[0], rows[1]])) for rows, collate in sets]
        return np.arange(num_samples)
"""


class Strict:
    """A collator of token rows that fails on any other column, as padding tokenizers do."""

    pad_to_multiple_of = 4

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        odd = {name for row in rows for name in row} - {"input_ids", "labels"}
        if odd:
            raise ValueError(f"unable to create a tensor of {sorted(odd)}")
        length = max(len(row["input_ids"]) for row in rows)
        ids = torch.tensor([row["input_ids"] + [0] * (length - len(row["input_ids"])) for row in rows])
        return {"input_ids": ids, "labels": ids.masked_fill(ids == 0, -100)}


class Marked(Strict):
    """The same, with a mark of its own in each batch."""

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return super().__call__(rows) | {"attention_mask": torch.ones(len(rows), 1)}


class OtherEvalCollator(Trainer):
    """Evaluates with a collator of its own."""

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        before, self.data_collator = self.data_collator, Marked()
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = before


class KeepsText(Trainer):
    """Renames what the stock Trainer would drop."""

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        return dataset.remove_columns(["source"]).rename_columns({"text": "labels"})


class KnowsSource(Trainer):
    """Counts a column as one of the model's."""

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["input_ids", "labels", "source"]


@pytest.fixture(scope="module")
def model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=16, num_key_value_heads=1, max_position_embeddings=32, **sizes))


@pytest.fixture
def make(model: Qwen2ForCausalLM, tmp_path: Path) -> Any:
    def make(pool: Any, base: type = Trainer, evals: Any = None, config: Any = None, **arguments: Any) -> Any:
        values = {"use_cpu": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "seed": 3}
        args = TrainingArguments(str(tmp_path / "out"), per_device_train_batch_size=2, **{**values, **arguments})
        cls = base
        if config is not None:
            (tmp_path / "mine.py").write_text(MINE)
            cls = dynamic_trainer(base, config, plugins=[tmp_path / "mine.py"])
        return cls(model=model, args=args, train_dataset=pool, eval_dataset=evals, data_collator=Strict())

    return make


SELECT = {"train_type": "dynamic_select", "warmup_step": 1, "update_step": 2, "update_times": 1}


@pytest.mark.parametrize("hugging_face", [True, False], ids=["Dataset", "list"])
@pytest.mark.parametrize("evals", [True, False], ids=["eval Dataset", "eval list"])
def test_a_component_that_collates_rows_itself_gets_the_columns_of_the_model_only(make, hugging_face, evals) -> None:
    pool = Dataset.from_list(ROWS) if hugging_face else ROWS
    held_out = {"one": Dataset.from_list(ROWS[:4]) if evals else ROWS[:4], "two": ROWS[4:8]}
    trainer = make(pool, evals=held_out, config=SELECT | {"component_name": "own_batches"})
    trainer.train()
    assert trainer.component.seen == [["input_ids", "labels"]] * 5
    assert trainer.component.context.dataset is pool  # nothing is copied, and every column can be read
    assert trainer.component.dataset[3]["source"] == "web"


def test_extra_columns_change_no_decision_of_the_loss_selector(make, tmp_path) -> None:
    pool, config, found = Dataset.from_list(ROWS), SELECT | {"component_name": "loss"}, []
    for data in (pool, pool.remove_columns(EXTRA), ROWS):
        trainer = make(data, config=config)
        weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        trainer.train()
        trainer.model.load_state_dict(weights)
        files = sorted((tmp_path / "out" / "decisions").glob("*.npy"))
        found.append([np.load(file).tolist() for file in files])
    assert found[0] == found[1] == found[2] and len(found[0]) == 2


def test_what_the_trainer_counts_as_the_models_is_what_it_says(make) -> None:
    rows = [{**row, "source": row["input_ids"]} for row in ROWS]
    handed = handed_out(make(rows, KnowsSource))
    with pytest.raises(ValueError, match="'source'"):  # kept, as the Trainer keeps it
        handed.collator(rows[:2])


def test_label_names_are_kept(make) -> None:
    rows = [{**row, "extra_label": 1} for row in ROWS]
    handed = handed_out(make(rows, label_names=["labels", "extra_label"]))
    with pytest.raises(ValueError, match="'extra_label'"):
        handed.collator(rows[:2])


def test_a_trainer_with_its_own_removal_is_asked(make) -> None:
    pool = Dataset.from_list([{**row, "text": row["input_ids"]} for row in ROWS])
    handed = handed_out(make(pool, KeepsText))
    assert handed.dataset.column_names == ["input_ids", "labels"]
    assert sorted(handed.collator([handed.dataset[0]])) == ["input_ids", "labels"]


def test_rows_of_an_eval_set_bring_along_the_collator_it_is_evaluated_with(make) -> None:
    handed = handed_out(make(ROWS, OtherEvalCollator, evals={"held": ROWS[:5]}))
    held = handed.eval_datasets["held"]
    assert len(held) == 5 and list(handed.eval_datasets) == ["held"]
    assert "attention_mask" in handed.collator([held[0], held[1]])
    assert "attention_mask" not in handed.collator(ROWS[:2])
    batches = [batch for _, batch in ScoringLoader(held, handed.collator, np.arange(5), token_budget=8)]
    assert len(batches) > 1 and all("attention_mask" in batch for batch in batches)


def test_where_nothing_is_removed_the_trainers_own_objects_are_handed_out(make) -> None:
    trainer = make(ROWS, evals=ROWS[:2], remove_unused_columns=False)
    handed = handed_out(trainer)
    assert handed.collator is trainer.data_collator and handed.eval_datasets == {"eval": trainer.eval_dataset}


def test_attributes_of_the_collator_can_still_be_read(make) -> None:
    handed = handed_out(make(ROWS))
    assert isinstance(handed.collator, HandedCollator) and handed.collator.pad_to_multiple_of == 4
    assert not hasattr(handed.collator, "neat_packing")
    context = RunContext(dataset=handed.dataset, data_collator=handed.collator)
    assert len(ScoringLoader(context.dataset, context.data_collator, np.arange(4), token_budget=16)) == 2


def test_a_pool_transformed_on_the_spot_is_made_of_the_columns_the_trainer_leaves(make) -> None:
    raw = Dataset.from_dict({"input_ids": [[1, 2]] * 4, "text": ["a"] * 4})
    pool = raw.with_transform(
        lambda batch: {"input_ids": batch["input_ids"], "labels": [list(batch)] * len(batch["input_ids"])}
    )
    handed = handed_out(make(pool))
    assert handed.dataset[0]["labels"] == ["input_ids"]
