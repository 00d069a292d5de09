"""What each control of the form does to the choice: a new choice, the old one stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dataflex.kinds import Kind, StepKeys, TrainType, step_keys
from dataflex.webui.choice import Choice, Chosen


def with_train_type(choice: Choice, train_type: TrainType) -> Choice:
    """Another train type: components of kinds that it does not take are dropped."""
    kinds = kinds_of(train_type)
    kept = [each for each in choice.components if each.kind in kinds]
    return replace(choice, train_type=train_type, components=kept)


def kinds_of(train_type: TrainType) -> list[Kind]:
    """The kinds of the components that a train type takes, at most one of each."""
    if train_type is TrainType.COMPOSED:
        return list(Kind)
    if train_type.kind is None or step_keys(train_type) is StepKeys.ONE_STAGE:  # a plan of the keys alone
        return []
    return [train_type.kind]


def with_component(choice: Choice, kind: Kind, name: str) -> Choice:
    """Another component of a kind, with its parameters as they are by default; none for an empty name."""
    kept = [each for each in choice.components if each.kind is not kind or each.name == name]
    if name and not any(each.kind is kind for each in kept):
        kept.append(Chosen(kind=kind, name=name))
    return replace(choice, components=kept if name else [each for each in kept if each.kind is not kind])


def with_param(choice: Choice, kind: Kind, name: str, value: Any) -> Choice:
    """Another value of a parameter of the component of a kind; an empty one is taken off."""

    def params(of: Chosen) -> dict[str, Any]:
        return {key: given for key, given in {**of.params, name: value}.items() if given not in (None, "")}

    changed = [replace(each, params=params(each)) if each.kind is kind else each for each in choice.components]
    return replace(choice, components=changed)


def with_every(choice: Choice, kind: Kind, every: Any) -> Choice:
    """Ask the component of a kind at every so many boundaries; at each of them for nothing."""
    asked = int(every) if isinstance(every, (int, float)) and every >= 1 else 1
    changed = [replace(each, every=asked) if each.kind is kind else each for each in choice.components]
    return replace(choice, components=changed)


def with_keys(choice: Choice, keys: Mapping[str, Any]) -> Choice:
    """Other values of step and mixture keys; an empty one is taken off."""
    merged = {**choice.keys, **keys}
    return replace(choice, keys={name: value for name, value in merged.items() if value not in (None, "")})
