"""Whether a run's parameters will be spread over ranks: by its keys, or by the variables of ``accelerate launch``.

A run file may name ``fsdp`` or ``deepspeed``; ``accelerate launch --config_file ...`` says the same by environment
variables, and the run file then has no key. Whatever depends on it asks here. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FSDP, DEEPSPEED = "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"
STATE_TYPE = "FSDP_STATE_DICT_TYPE"
_STATE_TYPES = {"1": "FULL_STATE_DICT", "2": "LOCAL_STATE_DICT", "3": "SHARDED_STATE_DICT"}  # torch's numbers
_DEFAULT_STATE_TYPES = {1: "FULL_STATE_DICT", 2: "SHARDED_STATE_DICT"}  # accelerate's, by version
_TRUE = ("y", "yes", "t", "true", "on", "1")
_SPREADS_PARAMETERS = 3  # DeepSpeed's ZeRO stage
_DEFAULT_STAGE = 2  # accelerate's


@dataclass(frozen=True)
class Fsdp:
    """How a run is sharded by FSDP.

    Attributes:
        source: The key or variable that says so, and where it stands.
        version: 1 or 2.
        state_type: Name of torch's StateDictType that checkpoints are written as.
    """

    source: str
    version: int
    state_type: str

    @property
    def full_state(self) -> bool:
        """Whether a checkpoint holds the weights in one piece, so that a final model is written too."""
        return self.state_type == "FULL_STATE_DICT"


def find_fsdp(arguments: Mapping[str, Any], environ: Mapping[str, str], source: str) -> Fsdp | None:
    """How FSDP will shard a run; ``None`` if it will not.

    As transformers and accelerate do it: the key ``fsdp`` comes before the variables, and the type of the state is a
    variable in both cases.

    Args:
        arguments: LlamaFactory's keys.
        environ: The environment.
        source: The run file's name, for messages.
    """
    if arguments.get("fsdp"):
        found, version = f"fsdp (from {source})", _version(arguments.get("fsdp_config"))
    elif _is_true(environ.get(FSDP)):
        found, version = f"{FSDP} (of the environment)", _whole(environ.get("FSDP_VERSION"), 1)
    else:
        return None
    default = _DEFAULT_STATE_TYPES.get(version, "SHARDED_STATE_DICT")
    given = environ.get(STATE_TYPE, default)
    return Fsdp(found, version, _STATE_TYPES.get(given, given.upper()))


def spread_parameters(arguments: Mapping[str, Any], environ: Mapping[str, str], source: str) -> Iterator[str]:
    """Whatever will spread each parameter over ranks, with the key or variable that says so; nothing for DDP.

    Args:
        arguments: LlamaFactory's keys.
        environ: The environment.
        source: The run file's name, for messages.
    """
    fsdp = find_fsdp(arguments, environ, source)
    if fsdp is not None:
        yield fsdp.source
    if arguments.get("deepspeed"):
        if _zero_stage(arguments["deepspeed"]) == _SPREADS_PARAMETERS:
            yield f"deepspeed with ZeRO stage 3 (from {source})"
    elif _is_true(environ.get(DEEPSPEED)):
        config = environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE")
        named = _whole(environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE"), _DEFAULT_STAGE)
        if (_zero_stage(config) if config not in (None, "", "none") else named) == _SPREADS_PARAMETERS:
            yield f"{DEEPSPEED} with ZeRO stage 3 (of the environment)"


def _version(config: Any) -> int:
    given = _mapping(config)
    return _whole(given.get("fsdp_version", given.get("version")), 1)


def _zero_stage(config: Any) -> int:
    stage = _mapping(config).get("zero_optimization")
    return _whole(stage.get("stage"), 0) if isinstance(stage, Mapping) else 0


def _mapping(config: Any) -> Mapping[str, Any]:
    """A configuration that is given as it is, or as the path of its JSON file; whoever reads it says what is wrong."""
    if isinstance(config, Mapping):
        return config
    try:
        read = json.loads(Path(str(config)).read_text(encoding="utf-8")) if config else {}
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, Mapping) else {}


def _whole(value: Any, default: int) -> int:
    try:
        return default if value is None else int(value)
    except (TypeError, ValueError):
        return default


def _is_true(value: str | None) -> bool:
    return value is not None and value.lower() in _TRUE
