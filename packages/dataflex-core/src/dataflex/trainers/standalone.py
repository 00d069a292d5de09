"""The front end without LlamaFactory: any ``transformers.Trainer`` class becomes one that selects, mixes or weighs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback

from dataflex.config import checks, legacy
from dataflex.config.gathering import Gathered
from dataflex.config.plan import prepare
from dataflex.config.run import OUR_KEYS, RunFile
from dataflex.data.trained_tokens import trained_tokens
from dataflex.distributed import leave_group_at_exit
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex.mixing.domains import Domains
from dataflex.paths import expand_keys
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.record.alive import at_work
from dataflex.record.run import FOLDER
from dataflex.runs import TrainType
from dataflex.trainers.dynamic import DynamicMixin
from dataflex.trainers.final_model import require_model
from dataflex.trainers.mixin import TrainerMixin
from dataflex.trainers.resume.checkpoint import require_loadable
from dataflex.trainers.session import Session

logger = logging.getLogger("dataflex")

SOURCE = Path("the configuration")  # what messages name in place of a run file


def dynamic_trainer(
    base: type,
    config: Mapping[str, Any],
    *,
    domains: Mapping[str, int] | None = None,
    plugins: Sequence[str | Path] = (),
) -> type:
    """Derive a Trainer class that trains on what a component decides.

    It is constructed and used as ``base`` is. Its ``train_dataset`` is the pool, tokenised when training begins (as
    ``SFTTrainer`` does it by itself); ``train(resume_from_checkpoint=...)`` goes on exactly.

    Args:
        base: ``transformers.Trainer`` or a class derived from it, e.g. TRL's ``SFTTrainer``.
        config: The keys a run file would have: ``train_type``, ``component_name``, ``component_params``,
            ``warmup_step``, ``update_step``, ...
        domains: Rows of each domain by name: for mixing, and for a selector so that its share of each is recorded.
            The pool holds the domains one after another, as ``datasets.concatenate_datasets`` joins them.
        plugins: Python files with components of yours, and ``no:DIST``, as after ``-p`` on the command line.

    Returns:
        A class named ``Dynamic`` + the name of ``base``.

    Raises:
        ConfigError: for a key or value that is not known. What depends on the arguments and the data is checked when
            the Trainer is constructed.

    Example:
        >>> config = {"train_type": "dynamic_select", "component_name": "loss",
        ...           "warmup_step": 10, "update_step": 10, "update_times": 4}
        >>> trainer = dynamic_trainer(Trainer, config)(model=model, args=args, train_dataset=pool)
        >>> trainer.train()
    """
    if domains is not None and not isinstance(domains, Mapping):
        raise ConfigError(
            f"domains is {domains!r}; it must give the rows of each domain by name: {{'web': 4000, ...}}."
        )
    problems = Gathered()
    for key in config:
        with problems.taking():
            if key not in OUR_KEYS:
                hint = did_you_mean(str(key), OUR_KEYS)
                raise ConfigError(f"unknown key {key!r} in {SOURCE}.{legacy.key(str(key)) or hint}")
    problems.refuse()
    run = RunFile(path=SOURCE, ours=expand_keys(config), llamafactory={}, overridden=frozenset())
    if run.train_type is TrainType.STATIC:
        raise ConfigError(f"{SOURCE} names no dynamic train_type, so {base.__name__} can be used as it is.")
    values = [*run.plugins(), *map(str, plugins)]
    loaded = PluginManager.load(PluginOptions.gather(values, os.environ))
    attributes = {
        "keys": run.ours,
        "domain_rows": {str(name): rows for name, rows in (domains or {}).items()},
        "plugins": loaded,
    }
    return type(f"Dynamic{base.__name__}", (StandaloneMixin, DynamicMixin, base), attributes)


class StandaloneMixin(TrainerMixin):
    """Opens the session from the Trainer's own arguments. The class attributes are set by :func:`dynamic_trainer`."""

    keys: Mapping[str, Any]
    domain_rows: Mapping[str, int]
    plugins: PluginManager
    _leaves_group = False  # registered, after the first train() that came to its end

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.train_dataset is None:
            raise ConfigError("the Trainer was given no train_dataset, so there is nothing to decide on.")
        if not hasattr(self.train_dataset, "__len__") or not hasattr(self.train_dataset, "__getitem__"):
            raise ConfigError("train_dataset is streamed: it has no rows to choose from. Give a map-style data set.")
        run = RunFile(path=SOURCE, ours=self.keys, llamafactory=self._arguments(), overridden=frozenset())
        self.session = Session(prepare(run, self.plugins))
        if self.session.run.mixture is not None or self.domain_rows:
            self.session.check_domain_names(list(self.domain_rows))
            self.session.domains = self._domains()
        self.session.check(self.train_dataset, self.args, resumes=False)  # train() is told
        if self.is_world_process_zero():
            for warning in checks.checkpoint_warnings(run):
                logger.warning(warning)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; same arguments as ``transformers.Trainer.train``.

        Raises:
            ConfigError: when another run writes to the output directory.
        """
        writes = self.is_world_process_zero()
        with at_work(Path(self.args.output_dir), FOLDER) if writes else contextlib.nullcontext():
            output = super().train(*args, **kwargs)
        if self.args.world_size > 1 and not self._leaves_group:
            self._leaves_group = True
            leave_group_at_exit(self)
        return output

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; same arguments as ``transformers.Trainer.save_model``.

        Raises:
            ConfigError: when the Trainer wrote none.
        """
        super().save_model(output_dir, _internal_call)
        if self.args.should_save and self.is_fsdp_enabled and not _internal_call:
            require_model(Path(output_dir or self.args.output_dir), Path(self.args.output_dir))

    def _checkpoint_to_resume(self, given: str | bool | None) -> Path | None:
        found: Path | None = super()._checkpoint_to_resume(given)
        if found is not None:
            require_loadable(self.session.run.facts, found)
        return found

    def _names_checkpoint(self, path: str) -> bool:
        return True  # whoever calls train() with a path has named it

    def _arguments(self) -> dict[str, Any]:
        """The Trainer's arguments under the names a run file has for them."""
        arguments = dict(self.args.to_dict())
        evals = self.eval_dataset
        named = list(evals) if isinstance(evals, dict) else (["eval"] if evals is not None else None)
        return {
            **arguments,
            "do_train": True,
            "stage": checks.NO_STAGE,
            "finetuning_type": "lora" if hasattr(self.model, "peft_config") else "full",
            "dataset": list(self.domain_rows) or ["train_dataset"],
            "eval_dataset": named,
            "eval_on_each_dataset": isinstance(evals, dict),
            "early_stopping_steps": self._patience(),
            "enable_liger_kernel": arguments.get("use_liger_kernel", False),
            "resume_from_checkpoint": None,
        }

    def _patience(self) -> int | None:
        """Evaluations that an early stopping callback of the user waits for; ``None`` without one."""
        callbacks = self.callback_handler.callbacks
        waits = [one.early_stopping_patience for one in callbacks if isinstance(one, EarlyStoppingCallback)]
        return int(waits[0]) if waits else None

    def _domains(self) -> Domains:
        names, rows, size = tuple(self.domain_rows), tuple(self.domain_rows.values()), len(self.train_dataset)
        if sum(rows) != size or min(rows, default=0) < 1:
            spelled = ", ".join(f"{name}: {count}" for name, count in self.domain_rows.items()) or "none"
            raise ConfigError(
                f"domains has {sum(rows)} rows ({spelled}), but train_dataset has {size}. Give the rows of each domain "
                "in the order in which train_dataset holds them, as they are after packing."
            )
        return Domains(names, rows, trained_tokens(self.train_dataset))
