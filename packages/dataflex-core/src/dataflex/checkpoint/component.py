"""A component's ``state_dict`` as files: tensors and arrays in safetensors, everything else in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from dataflex.errors import ComponentError

TENSORS, VALUES = "component.safetensors", "component.json"
"""Names of the files."""


def to_files(state: Mapping[str, Any]) -> dict[str, bytes]:
    """The content of the files that keep a component's ``state_dict``; none for an empty one.

    Raises:
        ComponentError: if it holds something that is neither a tensor, an array nor JSON.
    """
    if not state:
        return {}
    import torch
    from safetensors.torch import save as save_tensors

    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, (np.ndarray, np.generic)):
            tensors[name] = torch.from_numpy(np.array(value, order="C"))
        elif isinstance(value, torch.Tensor):
            tensors[name] = value.detach().cpu().contiguous().clone()
        else:
            values[name] = value
    for name, value in values.items():
        _check_json(name, value)
    arrays = [name for name, value in state.items() if isinstance(value, (np.ndarray, np.generic))]
    text = json.dumps({"values": values, "arrays": arrays})
    return {TENSORS: save_tensors(tensors), VALUES: text.encode()}


def from_files(files: Mapping[str, bytes]) -> Mapping[str, Any]:
    """The ``state_dict`` that :func:`to_files` was given."""
    if VALUES not in files:
        return {}
    from safetensors.torch import load as load_tensors

    tensors = load_tensors(files[TENSORS])
    record = json.loads(files[VALUES])
    arrays = set(record["arrays"])
    restored = {name: tensor.numpy() if name in arrays else tensor for name, tensor in tensors.items()}
    return {**record["values"], **restored}


def _check_json(name: str, value: Any) -> None:
    try:
        back = json.loads(json.dumps(value))
    except TypeError as error:
        raise ComponentError(
            f"its state_dict holds something under {name!r} that is neither tensor, array nor JSON: {error}"
        ) from error
    if back != value:
        raise ComponentError(
            f"what its state_dict holds under {name!r} does not come back from JSON as it was: use lists for tuples, "
            "and text for the keys of mappings."
        )
