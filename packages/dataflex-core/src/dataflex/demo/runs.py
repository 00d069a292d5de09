"""The runs of the demo, as a study: its arms, the run file they have in common, and the study file."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
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
    """One arm of the demo's study.

    Attributes:
        name: Name of the arm.
        component: The selector.
        params: Its ``component_params``.
        aims_at: A further eval set, for a component that aims at one; ``""`` if it does not.
    """

    name: str
    component: str
    params: Mapping[str, Any] = field(default_factory=dict)
    aims_at: str = ""

    def keys(self) -> dict[str, Any]:
        """What differs from the run file that all arms have in common."""
        found: dict[str, Any] = {"component_name": self.component}
        if self.params:
            found["component_params"] = dict(self.params)
        if self.aims_at:
            found["eval_dataset"] = ",".join((TARGET, OTHER_DOMAINS, self.aims_at))
        return found


BASELINE = DemoRun(name="random", component="random")

RUNS = (
    BASELINE,
    DemoRun(name="loss", component="loss", params={"mode": "top"}),
    DemoRun(name="lexical", component="lexical", params={"targets": [VALIDATION]}, aims_at=VALIDATION),
    DemoRun(
        name="less",
        component="less",
        params={"targets": [VALIDATION], "parameters": "linear", "history": True},
        aims_at=VALIDATION,
    ),
)
"""The arms, in this order. A further component is one further entry."""

LONG = 4
"""How many times longer the baseline is trained, too."""


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

    @property
    def base(self) -> Path:
        """The run file that all arms have in common."""
        return self.root / "base.yaml"

    @property
    def study(self) -> Path:
        """The study file."""
        return self.root / "demo.yaml"


def base_keys(settings: Settings, paths: Paths, *, cpu: bool) -> dict[str, Any]:
    """The keys that all arms have in common, LlamaFactory's and ours.

    Args:
        settings: The demo's settings.
        paths: Where data, model and results are.
        cpu: Whether to stay off accelerators.
    """
    keys: dict[str, Any] = {
        "model_name_or_path": str(paths.model),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset_dir": str(paths.data),
        "dataset": POOL,
        "eval_dataset": ",".join((TARGET, OTHER_DOMAINS)),
        "eval_on_each_dataset": True,
        "do_eval": True,
        "disable_gradient_checkpointing": True,
        "template": TEMPLATE,
        "cutoff_len": CUTOFF,
        "cache_dir": str(paths.cache),
        "logging_steps": LOGGED_EVERY,
        "save_strategy": "no",
        "report_to": "none",
        "per_device_train_batch_size": settings.batch,
        "per_device_eval_batch_size": 32,
        "gradient_accumulation_steps": 1,
        "learning_rate": settings.rate,
        "lr_scheduler_type": "linear",
        "seed": settings.seed,
        "train_type": TrainType.SELECT.value,
        "component_name": BASELINE.component,
        "warmup_step": settings.warmup,
        "update_step": settings.update,
        "update_times": settings.times,
    }
    if cpu:
        keys["use_cpu"] = True
    return keys


def write_study(runs: Sequence[DemoRun], settings: Settings, paths: Paths, *, cpu: bool) -> Path:
    """Write the study file and the run file it begins with; returns the first.

    Args:
        runs: The arms.
        settings: The demo's settings.
        paths: Where everything is.
        cpu: Whether to stay off accelerators.
    """
    study = {
        "base": paths.base.name,
        "out": str(paths.root),
        "arms": {run.name: run.keys() for run in runs},
        "metric": f"eval_{TARGET}_loss",
        "seeds": [settings.seed],
        "baseline_lengths": [1, LONG],
    }
    _write(paths.base, base_keys(settings, paths, cpu=cpu), "What the arms of demo.yaml have in common.")
    again = shlex.join([*_program(), "study", str(paths.study)])
    _write(paths.study, study, f"The runs of `dataflex demo`. More seeds, arms or lengths: add them and call {again}")
    return paths.study


def _write(path: Path, keys: Mapping[str, Any], head: str) -> None:
    import yaml

    text = yaml.safe_dump(dict(keys), sort_keys=False, allow_unicode=True)
    path.write_text(f"# {head}\n{text}", encoding="utf-8")


def command(run_file: Path) -> str:
    """What to type to repeat a run; names this Python where ``dataflex-cli`` on the PATH is absent or another's."""
    return shlex.join([*_program(), "train", str(run_file)])


def _program() -> list[str]:
    found = shutil.which("dataflex-cli")
    own = found is not None and Path(found).parent == Path(sys.executable).parent
    return ["dataflex-cli"] if own else [sys.executable, "-m", "dataflex"]
