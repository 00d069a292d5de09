"""Classes in the style of PyPI dataflex 1.x get what they ask for by name, and the documentation lists it all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from doubles import IdleTrainer
from prepared_runs import mix_context, no_batch
from tiny_runs import NOTE_SELECT

from dataflex.components.build import build_component, runtime_arguments
from dataflex.components.context import RunContext
from dataflex.components.weighter import Weighter
from dataflex.schedule import Schedule
from dataflex.trainers.planners.planner import runtime_arguments as decision_arguments

PAGE = (Path(__file__).parents[2] / "docs/plugins.md").read_text(encoding="utf-8")

OLD_SELECTOR = '''
import json
from pathlib import Path

from dataflex.core.registry import register_selector
from dataflex.train.selector.base_selector import Selector
from dataflex.utils.logging import logger


@register_selector("old")
class OldSelector(Selector):
    """Notes what it is given."""

    def __init__(self, dataset, eval_dataset, accelerator, data_collator, cache_dir, gradient_type="adam", seed=42):
        super().__init__(dataset, accelerator, data_collator, cache_dir)
        self.eval_dataset, self.seed = eval_dataset, seed

    def warmup(self, num_samples, replacement):
        return [(self.seed + row) % len(self.dataset) for row in range(num_samples)]

    def select(self, model, step_id, num_samples, **kwargs):
        seen = {
            "moments": sum("exp_avg" in moments for moments in kwargs["optimizer_state"].values()),
            "scheduler": kwargs["scheduler_state"]["last_epoch"],
            "update": [kwargs["current_update_times"], kwargs["update_times"]],
            "tokens": len(kwargs["tokenizer"]),
            "eval": len(self.eval_dataset),
        }
        logger.info("seen by OldSelector: %s", seen)
        with (Path(self.cache_dir) / "seen.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\\n")
        return list(range(num_samples))
'''


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def documented(column: str) -> set[str]:
    """Names in the first cells of a table of the section on run-time names."""
    table = section("Run-time names").partition(f"| {column} |")[2].partition("\n\n")[0]
    return {
        name for cell in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }


def test_every_name_a_constructor_may_ask_for_is_documented_and_no_other() -> None:
    assert documented("constructor") == set(runtime_arguments(mix_context({"web": 1.0})))


def test_every_name_a_decision_may_ask_for_is_documented_and_no_other() -> None:
    context = RunContext(dataset=[], data_collator=no_batch)
    names = set(decision_arguments(IdleTrainer(None), Schedule(1, 1, 2), context, 1))
    assert documented("`select`, `mix`") == {"model", "step_id", "num_samples", *names}


class OldWeighter(Weighter):
    """As those of 1.x are written: what is not its own goes to the base class."""

    def __init__(self, strategy: str = "uniform", **kwargs):
        super().__init__(**kwargs)
        self.strategy = strategy


def test_a_weighter_that_hands_all_other_arguments_to_its_base_class_is_built() -> None:
    context = RunContext(dataset=[0], data_collator=no_batch)
    built = build_component(OldWeighter, None, {"strategy": "quadratic"}, {}, context)
    assert (built.strategy, built.context) == ("quadratic", context)


@pytest.mark.slow
def test_a_selector_of_the_old_style_trains_unchanged(workshop, train) -> None:
    (workshop.out / "old.py").write_text(OLD_SELECTOR)
    cache = workshop.out / "cache"
    cache.mkdir()
    keys = {"component_name": "old", "component_params": {"cache_dir": str(cache)}, "eval_dataset": "val"}
    train(workshop.run_file(**NOTE_SELECT | keys), plugins=(str(workshop.out / "old.py"),))
    seen = [json.loads(line) for line in (cache / "seen.jsonl").read_text().splitlines()]
    assert [row["update"] for row in seen] == [[1, 2], [2, 2]]
    assert [row["scheduler"] for row in seen] == [2, 5]
    assert all(row["moments"] > 0 and row["tokens"] > 256 and row["eval"] == 16 for row in seen)
