"""Randomness as a function of (seed, what for): nothing of ours moves the training run's own generators."""

from __future__ import annotations

import contextlib
import hashlib
import json
import operator
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def key_seed(*parts: object) -> int:
    """A 48-bit seed from anything that prints the same in every process."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=6).digest(), "little")


def key(names: tuple[str | int, ...]) -> int:
    """A 64-bit number for the names of a stream: the same in every process, another for any other names.

    Hashed apart from :meth:`dataflex.MixContext.domain_rng`, so that a stream with the name of a domain is not that
    domain's stream.

    Args:
        names: Texts or whole numbers; ``"1"`` and ``1`` are two names.

    Raises:
        TypeError: for a name of another type.
    """
    texts = json.dumps([name if isinstance(name, str) else _whole(name) for name in names])
    return int.from_bytes(hashlib.blake2b(texts.encode(), digest_size=8, person=b"stream").digest(), "little")


def stream(seed: int, step: int, *names: str | int) -> np.random.Generator:
    """The generator of (seed, step) or, with names, of (seed, step, names)."""
    return np.random.default_rng([seed, step, key(names)] if names else [seed, step])


def _whole(name: Any) -> int:
    if isinstance(name, (bool, np.bool_)):
        raise TypeError(f"a stream cannot be named {name!r}: names are texts or whole numbers")
    try:
        return operator.index(name)
    except TypeError:
        raise TypeError(f"a stream cannot be named {name!r}: names are texts or whole numbers") from None


@contextlib.contextmanager
def rng_scope(seed: int | None = None, *, devices: bool = False) -> Iterator[None]:
    """Run a block on its own global random state and put the old one back afterwards.

    Args:
        seed: Seeds the generators of Python, NumPy and torch inside; ``None`` starts from the current state.
        devices: Also cover the accelerators' generators. Costs a device synchronisation.
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if devices and torch.cuda.is_available() else None
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 - restored below; code we call may draw from it
            if devices:
                torch.manual_seed(seed)
            else:  # a thousand times cheaper: it looks for no device
                torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
