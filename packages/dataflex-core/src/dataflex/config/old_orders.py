"""Orders as PyPI dataflex 1.x wrote them, as ours: its presets name a pattern, and say of scores where they come from.

Names that mean the same are aliases of the parameters (``param(aliases=...)``); here is what needs another value, and
what has no like. Compared with version 1.1.0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from dataflex.config.legacy import RIVAL
from dataflex.config.order_params import ScoreKind
from dataflex.errors import ConfigError

logger = logging.getLogger("dataflex")

_NESTED = ("pattern_params", "score_params")
_SAYS_WHICH = ("kind", "pattern")
_IGNORED = {
    "apply_at": "rows are always ordered by their place in the tokenised pool",
    "batch_size": "see token_budget",
    "num_workers": "scoring needs none",
}
_POLARITIES = {
    "higher_later": False,
    "higher_is_better": False,
    "higher_earlier": True,
    "lower_is_better": True,
}
_EARLIER_UNDER_LOSS = True  # its dynamic orders put high losses first unless they say otherwise
_SOURCES = ("precomputed", "model_loss", "cached_selection")
_OF_SCORES = ("score_source", "score_path", "score_field", "cache_path", "metric_key", "fill_value")
_ENDS = {"front_is_high": "front_from", "back_is_high": "back_from"}
_SHARES = {"x_pct": "front", "y_pct": "back"}
_WITHOUT_SCORES = "shuffle"
_NAMES = frozenset(
    {*_NESTED, *_SAYS_WHICH, *_IGNORED, *_OF_SCORES, *_ENDS, *_SHARES, "polarity", "ascending"}
    | {"reorder_every", "consume_once"}
)


def is_old(params: Mapping[str, Any]) -> bool:
    """Whether parameters hold a name of 1.x that needs more than another spelling."""
    return bool(_NAMES & params.keys())


def translated(name: str, params: Mapping[str, Any], source: str) -> tuple[str, dict[str, Any]]:
    """What an orderer and its parameters are here.

    Args:
        name: The component that was named.
        params: Its parameters, ours and those of 1.x.
        source: Where they come from, for messages.

    Returns:
        Name and parameters; both as they were if no parameter is of 1.x.

    Raises:
        ConfigError: for what has no equal, saying what to write.
    """
    if not is_old(params):
        return name, dict(params)
    given = _flat(params, source)
    pattern = str(given.pop("pattern", name))
    dynamic = given.pop("kind", None) == "dynamic"
    for key in [key for key in given if key in _IGNORED]:
        logger.warning("orderer %r ignores %r (from %s), a name of %s: %s.", pattern, key, source, RIVAL, _IGNORED[key])
        del given[key]
    _refuse(given, source)
    kept = {key: value for key, value in given.items() if key not in _NAMES}
    for old, new in _SHARES.items():
        if old in given:
            kept[new] = _number(old, given[old], source) / 100
    for old, new in _ENDS.items():
        if old in given:
            kept[new] = "high" if _truth(old, given[old], source) else "low"
    by = _by(given, dynamic=dynamic, pattern=pattern, source=source)
    if by is not None and "by" not in kept:
        kept["by"] = by
    if dynamic or "polarity" in given or "ascending" in given:
        earlier = _earlier(given.get("polarity"), dynamic, source)
        falls = earlier != (not _truth("ascending", given.get("ascending", True), source))
        kept.setdefault("direction", "descending" if falls else "ascending")
    return pattern, kept


def _flat(params: Mapping[str, Any], source: str) -> dict[str, Any]:
    flat = {key: value for key, value in params.items() if key not in _NESTED}
    for key in _NESTED:
        nested = params.get(key) or {}
        if not isinstance(nested, Mapping):
            raise ConfigError(f"{key}: {nested!r} (from {source}) must be a mapping of names to values.")
        flat |= nested
    return flat


def _refuse(given: Mapping[str, Any], source: str) -> None:
    if given.get("score_source") == "cached_selection" or "cache_path" in given:
        raise ConfigError(
            f"score_source: cached_selection (from {source}) of {RIVAL} gave rows that were not selected the score 0, "
            "so it is not taken over. Write components: {selector: ..., orderer: ...}, where the orderer goes by the "
            "selector's scores, or score the pool with `dataflex score` and write by: file:scores.parquet."
        )
    every = given.get("reorder_every", 1)
    if every != 1:
        raise ConfigError(
            f"reorder_every: {every!r} (from {source}) is a name of {RIVAL}; here every boundary scores. Leave it out "
            "and make update_step as many times longer."
        )
    if given.get("consume_once", True) is not True:
        raise ConfigError(
            f"consume_once: {given['consume_once']!r} (from {source}) is a name of {RIVAL} that has no equal: an order "
            "here covers the pass, and no row repeats within it. Leave it out."
        )


def _by(given: Mapping[str, Any], *, dynamic: bool, pattern: str, source: str) -> str | None:
    kind = given.get("score_source", "model_loss" if dynamic else "precomputed")
    if kind not in _SOURCES:
        raise ConfigError(f"score_source: {kind!r} (from {source}) is none of {RIVAL}'s: {', '.join(_SOURCES)}.")
    if pattern == _WITHOUT_SCORES:
        return None
    said = dynamic or any(key in given for key in _OF_SCORES)
    if not said:
        return None
    if kind == "model_loss":
        return str(ScoreKind.LOSS)
    path = given.get("score_path")
    if path is not None:
        return f"{ScoreKind.FILE}:{path}"
    return f"{ScoreKind.COLUMN}:{given.get('score_field', 'score')}"


def _earlier(polarity: Any, dynamic: bool, source: str) -> bool:
    if polarity is None:
        return dynamic and _EARLIER_UNDER_LOSS
    if polarity not in _POLARITIES:
        raise ConfigError(f"polarity: {polarity!r} (from {source}) is none of {', '.join(_POLARITIES)}.")
    return _POLARITIES[polarity]


def _number(key: str, value: Any, source: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{key}: {value!r} (from {source}) must be a number.")
    return float(value)


def _truth(key: str, value: Any, source: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key}: {value!r} (from {source}) must be true or false.")
    return value


def notes(train_type: str, total: int | None) -> Iterator[str]:
    """What to know of a run file of 1.x that trains otherwise here.

    Args:
        train_type: As it was written.
        total: Steps that 1.x would have made; ``None`` where the step keys do not say.
    """
    if train_type == "dynamic_reorder":
        length = "" if total is None else f" Write train_step: {total} for the length it had there."
        yield (
            f"train_type: dynamic_reorder is {RIVAL}'s name of dynamic_order. The length of the run is train_step, "
            f"else max_steps, else num_train_epochs; update_times is not counted for it.{length}"
        )
