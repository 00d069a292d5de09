"""Loading large libraries without the garbage collector going through them again and again."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

_LARGE = 100  # modules


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector off while modules load, and let it pass over them ever after.

    LlamaFactory's libraries are 600,000 objects that live as long as the process. The collector goes through all of
    them ten times while they load, once more in each full collection of the training and again at exit, which together
    was a third of the shortest run (``benchmarks/first_step.py``). A cycle that is garbage before the block ends stays
    in memory, so nothing but loading belongs there. Where little was loaded, or the collector was off, nothing is
    frozen.
    """
    collecting, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            if len(sys.modules) - modules >= _LARGE:
                gc.freeze()
            gc.enable()
