"""Passes during which what hangs on the parameters' gradients does not run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from torch import nn


@contextlib.contextmanager
def without_gradient_hooks(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Nothing runs when a gradient has been accumulated: not ZeRO's reduction, nor a layerwise optimizer's step.

    The hooks are taken out of the parameters' own dictionaries, since handles that remove them refer to those.
    """
    owned = [getattr(parameter, "_post_accumulate_grad_hooks", None) or {} for parameter in parameters]
    kept = [dict(hooks) for hooks in owned]
    try:
        for hooks in owned:
            hooks.clear()
        yield
    finally:
        for hooks, before in zip(owned, kept, strict=True):
            hooks.update(before)
