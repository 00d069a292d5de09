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

from dataflex.runs import Problem

FSDP, DEEPSPEED = "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"
STATE_TYPE = "FSDP_STATE_DICT_TYPE"
VERSION = "FSDP_VERSION"
_MESH = ("parallelism_config", "ACCELERATE_USE_PARALLELISM_CONFIG")
_OFFLOAD = ("offload_params", "cpu_offload")
_QUANTISED = ("quantization_bit", "quantization_method")
_LOADING = "cpu_ram_efficient_loading"
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
        found, version = f"{FSDP} (of the environment)", _whole(environ.get(VERSION), 1)
    else:
        return None
    default = _DEFAULT_STATE_TYPES.get(version, "SHARDED_STATE_DICT")
    given = environ.get(STATE_TYPE, default)
    return Fsdp(found, version, _STATE_TYPES.get(given, given.upper()))


def problems(arguments: Mapping[str, Any], environ: Mapping[str, str], source: str) -> Iterator[Problem]:
    """Ways to spread a run over ranks that no dynamic train type is made for, each by its key or variable.

    Args:
        arguments: LlamaFactory's keys.
        environ: The environment.
        source: The run file's name, for messages.
    """
    key, variable = _MESH
    if arguments.get(key) or _is_true(environ.get(variable)):
        named = f"{key} (from {source})" if arguments.get(key) else f"{variable} (of the environment)"
        yield Problem(
            f"{named} lets several ranks share a row (tensor and context parallelism), and scores are made of rows "
            "that each rank has for itself.",
            "Leave it out; FSDP2 spreads a model that no rank can hold.",
        )
    fsdp = find_fsdp(arguments, environ, source)
    if fsdp is None:
        return
    by_key = bool(arguments.get("fsdp"))
    if fsdp.version == 1:
        yield Problem(
            f"{fsdp.source} is FSDP of version 1, which flattens parameters, so that neither gradients of rows nor "
            "checkpoints of adapters come out right.",
            "Set fsdp_config: {fsdp_version: 2}."
            if by_key
            else f"Set {VERSION}=2 (fsdp_version: 2 in accelerate's file).",
        )
        return
    yield from _unsupported(fsdp, arguments, environ, source, by_key=by_key)


def _unsupported(
    fsdp: Fsdp, arguments: Mapping[str, Any], environ: Mapping[str, str], source: str, *, by_key: bool
) -> Iterator[Problem]:
    config = _mapping(arguments.get("fsdp_config")) if by_key else {}
    given = next((name for name in _OFFLOAD if config.get(name) or config.get(f"fsdp_{name}")), "")
    offloads = f"fsdp_config.{given} (from {source})" if given else ""
    if by_key and "offload" in _options(arguments):
        offloads = f"offload in fsdp (from {source})"
    elif not offloads and _is_true(environ.get("FSDP_OFFLOAD_PARAMS")):
        offloads = "FSDP_OFFLOAD_PARAMS (of the environment)"
    if offloads:
        yield Problem(
            f"{offloads} keeps parameters in the memory of the CPU, which passes over the pool are not made for.",
            "Leave it out, or use DDP or ZeRO-2.",
        )
    hybrid = [option for option in _options(arguments) if option.startswith("hybrid_shard")] if by_key else []
    strategy = str(environ.get("FSDP_SHARDING_STRATEGY", "")).lower()
    if hybrid or (not by_key and strategy.startswith(("hybrid", "4", "5"))):
        named = f"{hybrid[0]} in fsdp (from {source})" if hybrid else "FSDP_SHARDING_STRATEGY (of the environment)"
        yield Problem(f"{named} asks for hybrid sharding, which is untried under FSDP2.", "Use full_shard.")
    quantised = next((key for key in _QUANTISED if arguments.get(key) and arguments.get("quantization_bit")), "")
    if quantised:
        yield Problem(
            f"{quantised} (from {source}) under {fsdp.source}: gradients are not measured with packed weights in "
            "pieces.",
            "Leave quantization_bit out, or use DDP.",
        )


def warnings(arguments: Mapping[str, Any], environ: Mapping[str, str], source: str) -> Iterator[str]:
    """What spreads a run, but not as it was probably meant.

    Args:
        arguments: LlamaFactory's keys.
        environ: The environment.
        source: The run file's name, for messages.
    """
    fsdp = find_fsdp(arguments, environ, source)
    if fsdp is not None and arguments.get("fsdp") and "auto_wrap" not in _options(arguments):
        yield (
            f"fsdp (from {source}) has no auto_wrap, so the whole model is one unit that every rank gathers at once: "
            "set fsdp: full_shard auto_wrap."
        )


def variables(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that say what the key ``fsdp`` says, for who looks at them alone; nothing without the key.

    LlamaFactory chooses its kind of gradient checkpointing by them, and transformers whether every rank loads the
    whole model.

    Args:
        arguments: LlamaFactory's keys.
        environ: The environment, whose own values count.
    """
    if not arguments.get("fsdp"):
        return {}
    config = _mapping(arguments.get("fsdp_config"))
    found = {FSDP: "true", VERSION: str(_version(arguments.get("fsdp_config")))}
    loading = config.get(_LOADING, config.get(f"fsdp_{_LOADING}"))
    if loading is not None:
        found[f"FSDP_{_LOADING.upper()}"] = str(loading).lower()
    return {name: value for name, value in found.items() if name not in environ}


def zero3(arguments: Mapping[str, Any], environ: Mapping[str, str], source: str) -> Iterator[str]:
    """What asks for DeepSpeed's ZeRO-3, with the key or variable that does; nothing for other runs.

    Args:
        arguments: LlamaFactory's keys.
        environ: The environment.
        source: The run file's name, for messages.
    """
    if arguments.get("deepspeed"):
        if _zero_stage(arguments["deepspeed"]) == _SPREADS_PARAMETERS:
            yield f"deepspeed with ZeRO stage 3 (from {source})"
    elif _is_true(environ.get(DEEPSPEED)):
        config = environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE")
        named = _whole(environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE"), _DEFAULT_STAGE)
        if (_zero_stage(config) if config not in (None, "", "none") else named) == _SPREADS_PARAMETERS:
            yield f"{DEEPSPEED} with ZeRO stage 3 (of the environment)"


def _options(arguments: Mapping[str, Any]) -> list[str]:
    """The words of the key ``fsdp``: a text, or a list of texts or of transformers' options."""
    given = arguments.get("fsdp")
    words = given.split() if isinstance(given, str) else given if isinstance(given, (list, tuple)) else []
    return [str(getattr(word, "value", word)).lower() for word in words]


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
