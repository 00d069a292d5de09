"""A file for ``-p``: lets accelerate take FSDP2 up on a CPU, where it leaves it out without a word."""

from __future__ import annotations

import functools
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from dataflex import hookimpl

_stock = AcceleratorState.__init__


@functools.wraps(_stock)
def _sharding(state: Any, *args: Any, **kwargs: Any) -> None:
    plugin = kwargs.get("fsdp_plugin")
    _stock(state, *args, **kwargs)
    if plugin is not None and state.distributed_type is DistributedType.MULTI_CPU:
        state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        state.fsdp_plugin = plugin


AcceleratorState.__init__ = _sharding


@hookimpl
def dataflex_check_run(run: Any) -> list[Any]:
    """Nothing to refuse."""
    return []
