"""Differences between the tensors of a file and those of a model."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from dataflex.rng import key_seed
from dataflex.weights.files import SavedWeights
from dataflex.weights.views import View, identity

WHOLE = 2 * 2**30
"""Bytes of weights up to which every number is compared."""
SAMPLE = 4096
"""Numbers compared of each tensor above that."""
_RUN = 256  # neighbouring numbers: places of their own would read every page of a file
_NAMED = 5


class Difference(NamedTuple):
    """One tensor that is not the same in the file and in the model."""

    name: str
    what: str


def fitting(saved: SavedWeights, views: Sequence[View]) -> View:
    """The view whose names are most like the file's; of equals, the first."""
    return min(views, key=lambda view: len(view.tensors.keys() ^ saved.tensors.keys()))


def names_and_shapes(saved: SavedWeights, view: View, tolerated: Iterable[str] = ()) -> list[Difference]:
    """Compare what the headers say with the model's tensors.

    Args:
        saved: The file's tensors.
        view: The model's.
        tolerated: Names that only the file may have.
    """
    theirs, ours, passed = saved.tensors, view.tensors, set(tolerated)
    found = [Difference(name, "is trained but not in the file") for name in view.unsaved]
    found += [Difference(name, "is not in the model") for name in theirs if name not in ours and name not in passed]
    present = {identity(ours[name]) for name in theirs if name in ours}
    for name, tensor in ours.items():
        if name in theirs:
            shape = tuple(tensor.shape)
            if shape != theirs[name].shape:
                what = f"has shape {list(theirs[name].shape)} in the file, {list(shape)} in the model"
                found.append(Difference(name, what))
        elif identity(tensor) not in present | view.optional:  # tied tensors are in a file once
            present.add(identity(tensor))
            found.append(Difference(name, "is not in the file"))
    return found


def values(saved: SavedWeights, view: View, *, seed: int = 0, rounded: bool = False) -> list[Difference]:
    """Compare the numbers of tensors that both have: all of them, or above 2 GiB some at seeded places of each.

    Args:
        saved: The file's tensors.
        view: The model's; tensors on the meta device are passed over.
        seed: Of the places.
        rounded: Whether the model may hold the file's numbers in a lower precision, as who loads it asked for.
            Otherwise its numbers are compared in the file's own precision.
    """
    found, whole = [], saved.size <= WHOLE
    with torch.no_grad():
        for name, theirs in saved.read():
            ours = view.tensors.get(name)
            if ours is None or ours.is_meta or ours.shape != theirs.shape:
                continue
            if not whole and theirs.numel() > SAMPLE:
                places = torch.from_numpy(_places(theirs.numel(), key_seed(seed, name)))
                theirs, ours = _at(theirs, places), _at(ours, places.to(ours.device))
            if not _same(theirs, ours, rounded=rounded):
                found.append(Difference(name, "has other values in the model"))
    return found


def describe(differences: Sequence[Difference], total: int) -> str:
    """Up to five names, and how many there are.

    Args:
        differences: At least one.
        total: Tensors of the file; 0 if they cannot be counted.
    """
    named = "; ".join(f"{name} {what}" for name, what in differences[:_NAMED])
    more = f"; and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
    among = f" among its {total} tensors" if total else ""
    return f"{len(differences)} difference{'s' if len(differences) > 1 else ''}{among}: {named}{more}"


def _places(size: int, seed: int) -> npt.NDArray[np.int64]:
    starts = np.random.default_rng(seed).integers(0, size - _RUN + 1, size=SAMPLE // _RUN)
    return np.sort((starts[:, None] + np.arange(_RUN)).ravel())


def _at(tensor: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    if tensor.is_contiguous():
        return tensor.view(-1)[places]
    return tensor[tuple(_unravel(places, tensor.shape))]


def _unravel(places: torch.Tensor, shape: torch.Size) -> Iterator[torch.Tensor]:
    strides = np.cumprod((1, *reversed(shape[1:])))[::-1]
    for length, stride in zip(shape, strides, strict=True):
        yield places.div(int(stride), rounding_mode="floor") % length


def _same(theirs: torch.Tensor, ours: torch.Tensor, *, rounded: bool) -> bool:
    theirs = theirs.to(ours.device)
    if rounded and ours.dtype.itemsize < theirs.dtype.itemsize:
        theirs = theirs.to(ours.dtype)
    ours = ours.to(theirs.dtype)
    if _same_bytes(theirs.contiguous(), ours.contiguous()):
        return True
    if not theirs.is_floating_point() or theirs.dtype.itemsize == 1:  # 8-bit floats know no comparison
        return False
    return bool(((theirs == ours) | (theirs.isnan() & ours.isnan())).all())


def _same_bytes(theirs: torch.Tensor, ours: torch.Tensor) -> bool:
    """Whether two contiguous tensors of one kind hold the same bytes.

    The C library compares as fast as memory is read; torch, which looks at each element, takes half as long again.
    """
    if theirs.device.type == "cpu" and _memcmp is not None:
        return bool(_memcmp(theirs.data_ptr(), ours.data_ptr(), theirs.nbytes) == 0)
    return torch.equal(_bits(theirs), _bits(ours))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """The same bytes as integers, eight at a time where they can be: faster to compare than floats."""
    flat = tensor.view(-1).view(torch.uint8)
    return flat.view(torch.int64) if flat.numel() % 8 == 0 and flat.storage_offset() % 8 == 0 else flat


def _of_the_c_library(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, TypeError, AttributeError):  # no library without a name, as on Windows
        return None


_memcmp = _of_the_c_library("memcmp")
if _memcmp is not None:
    _memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
