"""Pipelines of PyPI dataflex 1.x as several components: a preset of stages becomes the key ``components``.

Compared with version 1.1.0. There, ``every`` counts optimizer steps and each stage may begin late; here it counts
boundaries, and all begin after ``warmup_step``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dataflex.config import overrides
from dataflex.config.keys import COMPONENTS
from dataflex.config.legacy import PAGE, RIVAL
from dataflex.config.numbers import is_number
from dataflex.config.run import RunFile
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex.kinds import KINDS, Kind, StepKeys, in_turn
from dataflex.runs import TrainType

logger = logging.getLogger("dataflex")

TRAIN_TYPE = "dynamic_lego"
SECTION = "pipelines"
FAMILIES: Mapping[str, Kind] = {
    "selector": Kind.SELECTOR,
    "mixer": Kind.MIXER,
    "reorder": Kind.ORDERER,
    "weighter": Kind.WEIGHTER,
}
IGNORED = ("cache_dir", "score_batch_size", "save_plans", "score_max_age", "allow_replacement")
"""Names of a pipeline or its stages that have nothing to say here."""

_OF_SELECTOR = ("mode", "keep_ratio")
_OF_STAGE = ("family", "component", "enabled", "warmup_step", "every", *_OF_SELECTOR)
_FILTERS, _DRAWS = "filter", "draw"
_KEPT_UNLESS_SAID = 0.5


def as_components(run: RunFile) -> RunFile:
    """A run of a pipeline with ``components`` in its place; any other run as it is.

    Raises:
        ConfigError: for what has no equal here, with what we would write.
    """
    if run.ours.get("train_type") != TRAIN_TYPE or COMPONENTS in run.ours:
        return run
    path, name = overrides.locate(run), run.ours.get("component_name")
    if path is None or not isinstance(name, str):
        return run  # told, with all else, as a train type of 1.x
    section = overrides.read_section(path, run, SECTION)
    preset = section.get(name) if isinstance(section, Mapping) else None
    params = preset.get("params") if isinstance(preset, Mapping) else None
    stages = params.get("stages") if isinstance(params, Mapping) else None
    if not isinstance(stages, list) or not all(isinstance(stage, Mapping) for stage in stages):
        raise ConfigError(
            f"{path}: {SECTION}.{name} holds no list of stages, which train_type: {TRAIN_TYPE} of {RIVAL} has. Write "
            f"train_type: dynamic with {COMPONENTS} ({PAGE})."
        )
    assert isinstance(params, Mapping)
    for key in params:
        if key in IGNORED:
            logger.info("%s: %s.%s.params.%s has no effect here (%s).", path, SECTION, name, key, PAGE)
    components = _Stages(run, f"{path}: {SECTION}.{name}", stages).components()
    ours = {key: value for key, value in run.ours.items() if key != "component_name"}
    return replace(run, ours={**ours, "train_type": TrainType.COMPOSED.value, COMPONENTS: components})


class _Stages:
    """The stages of a pipeline.

    Args:
        run: The run file.
        where: Where they are, for messages.
        stages: As written.
    """

    def __init__(self, run: RunFile, where: str, stages: list[Mapping[str, Any]]) -> None:
        self._run, self._where = run, where
        self._stages = [stage for stage in stages if stage.get("enabled", True) is not False]

    def components(self) -> dict[str, Any]:
        """What ``components`` holds for them."""
        seen: set[Kind] = set()
        for stage in self._stages:
            self._check(stage, seen)
        return self._all()

    def _check(self, stage: Mapping[str, Any], seen: set[Kind]) -> None:
        family = stage.get("family")
        if not isinstance(family, str) or family not in FAMILIES or not isinstance(stage.get("component"), str):
            hint = did_you_mean(str(family), FAMILIES)
            raise ConfigError(
                f"{self._where}: a stage has family: {family!r} and component: {stage.get('component')!r}; it needs "
                f"one of {', '.join(FAMILIES)}, and a name.{hint}"
            )
        said, kind = f"{self._where}: the stage {family} {stage['component']}", FAMILIES[family]
        for key in stage:
            if key not in (*_OF_STAGE, *IGNORED):
                raise ConfigError(f"{said} has the unknown key {key!r}.{did_you_mean(str(key), _OF_STAGE)}")
        if kind in seen:
            self._refuse(f"{said} is the second {family}, and a run has at most one component of a kind")
        seen.add(kind)
        for key in _OF_SELECTOR:
            if key in stage and not KINDS[kind].keeps:
                self._refuse(f"{said} has {key}: {stage[key]!r}, and {kind.with_article} keeps no rows")
        if stage.get("mode", _FILTERS) not in (_FILTERS, _DRAWS):
            self._refuse(f"{said} has mode: {stage['mode']!r}, which is neither {_FILTERS} nor {_DRAWS}")
        for key in ("warmup_step", "every"):
            if isinstance(stage.get(key, 1), bool) or not isinstance(stage.get(key, 1), int):
                raise ConfigError(f"{said}: {key}: {stage[key]!r} must be a whole number.")
        kept = stage.get("keep_ratio", _KEPT_UNLESS_SAID)
        if not is_number(kept) or not 0 < kept <= 1:
            raise ConfigError(f"{said}: keep_ratio: {kept!r} must be a share above 0 and at most 1.")
        if stage.get("warmup_step", 0) > self._steps("warmup_step"):
            self._refuse(
                f"{said} begins after warmup_step: {stage['warmup_step']}, and here all parts begin together, after "
                f"the run's warmup_step: {self._steps('warmup_step')}",
                f"warmup_step: {stage['warmup_step']}",
            )

    def _all(self) -> dict[str, Any]:
        """The first of each kind, in the order in which they decide."""
        found: dict[Kind, dict[str, Any]] = {}
        for stage in self._stages:
            kind = FAMILIES.get(stage.get("family", ""))
            if kind is not None and kind not in found:
                found[kind] = self._one(kind, stage)
        return {kind.value: found[kind] for kind in in_turn(Kind) if kind in found}

    def _one(self, kind: Kind, stage: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {"name": stage.get("component")}
        every = -(-max(1, stage.get("every") or 1) // max(1, self._steps("update_step")))
        if every > 1 and set(KINDS[kind].train_types.values()) != {StepKeys.EVERY_STEP}:
            made["every"] = every
        if KINDS[kind].keeps and stage.get("mode", _FILTERS) == _FILTERS:
            made["keep"] = stage.get("keep_ratio", _KEPT_UNLESS_SAID)
        return made

    def _refuse(self, what: str, *more: str) -> None:
        parts = [
            f"{kind}: {{{', '.join(f'{name}: {value}' for name, value in one.items())}}}"
            for kind, one in self._all().items()
        ]
        ours = ", ".join(["train_type: dynamic", f"{COMPONENTS}: {{{', '.join(parts)}}}", *more])
        raise ConfigError(f"{what}. Write in the run file, in place of component_name: {{{ours}}} ({PAGE}).")

    def _steps(self, key: str) -> int:
        value = self._run.ours.get(key)
        return value if isinstance(value, int) else 0
