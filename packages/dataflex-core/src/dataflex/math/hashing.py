"""SplitMix64: a hash of whole numbers that is the same in every process, on every machine and device.

Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", with the mixing constants of
Vigna's ``splitmix64.c``. Both forms below compute the same: ``mix(value * golden + seed)``, without its lowest bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

GOLDEN = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio, odd."""

_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def splitmix64(values: torch.Tensor, seed: int) -> torch.Tensor:
    """Hash int64 numbers, which wrap around.

    Args:
        values: int64, any shape.
        seed: Another seed is another hash.

    Returns:
        int64, shape as ``values``, from 0 to 2**63 - 1.
    """
    mixed = values * _signed(GOLDEN) + seed
    for shift, factor in _ROUNDS:
        mixed = (mixed ^ _shifted(mixed, shift)) * _signed(factor)
    return _shifted(mixed ^ _shifted(mixed, 31), 1)


def splitmix64_(values: npt.NDArray[np.uint64], seed: int, spare: npt.NDArray[np.uint64] | None = None) -> None:
    """:func:`splitmix64` in place, for NumPy.

    Fast where the array fits into a cache: a nanosecond or two a step, ten times as much in one piece of gigabytes.

    Args:
        values: uint64, any shape; changed.
        seed: As of :func:`splitmix64`.
        spare: Room of the same shape, so that none has to be allocated.
    """
    room = np.empty_like(values) if spare is None else spare
    np.multiply(values, np.uint64(GOLDEN), out=values)
    np.add(values, np.uint64(seed % 2**64), out=values)
    for shift, factor in _ROUNDS:
        np.right_shift(values, np.uint64(shift), out=room)
        np.bitwise_xor(values, room, out=values)
        np.multiply(values, np.uint64(factor), out=values)
    np.right_shift(values, np.uint64(31), out=room)
    np.bitwise_xor(values, room, out=values)
    np.right_shift(values, np.uint64(1), out=values)


def _signed(number: int) -> int:
    return number - 2**64


def _shifted(values: torch.Tensor, bits: int) -> torch.Tensor:
    return (values >> bits) & ((1 << (64 - bits)) - 1)
