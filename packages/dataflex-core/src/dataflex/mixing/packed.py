"""Arrays as short texts, for the JSON of a checkpoint."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt


def packed(values: npt.NDArray[Any]) -> str:
    """A one-dimensional array as text."""
    data = zlib.compress(np.ascontiguousarray(values).tobytes(), level=1)
    return f"{values.dtype.str}:{base64.b64encode(data).decode()}"


def unpacked(text: str) -> npt.NDArray[Any]:
    """The array that :func:`packed` was given.

    Raises:
        ValueError: for another text.
    """
    kind, _, data = text.partition(":")
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype=np.dtype(kind)).copy()
    except (TypeError, zlib.error) as error:
        raise ValueError(f"not an array: {error}") from error
