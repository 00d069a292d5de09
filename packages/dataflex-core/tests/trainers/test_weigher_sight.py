"""What a weighter is shown beside the losses, and what it may note."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from dataflex.errors import ComponentError
from dataflex.trainers import dynamic_trainer

sys.path.insert(0, str(Path(__file__).parent))
import weight_runs

WEIGHTERS = """
import torch
from dataflex import Need, Weighter, register_weighter

@register_weighter("shown", needs={Need.HIDDEN_STATES})
class Shown(Weighter):
    window = 2
    def begin_step(self, step, rows):
        self.begun = [*getattr(self, "begun", ()), (step, len(rows))]
    def weights(self, losses_B, context):
        head = context.model.get_output_embeddings()
        logits = head(context.hidden_BTH)
        samples, labels = context.segments_BT, context.inputs["labels"]
        own = torch.stack([
            torch.nn.functional.cross_entropy(
                logits[:, :-1][(samples[:, 1:] == sample) & (labels[:, 1:] != -100)],
                labels[:, 1:][(samples[:, 1:] == sample) & (labels[:, 1:] != -100)],
            )
            for sample in range(len(losses_B))
        ])
        assert torch.allclose(own, losses_B, atol=1e-5)
        self.shown = [*getattr(self, "shown", ()), len(losses_B)]
        context.note(own)
        return torch.ones_like(losses_B)
    def on_step(self, stats):
        self.noted = [*getattr(self, "noted", ()), abs(stats.noted - stats.losses).max()]

@register_weighter("ahead", needs={Need.HIDDEN_STATES})
class Ahead(Shown):
    statistics = "batch"

@register_weighter("misnoting")
class Misnoting(Weighter):
    def weights(self, losses_B, context):
        assert context.hidden_BTH is None and context.segments_BT is None
        context.note(losses_B * NOTE)
        return losses_B

@register_weighter("silent")
class Silent(Weighter):
    def weights(self, losses_B, context):
        return losses_B
    def on_step(self, stats):
        assert stats.noted is None
"""


def trainer(name: str, folder: Path, *, note: str = "1", **arguments: Any) -> Any:
    (folder / "plug.py").write_text(WEIGHTERS.replace("NOTE", note))
    config = {"train_type": "dynamic_weight", "component_name": name, "warmup_step": 1}
    made = weight_runs.trainer(None, folder, **arguments)
    cls = dynamic_trainer(type(made), config, plugins=[folder / "plug.py"])
    return cls(model=made.model, args=made.args, train_dataset=made.train_dataset, data_collator=weight_runs.collate)


@pytest.mark.parametrize("masked", [(), (3, 4, 8)])
def test_hidden_states_are_those_that_the_losses_are_made_of(tmp_path: Path, masked: tuple[int, ...]) -> None:
    rows = weight_runs.pool(24, masked=masked)
    made = trainer("shown", tmp_path, rows=rows, max_steps=5, gradient_accumulation_steps=2)
    made.train()
    component = made.component
    assert component.begun == [(step, 2) for step in range(1, 5)]
    assert len(component.noted) == 4 and max(component.noted) < 1e-5
    assert sum(component.shown) <= 16 and bool(masked) == (sum(component.shown) < 16)


def test_hidden_states_of_a_whole_step_before_it_is_weighed_are_not_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(ComponentError, match="Only one of the two is to be had"):
        trainer("ahead", tmp_path).train()


@pytest.mark.parametrize(
    ("note", "message"), [("float('nan')", "a note is a finite number"), ("torch.ones(9, 1)", "note")]
)
def test_a_note_that_is_no_number_of_each_sample_is_refused(tmp_path: Path, note: str, message: str) -> None:
    with pytest.raises(ComponentError, match=message):
        trainer("misnoting", tmp_path, note=note).train()


def test_without_notes_there_are_none(tmp_path: Path) -> None:
    made = trainer("silent", tmp_path, max_steps=3)
    made.train()
    assert not any("dataflex/score_mean" in entry for entry in made.state.log_history)
