"""The keys a checkpoint was made under, and what of them differs when a run goes on from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dataflex.checkpoint_keys.at_work import COMPONENT_PARAMS, EVALUATION, OPTIMIZER, RANKS
from dataflex.checkpoint_keys.groups import Effect, Group
from dataflex.checkpoint_keys.held import MODELS
from dataflex.checkpoint_keys.keys import FILLED_IN, UNORDERED, group_of
from dataflex.errors import shown
from dataflex.record import fields as records

_BY_CONTENT = frozenset({*MODELS, "model_revision", "adapter_folder"})
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_AIMS = "eval_dataset"
FILE = "file:"
"""What a parameter begins with that names a file of scores: it is known by content, as models are."""


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model that a key names.

    Attributes:
        path: As the key names it; ``""`` if it names none.
        identity: What tells its files from any other's (:func:`~dataflex.checkpoint_keys.models.identity`); ``""`` if
            they are not on this machine.
    """

    path: str = ""
    identity: str = ""


@dataclass(frozen=True, kw_only=True)
class RunKeys:
    """The keys of a run: what ``dataflex/keys.json`` of a checkpoint holds.

    Attributes:
        arguments: LlamaFactory's or the Trainer's arguments as parsed, defaults included; secrets hidden.
        given: Those of them that the user gave: the others are defaults of the installed version.
        dataflex: DataFlex's own keys, parameters of the component included.
        ranks: Number of processes; 0 if that is not known.
        models: Models by the key that names them.
        paths: Files and folders that the component's state names, by the place where it does.
        aims: Fingerprints of the eval sets by name, where the component decides by them.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    given: Sequence[str] = ()
    dataflex: Mapping[str, Any] = field(default_factory=dict)
    ranks: int = 0
    models: Mapping[str, ModelFiles] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    aims: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any) -> RunKeys:
        """Read it back; fields of a later version are ignored.

        Raises:
            ValueError: names the field that holds something else.
        """
        return records.from_fields(cls, record)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A key with another value than when the checkpoint was written.

    Attributes:
        name: The key.
        before: Its value then.
        now: Its value now.
        remark: What is to be said of it beside the two values.
    """

    name: str
    before: Any
    now: Any
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.name} was {shown(self.before)} and is now {shown(self.now)}{self.remark}"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """All keys that differ, by what follows.

    Attributes:
        silent: At work at once; nothing is said.
        optimizer: At work at once, once they are set in the optimizer; one line each.
        noted: At work at once; one line each.
        content: Harmless unless what they lead to differs too, which is compared elsewhere.
        refused: The run cannot go on.
        unknown: On no list, or of another version of LlamaFactory; one line each.
    """

    silent: Sequence[Change] = ()
    optimizer: Sequence[Change] = ()
    noted: Sequence[Change] = ()
    content: Sequence[Change] = ()
    refused: Sequence[Change] = ()
    unknown: Sequence[Change] = ()


def compare(before: RunKeys, now: RunKeys, *, of_interest: Callable[[Group], bool] = lambda group: True) -> Changes:
    """Find the keys that differ.

    A default that another version of LlamaFactory or transformers changed is no change: of a key that the user gave
    neither then nor now, the value is not looked at.

    Args:
        before: The checkpoint's.
        now: This run's.
        of_interest: Which groups of keys are compared; all of them by default. Keys on no list always are.
    """
    found: dict[str, list[Change]] = {name: [] for name in Changes.__dataclass_fields__}
    for change in _differing(before, now):
        group = group_of(change.name.partition(".")[0])
        if group is None or of_interest(group):
            found[_place(change, group)].append(change)
    for change in _models(before, now):
        group = group_of(change.name)
        if group is not None and of_interest(group):
            found["refused"].append(change)
    if before.aims and now.aims and before.aims != now.aims and of_interest(EVALUATION):
        found["silent"] = [change for change in found["silent"] if change.name != _AIMS]
        found["noted"].append(_aims(before, now))
    return Changes(**found)


def _aims(before: RunKeys, now: RunKeys) -> Change:
    """Other eval sets, by name or by their rows, under a component that decides by them."""
    then, here = (keys.arguments.get(_AIMS) or sorted(keys.aims) for keys in (before, now))
    rows = " (with other rows)" if then == here else ""
    return Change(name=_AIMS, before=then, now=here, remark=f"{rows}, which the component decides by")


def deciding_changes(before: Mapping[str, Any], now: Mapping[str, Any], free_params: Sequence[str] = ()) -> list[str]:
    """Keys of two run files that decide the result of a whole run and whose values differ, each with both values.

    Args:
        before: The keys then, as they were written.
        now: The keys now.
        free_params: Parameters of the component that its result does not depend on.
    """
    then, here = _deciding(before, free_params), _deciding(now, free_params)
    return [
        str(Change(name=name, before=then.get(name), now=here.get(name)))
        for name in sorted(then.keys() | here.keys())
        if then.get(name) != here.get(name)
    ]


def _deciding(keys: Mapping[str, Any], free_params: Sequence[str]) -> dict[str, Any]:
    groups = {name: group_of(name) for name in keys}
    kept = {name: value for name, value in keys.items() if (group := groups[name]) is None or group.decides}
    params = kept.get(COMPONENT_PARAMS)
    if isinstance(params, Mapping):
        kept[COMPONENT_PARAMS] = {name: value for name, value in params.items() if name not in free_params}
    return kept


def _place(change: Change, group: Group | None) -> str:
    """The field of :class:`Changes` that a change belongs to."""
    if group is None:
        return "unknown"
    if group is OPTIMIZER and not change.remark:
        return "optimizer"
    if group.effect is Effect.REFUSED:
        return "unknown" if change.remark else "refused"
    return {Effect.SILENT: "silent", Effect.NOTED: "noted", Effect.CONTENT: "content"}[group.effect]


def _differing(before: RunKeys, now: RunKeys) -> Iterator[Change]:
    given = {*before.given, *now.given}
    for name in sorted(before.arguments.keys() | now.arguments.keys()):
        if name in given and name not in _BY_CONTENT:
            yield from _argument(name, before, now)
    for name in sorted(before.dataflex.keys() & now.dataflex.keys() - {COMPONENT_PARAMS}):
        then, here = before.dataflex[name], now.dataflex[name]
        if then != here:
            yield Change(name=name, before=then, now=here)
    yield from _params(before, now)
    if before.ranks and now.ranks and before.ranks != now.ranks:
        yield Change(name=RANKS, before=before.ranks, now=now.ranks)


def _argument(name: str, before: RunKeys, now: RunKeys) -> Iterator[Change]:
    then, here = before.arguments.get(name), now.arguments.get(name)
    if name in FILLED_IN and isinstance(then, Mapping) and isinstance(here, Mapping):
        both = then.keys() & here.keys()
        then, here = ({key: mapping[key] for key in sorted(both)} for mapping in (then, here))
    if _meaning(name, then) == _meaning(name, here):
        return
    if name not in now.arguments:
        if name in before.given:
            yield Change(name=name, before=then, now=None, remark=" (the installed version has no such key)")
    elif name not in before.arguments:
        if name in now.given:
            yield Change(name=name, before=None, now=here, remark=" (the version of the checkpoint had no such key)")
    else:
        yield Change(name=name, before=then, now=here)


def _meaning(name: str, value: Any) -> Any:
    """The value as it is compared."""
    if any(value == nothing and type(value) is type(nothing) for nothing in _NOTHING):
        return None
    if name in UNORDERED and isinstance(value, (str, list)):
        return sorted(str(item).strip() for item in (value.split(",") if isinstance(value, str) else value))
    return value


def _params(before: RunKeys, now: RunKeys) -> Iterator[Change]:
    then, here = (keys.dataflex.get(COMPONENT_PARAMS) or {} for keys in (before, now))
    models = {change.name: change for change in _models(before, now)}
    for name in sorted({*then, *here}):
        key = f"{COMPONENT_PARAMS}.{name}"
        if key in models:
            yield models[key]
        elif then.get(name) != here.get(name) and not _same_model(key, before, now):
            yield Change(name=key, before=then.get(name), now=here.get(name))


def _same_model(key: str, before: RunKeys, now: RunKeys) -> bool:
    then, here = before.models.get(key), now.models.get(key)
    return then is not None and here is not None and bool(then.identity) and then.identity == here.identity


def _models(before: RunKeys, now: RunKeys) -> Iterator[Change]:
    """Models that are others than then: by content where that is known of both, else by name."""
    for key in sorted(before.models.keys() & now.models.keys()):
        then, here = before.models[key], now.models[key]
        if then.identity and here.identity:
            if then.identity != here.identity:
                what = "file by its content" if then.path.startswith(FILE) else "model by the content of its files"
                remark = f", another {what}"
                yield Change(name=key, before=then.path, now=here.path, remark=remark)
        elif then.path != here.path:
            yield Change(name=key, before=then.path or None, now=here.path or None)
