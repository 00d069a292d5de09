"""Run files that somebody got wrong: valid ones of every train type, with one to three mutations each."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from dataflex.config.run import OUR_KEYS

_SELECT = {"train_type": "dynamic_select", "warmup_step": 2, "update_step": 3, "update_times": 2}
_MIX = {"train_type": "dynamic_mix", "dataset": "tiny,other", "warmup_step": 4, "update_step": 3, "update_times": 2}
_LOSS = {"focus": "low", "focus_weight": 4.0, "quantiles": [0.25, 0.75], "replacement": True, "max_candidates": 60}
_POINTS = {0: {"tiny": 0.7, "other": 0.3}, 9: {"tiny": 0.5, "other": 0.5}}
_SHARES = {"init_mixture_proportions": [0.7, 0.3]}

VALID: Mapping[str, Mapping[str, Any]] = {
    "select by loss": {**_SELECT, "component_name": "loss", "component_params": _LOSS},
    "select at random": {**_SELECT, "component_name": "random", "component_timeout": 60, "plugins": []},
    "mix on schedule": {**_MIX, **_SHARES, "component_name": "schedule", "component_params": {"points": _POINTS}},
    "mix at random": {
        **_MIX,
        "component_name": "random",
        "init_mixture_proportions": {"tiny": 0.25, "other": 0.75},
        "mixture_sample_rule": "mixture",
        "mixture_unit": "tokens",
        "mixture_max_epochs": {"other": 9.5},
        "mixture_on_exhausted": "stop",
        "component_params": {"concentration": 2.0, "seed": 5},
    },
    "static mix": {
        "train_type": "static_mix",
        "dataset": "tiny,other",
        "mixture_sample_rule": "temperature",
        "mixture_temperature": 2,
        "train_step": 9,
    },
    "weigh": {
        "train_type": "dynamic_weight",
        "component_name": "loss",
        "warmup_step": 1,
        "train_step": 9,
        "component_params": {"strategy": "tilted", "t": -0.5, "window": 64},
    },
    "static": {"train_type": "static", "warmup_step": 3},
}
"""DataFlex's keys of run files that are accepted."""

_EITHER: st.SearchStrategy[Any] = st.booleans()

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, -2, 3, 7, 10**30, -(10**30), 10**400, 2**31, 2**63, 0.5, 1.0, 2.5, -0.0),
    *(1e-300, 1e300, math.inf, -math.inf, math.nan),
    *("", " ", "1", "1e3", "-1", "true", "null", "no", "nan", "loss", "random", "tiny", "mixture", "9" * 5000),
    *(
        "dynamic_mix",
        "dynamic_sel\u0435ct",
        "\uff4c\uff4f\uff53\uff53",
        "loss\u200b",
        "lo\u0301ss",
        "数据",
        "🙂",
        "a\nb",
        "\x00",
        "\ufeff",
        "x" * 5000,
    ),
    *(
        "~nobody/x",
        "./nowhere.py",
        "no:",
        "from:",
        "from:~nobody",
        "from:/nowhere",
        "/",
        "..",
        "dataflex-selectors-loss/loss",
    ),
    *(
        "${nope}",
        "${warmup_step}",
        "${",
        "${oc.env:NOPE}",
        "???",
        "!!int 3",
        "&a",
        "*a",
        "{a: 1}",
        "[1, 2]",
        "a=b",
        "%s",
        "{}",
    ),
    *(
        [],
        {},
        [[]],
        [None],
        [True, False],
        ["0.7", "0.3"],
        [0.7, 0.3],
        [1, 0],
        [0.5, 0.6],
        [0.5, math.nan],
        [10**400, 1],
    ),
    *(
        {"a": 1},
        {"tiny": 1.0},
        {"tiny": 0.5, "other": 0.5},
        {"tiny": True, "other": False},
        {"": 1},
        {1: 2},
        {"a": {"b": [1]}},
    ),
    *({"tiny": 0.5, "Other": 0.5}, {1: {"tiny": 1, "other": 0}}, {"x": {"tiny": 1}}, {True: {"tiny": True}}),
)
"""Values that are not what a key takes, or only just."""

_LOOKALIKES = str.maketrans({"a": "а", "e": "е", "o": "о", "p": "р", "c": "с"})  # noqa: RUF001 - Cyrillic, on purpose
_MISSPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda name: name[:-1],
    lambda name: name + "s",
    lambda name: name.upper(),
    lambda name: name.replace("_", "-"),
    lambda name: name.replace("_", ""),
    lambda name: f" {name}",
    lambda name: f"{name} ",
    lambda name: name.translate(_LOOKALIKES),
    lambda name: name[1:2] + name[:1] + name[2:],
    lambda name: f"{name}.x",
    lambda name: f"--{name}",
    lambda name: name + "\u200b",
)
_WRAPPINGS: tuple[Callable[[str, Any], Any], ...] = (
    lambda name, value: [value],
    lambda name, value: {name: value},
    lambda name, value: {"value": value},
    lambda name, value: [[value]],
    lambda name, value: {"a": {"b": {"c": value}}},
    lambda name, value: [value, value],
)


@dataclass(frozen=True)
class Mutated:
    """A run file.

    Attributes:
        what: What was done to it.
        keys: Its keys.
        touched: Names of the keys that were mutated: one of them has to be named when it is refused.
        twice: Path of a key that the text holds once more, and its value there; ``None`` if every key stands once.
    """

    what: str
    keys: Mapping[str, Any]
    touched: tuple[str, ...]
    twice: tuple[tuple[Any, ...], Any] | None = None

    def is_named_in(self, message: str) -> bool:
        """Whether a message names a key that was touched, or one that another choice leaves over."""
        params = self.keys.get("component_params")
        left = (*OUR_KEYS, *(map(str, params) if isinstance(params, dict) else ()))
        chosen = {"train_type", "component_name"} & set(self.touched)
        return any(name in message for name in (*self.touched, *(left if chosen else ())))

    @property
    def asked(self) -> Mapping[str, Any]:
        """What its keys ask for: ``${warmup_step}`` is that key's value."""
        return {key: self._resolved(value) for key, value in self.keys.items()}

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._resolved(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._resolved(each) for each in value]
        return self.keys.get("warmup_step") if value == "${warmup_step}" else value

    @property
    def text(self) -> str:
        """The run file as YAML."""
        pairs = self.keys.items() if self.twice is None else _once_more(self.keys, *self.twice)
        return "".join(f"{_render(key)}: {_render(value)}\n" for key, value in pairs)


def with_value(key: str, value: Any, rest: Mapping[str, Any]) -> Mutated:
    """A valid run file with another value for a key of DataFlex or a parameter of its component.

    Args:
        key: The key; ``component_params.NAME`` for a parameter.
        value: Its value.
        rest: LlamaFactory's keys.
    """
    outer, _, name = key.partition(".")
    having = [keys for keys in VALID.values() if outer in keys and (not name or name in keys[outer])]
    run = Mutated("", {**rest, **(having or list(VALID.values()))[0]}, ())
    if not name:
        return _changed(run, "another value", key, value)
    changed = _changed(run, "another value", outer, {**run.keys[outer], name: value})
    return Mutated(changed.what, changed.keys, (*changed.touched, name))


@st.composite
def mutated_run_files(draw: st.DrawFn, rest: Mapping[str, Any]) -> Mutated:
    """A valid run file of any train type with one to three mutations of DataFlex's keys. In one of six a key stands
    twice, which may be all that is wrong with it: one of DataFlex or LlamaFactory, or one inside a value.

    Args:
        draw: Hypothesis.
        rest: LlamaFactory's keys.
    """
    name = draw(st.sampled_from(sorted(VALID)))
    run = Mutated(f"{name}:", {**rest, **VALID[name]}, ())
    doubled = draw(st.integers(0, 5)) == 5
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2) if doubled else (1, 1, 1, 2, 3)))):
        mutate = draw(st.sampled_from(_MUTATIONS))
        run = mutate(draw, run)
    return _twice(draw, run) if doubled else run


def _odd_value(draw: st.DrawFn, run: Mutated) -> Mutated:
    key = draw(st.sampled_from(OUR_KEYS))
    return _changed(run, "another value", key, draw(_VALUES))


def _odd_parameter(draw: st.DrawFn, run: Mutated) -> Mutated:
    params = run.keys.get("component_params")
    if not isinstance(params, dict) or not params:
        return _odd_value(draw, run)
    name = draw(st.sampled_from(sorted(map(str, params))))
    changed = _changed(run, "another parameter", "component_params", {**params, name: draw(_VALUES)})
    return Mutated(changed.what, changed.keys, (*changed.touched, name))


def _misspelt(draw: st.DrawFn, run: Mutated) -> Mutated:
    key = draw(st.sampled_from([key for key in run.keys if key in OUR_KEYS] or list(run.keys)))
    wrong = draw(st.sampled_from(_MISSPELLINGS))(key)
    keys = {wrong if name == key else name: value for name, value in run.keys.items()}
    return Mutated(f"{run.what} misspelt {key};", keys, (*run.touched, key, wrong.strip()))


def _misspelt_parameter(draw: st.DrawFn, run: Mutated) -> Mutated:
    params = run.keys.get("component_params")
    if not isinstance(params, dict) or not params:
        return _misspelt(draw, run)
    name = draw(st.sampled_from(sorted(map(str, params))))
    wrong = draw(st.sampled_from(_MISSPELLINGS))(name)
    changed = {wrong if key == name else key: value for key, value in params.items()}
    mutated = _changed(run, f"misspelt parameter {name}", "component_params", changed)
    return Mutated(mutated.what, mutated.keys, (*mutated.touched, name, wrong.strip()))


def _missing(draw: st.DrawFn, run: Mutated) -> Mutated:
    key = draw(st.sampled_from([key for key in run.keys if key in OUR_KEYS] or list(run.keys)))
    keys = {name: value for name, value in run.keys.items() if name != key}
    return Mutated(f"{run.what} without {key};", keys, (*run.touched, key))


def _nested(draw: st.DrawFn, run: Mutated) -> Mutated:
    key = draw(st.sampled_from([key for key in run.keys if key in OUR_KEYS] or list(run.keys)))
    return _changed(run, "nested", key, draw(st.sampled_from(_WRAPPINGS))(key, run.keys[key]))


def _moved(draw: st.DrawFn, run: Mutated) -> Mutated:
    """A key among the parameters, or a parameter among the keys."""
    params = run.keys.get("component_params")
    params = params if isinstance(params, dict) else {}
    key = draw(st.sampled_from([key for key in run.keys if key in OUR_KEYS] or list(run.keys)))
    if params and draw(_EITHER):
        name = draw(st.sampled_from(sorted(map(str, params))))
        return _changed(run, "a parameter among the keys", name, params.get(name))
    inner = {**params, key: run.keys[key]}
    keys = {name: value for name, value in run.keys.items() if name != key} | {"component_params": inner}
    return Mutated(f"{run.what} {key} among the parameters;", keys, (*run.touched, key))


def _twice(draw: st.DrawFn, run: Mutated) -> Mutated:
    """The same value twice, or another one the second time."""
    paths = list(_paths(run.keys))
    inner = [(path, value) for path, value in paths if len(path) > 1]
    path, value = draw(st.sampled_from(inner if inner and draw(_EITHER) else paths))
    again = value if draw(st.booleans()) else draw(_VALUES)
    where = ".".join(map(str, path))
    return Mutated(f"{run.what} {where} twice;", run.keys, (*run.touched, str(path[-1])), (path, again))


def _paths(values: Mapping[Any, Any], above: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for key, value in values.items():
        yield (*above, key), value
        if isinstance(value, dict):
            yield from _paths(value, (*above, key))


def _changed(run: Mutated, what: str, key: str, value: Any) -> Mutated:
    inner = map(str, value) if isinstance(value, dict) else ()
    return Mutated(f"{run.what} {what} {key};", {**run.keys, key: value}, (*run.touched, key, *inner))


_SCALARS = st.one_of(
    st.sampled_from(ODD),
    st.integers(min_value=-5, max_value=40),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
)
_VALUES = st.one_of(
    _SCALARS,
    _SCALARS,
    st.lists(st.floats(min_value=0, max_value=1), max_size=3),
    st.dictionaries(st.sampled_from(("tiny", "other", "a")), _SCALARS, max_size=3),
)
_MUTATIONS = (
    *(_odd_value, _odd_value, _odd_value, _odd_parameter, _odd_parameter),
    *(_misspelt, _misspelt_parameter, _missing, _nested, _moved),
)


@dataclass(frozen=True)
class _Pairs:
    """A mapping in which a key may stand twice."""

    pairs: Sequence[tuple[Any, Any]]

    def items(self) -> Iterable[tuple[Any, Any]]:
        return self.pairs


def _once_more(values: Mapping[Any, Any], path: tuple[Any, ...], again: Any) -> list[tuple[Any, Any]]:
    """The pairs of a mapping, with the key at a path once more behind its neighbours."""
    name, *rest = path
    if not rest:
        return [*values.items(), (name, again)]
    return [
        (key, _Pairs(_once_more(each, tuple(rest), again)) if key == name else each) for key, each in values.items()
    ]


def _render(value: Any) -> str:
    """A value as YAML in one line: texts stay texts, whatever they look like."""
    if isinstance(value, (dict, _Pairs)):
        return "{" + ", ".join(f"{_render(key)}: {_render(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_render, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return json.dumps(value, ensure_ascii=False)
