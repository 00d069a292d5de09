"""A new run in an old folder: whose checkpoints are deleted, resumed, named and counted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from resealed import reseal
from transformers import Trainer, TrainerCallback, TrainingArguments

from dataflex.checkpoint import damage, state
from dataflex.checkpoint import folders as checkpoints
from dataflex.decisions import DecisionLog
from dataflex.trainers import dynamic_trainer

ROWS = [{"x": torch.tensor([float(row), 1.0]), "labels": torch.tensor([1.0])} for row in range(40)]
MINE = """
from dataflex import Mixer, Selector, Weighter, register_mixer, register_selector, register_weighter

@register_selector("drawn", stochastic=True)
class Drawn(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        return self.context.rng(step_id).choice(len(self.dataset), num_samples, replace=False)

@register_mixer("keeps")
class Keeps(Mixer):
    def mix(self, model, step_id, **kwargs):
        return self.context.proportions

@register_weighter("even")
class Even(Weighter):
    def training_step(self, ctx, model, inputs, **facts):
        loss = ctx.compute_loss(model, ctx._prepare_inputs(inputs))
        ctx.accelerator.backward(loss)
        return loss.detach()
"""
STEPS = {"warmup_step": 2, "update_step": 2, "update_times": 5}
KEYS: dict[str, dict[str, Any]] = {
    "select": {"train_type": "dynamic_select", "component_name": "drawn", **STEPS},
    "mix": {
        "train_type": "dynamic_mix", "component_name": "keeps", "init_mixture_proportions": [0.5, 0.5], **STEPS
    },
    "weight": {"train_type": "dynamic_weight", "component_name": "even", "train_step": 12},
}  # fmt: skip


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        predicted = self.layer(x / 40)
        return {"loss": (predicted - labels).pow(2).mean(), "logits": predicted}


class Fails(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 9:
            raise RuntimeError("stopped on purpose")


class Run:
    """A command that may be given once more, with other keys."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        (folder / "mine.py").write_text(MINE)

    def __call__(
        self,
        *,
        resume: bool | str | None = None,
        fails: bool = False,
        output: str = "out",
        keys: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Any:
        domains = {"web": 20, "code": 20} if self.kind == "mix" else None
        config = KEYS[self.kind] | dict(keys or {})
        cls = dynamic_trainer(Trainer, config, plugins=[self.folder / "mine.py"], domains=domains)
        given = {
            "per_device_train_batch_size": 2,
            "learning_rate": 0.05,
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
            "save_strategy": "steps",
            "save_steps": 2,
        }
        args = TrainingArguments(str(self.folder / output), **(given | arguments))
        trainer = cls(model=Line(), args=args, train_dataset=ROWS, callbacks=[Fails()] if fails else None)
        if fails:
            with pytest.raises(RuntimeError, match="on purpose"):
                trainer.train(resume)
        else:
            trainer.train(resume)
        return trainer


def weights(trainer: Any) -> str:
    values = [value.detach().numpy().tobytes() for value in trainer.model.state_dict().values()]
    return hashlib.sha256(b"".join(values)).hexdigest()


def steps(folder: Path) -> list[int]:
    return sorted(checkpoints.step_of(path) for path in checkpoints.newest_first(folder))


@pytest.mark.parametrize(("kind", "limit"), [("select", 1), ("mix", 2), ("weight", None)])
def test_a_new_run_in_an_old_folder_goes_on_from_its_own_checkpoint(
    tmp_path: Path, kind: str, limit: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    run, out = Run(tmp_path, kind), tmp_path / "out"
    old = run(save_total_limit=limit)
    kept = steps(out)
    run(fails=True, save_total_limit=limit, learning_rate=0.02)
    assert "checkpoints of an earlier run lay in" in caplog.text and "earlier-runs/1" in caplog.text
    assert steps(out)[-1] == 8 and steps(out / checkpoints.ASIDE / "1") == kept
    assert len(steps(out)) == (limit or 4)
    resumed = run(resume=True, save_total_limit=limit, learning_rate=0.02)
    reference = run(output="reference", learning_rate=0.02)
    assert weights(resumed) == weights(reference) != weights(old)
    assert steps(out / checkpoints.ASIDE / "1") == kept  # never deleted


def test_a_run_has_one_name_through_all_its_parts_and_the_next_another(tmp_path: Path) -> None:
    run, out = Run(tmp_path, "select"), tmp_path / "out"
    run(fails=True)
    (first,) = {damage.run_id_of(path) for path in checkpoints.newest_first(out)}
    run(resume=True)
    assert {damage.run_id_of(path) for path in checkpoints.newest_first(out)} == {first} != {""}
    assert steps(out) == [2, 4, 6, 8, 10, 12] and not (out / checkpoints.ASIDE).exists()
    run()
    (second,) = {damage.run_id_of(path) for path in checkpoints.newest_first(out)}
    assert second not in (first, "")
    run(resume=str(out / checkpoints.ASIDE / "1" / "checkpoint-4"))  # by name, it is gone on with
    assert {damage.run_id_of(path) for path in checkpoints.newest_first(out)} == {first}
    assert {damage.run_id_of(path) for path in checkpoints.newest_first(out / checkpoints.ASIDE / "2")} == {second}
    assert [decision.step for decision in DecisionLog(out)] == [4, 6, 8, 10]  # none of the run in between


def without_name(checkpoint: Path) -> None:
    """Make a checkpoint one of before there were names."""
    path = checkpoint / state.FOLDER / "engine.json"
    engine = json.loads(path.read_text())
    del engine["run_id"]
    path.write_text(json.dumps(engine))
    reseal(checkpoint)


def test_checkpoints_without_a_name_are_resumed_and_not_deleted(tmp_path: Path) -> None:
    run, out = Run(tmp_path, "select"), tmp_path / "out"
    run(fails=True, save_total_limit=3)
    for path in checkpoints.newest_first(out):
        without_name(path)
    resumed = run(resume=True, save_total_limit=1)
    assert weights(resumed) == weights(run(output="reference"))
    assert steps(out) == [4, 6, 8, 12]  # the run's own are rotated


def test_what_another_run_wrote_is_passed_over_by_name(tmp_path: Path) -> None:
    run, out = Run(tmp_path, "select"), tmp_path / "out"
    run(output="other")
    run(fails=True)
    (tmp_path / "other" / "checkpoint-12").rename(out / "checkpoint-12")  # somebody puts it there
    found, passed_over = checkpoints.latest_valid(out)
    assert found == out / "checkpoint-8"
    assert passed_over == {
        out / "checkpoint-12": "it is of another run than the one that was begun last in this folder"
    }
    assert checkpoints.last_resumable(out) == out / "checkpoint-8"


def test_what_a_static_run_wrote_is_put_aside_and_not_deleted(tmp_path: Path) -> None:
    run, out = Run(tmp_path, "select"), tmp_path / "out"
    run(fails=True, save_total_limit=1)
    args = TrainingArguments(
        str(tmp_path / "static"),
        per_device_train_batch_size=2,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="steps",
        save_steps=2,
        max_steps=14,
    )
    Trainer(model=Line(), args=args, train_dataset=ROWS).train()
    for step in (10, 12, 14):  # as the same run file writes them under train_type: static
        (tmp_path / "static" / f"checkpoint-{step}").rename(out / f"checkpoint-{step}")
    stock = (out / "checkpoint-12" / "trainer_state.json").read_text()
    resumed = run(resume=True, save_total_limit=1)
    assert weights(resumed) == weights(run(output="reference"))
    aside = out / checkpoints.ASIDE / "1"
    assert steps(out) == [12] and steps(aside) == [10, 12, 14]
    assert (aside / "checkpoint-12" / "trainer_state.json").read_text() == stock


@pytest.mark.parametrize(
    ("changed", "last"),
    [({"seed": 9}, 12), ({"keys": {"update_times": 3}}, 8), ({"learning_rate": 0.05}, 12)],
    ids=["another seed", "shorter", "nothing but what a plugin does"],
)
def test_whatever_is_other_in_the_new_run_the_old_ones_are_not_taken_for_its_own(
    tmp_path: Path, changed: dict[str, Any], last: int
) -> None:
    run, out = Run(tmp_path, "select"), tmp_path / "out"
    run(save_total_limit=1)
    (tmp_path / "mine.py").write_text(MINE.replace("self.context.rng(step_id)", "self.context.rng(step_id + 100)"))
    made = run(save_total_limit=1, **changed)
    assert steps(out) == [last] == [made.state.global_step]
    again = run(resume=True, save_total_limit=1, **changed)  # nothing is left, and it is the new run's end
    assert weights(again) == weights(made) == weights(run(output="reference", **changed))


def test_an_output_directory_may_be_a_link(tmp_path: Path) -> None:
    run = Run(tmp_path, "select")
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk", target_is_directory=True)
    run(fails=True, save_total_limit=1)
    resumed = run(resume=True, save_total_limit=1)
    assert (tmp_path / "out").is_symlink() and steps(tmp_path / "disk") == [12]
    assert weights(resumed) == weights(run(output="reference"))
