"""The runs of the demo, and the run file of each."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataflex.demo.chat import TEMPLATE
from dataflex.demo.dataset import POOL
from dataflex.demo.settings import CUTOFF, Settings
from dataflex.runs import TrainType

TARGET, OTHER_DOMAINS = "docstrings", "others"
"""Names of the two eval sets, as in :class:`dataflex.demo.corpus.Corpus`."""

VALIDATION = "validation"
"""Docstrings to aim at: none of them is in the pool, nor in the eval set that measures."""

LOGGED_EVERY = 5


@dataclass(frozen=True, kw_only=True)
class DemoRun:
    """One line of the demo's table.

    Attributes:
        name: Name of its run file and of its folders.
        component: The selector.
        params: Its ``component_params``.
        aims_at: A further eval set, for a component that aims at one; ``""`` if it does not.
        times_steps: Length of the run in ordinary runs: 4 gives it four times the optimizer steps.
    """

    name: str
    component: str
    params: Mapping[str, Any] = field(default_factory=dict)
    aims_at: str = ""
    times_steps: int = 1

    @property
    def eval_sets(self) -> list[str]:
        """Names of all eval sets of the run."""
        return [TARGET, OTHER_DOMAINS, *([self.aims_at] if self.aims_at else [])]

    def settings(self, settings: Settings) -> Settings:
        """The demo's settings with this run's number of boundaries: the stages themselves are the same in all runs."""
        more = (self.times_steps - 1) * settings.steps // settings.update
        return dataclasses.replace(settings, times=settings.times + more)


BASELINE = DemoRun(name="random", component="random")

RUNS = (
    BASELINE,
    DemoRun(name="loss", component="loss", params={"mode": "top"}),
    DemoRun(
        name="less",
        component="less",
        params={"targets": [VALIDATION], "parameters": "linear", "history": True},
        aims_at=VALIDATION,
    ),
    DemoRun(name="random_long", component="random", times_steps=4),
)
"""What the demo runs, in this order. A further component is one further entry."""


@dataclass(frozen=True)
class Paths:
    """Where a demo keeps what.

    Attributes:
        root: The folder given by ``--out``; absolute, so that run files work from any folder.
    """

    root: Path

    @property
    def data(self) -> Path:
        """LlamaFactory's ``dataset_dir``."""
        return self.root / "data"

    @property
    def model(self) -> Path:
        """The pretrained model with its tokenizer."""
        return self.root / "model"

    @property
    def cache(self) -> Path:
        """The runs' ``cache_dir``: tokenised data."""
        return self.root / "cache"

    @property
    def summary(self) -> Path:
        """Everything the tables show, as JSON."""
        return self.root / "summary.json"

    @property
    def report(self) -> Path:
        """What the runs did, side by side."""
        return self.root / "report.html"

    def run_file(self, run: DemoRun) -> Path:
        """The YAML of a run."""
        return self.root / f"{run.name}.yaml"

    def output(self, run: DemoRun) -> Path:
        """The ``output_dir`` of a run."""
        return self.root / "runs" / run.name

    def log(self, run: DemoRun) -> Path:
        """What a run printed."""
        return self.root / "logs" / f"{run.name}.log"


def run_file(run: DemoRun, settings: Settings, paths: Paths, *, cpu: bool) -> dict[str, Any]:
    """The keys of a run file, LlamaFactory's and ours.

    Args:
        run: Which run.
        settings: The demo's settings.
        paths: Where data, model and results are.
        cpu: Whether to stay off accelerators.
    """
    own = run.settings(settings)
    keys: dict[str, Any] = {
        "model_name_or_path": str(paths.model),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset_dir": str(paths.data),
        "dataset": POOL,
        "eval_dataset": ",".join(run.eval_sets),
        "eval_on_each_dataset": True,
        "do_eval": True,
        "disable_gradient_checkpointing": True,
        "template": TEMPLATE,
        "cutoff_len": CUTOFF,
        "cache_dir": str(paths.cache),
        "output_dir": str(paths.output(run)),
        "overwrite_output_dir": True,
        "logging_steps": LOGGED_EVERY,
        "save_strategy": "no",
        "report_to": "none",
        "per_device_train_batch_size": own.batch,
        "per_device_eval_batch_size": 32,
        "gradient_accumulation_steps": 1,
        "learning_rate": own.rate,
        "lr_scheduler_type": "linear",
        "seed": own.seed,
        "train_type": TrainType.SELECT.value,
        "component_name": run.component,
        "warmup_step": own.warmup,
        "update_step": own.update,
        "update_times": own.times,
    }
    if run.params:
        keys["component_params"] = dict(run.params)
    if cpu:
        keys["use_cpu"] = True
    return keys


def write_run_file(run: DemoRun, settings: Settings, paths: Paths, *, cpu: bool) -> Path:
    """Write a run's YAML and return its path."""
    import yaml

    path = paths.run_file(run)
    header = f"# A run of `dataflex demo`. Repeat it: {command(path)}\n"
    keys = run_file(run, settings, paths, cpu=cpu)
    path.write_text(header + yaml.safe_dump(keys, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def command(run_file: Path) -> str:
    """What to type to repeat a run; names this Python where ``dataflex-cli`` on the PATH is absent or another's."""
    found = shutil.which("dataflex-cli")
    own = found is not None and Path(found).parent == Path(sys.executable).parent
    program = ["dataflex-cli"] if own else [sys.executable, "-m", "dataflex"]
    return shlex.join([*program, "train", str(run_file)])
