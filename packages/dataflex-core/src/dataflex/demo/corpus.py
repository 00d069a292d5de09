"""Which rows go where: a pool in fixed shares, and evaluation rows whose modules and packages the pool never sees."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from dataflex.demo import packages, stdlib
from dataflex.demo.row import OTHERS, SHARES, Domain, Row
from dataflex.demo.settings import Settings
from dataflex.errors import ConfigError

MOST_PER_ORIGIN = 6
"""Evaluation and validation rows of one module or package: one large module must not be the measure."""


@dataclass(frozen=True)
class Corpus:
    """The rows of a demo, each list in the order of its file.

    Attributes:
        pool: What the runs train on.
        docstrings: Eval set of the target domain.
        others: Eval set of the other domains, in equal parts.
        validation: Docstrings for components that aim at a target; disjoint from the eval set.
    """

    pool: list[Row] = field(default_factory=list)
    docstrings: list[Row] = field(default_factory=list)
    others: list[Row] = field(default_factory=list)
    validation: list[Row] = field(default_factory=list)

    def splits(self) -> dict[str, list[Row]]:
        """The lists by name."""
        return {split.name: getattr(self, split.name) for split in fields(self)}


def read_rows(settings: Settings) -> list[Row]:
    """All usable rows of this machine, texts that occur twice left out; shuffled by the seed."""
    draw = random.Random(settings.seed)
    modules = stdlib.modules()
    draw.shuffle(modules)
    chosen = modules[: settings.modules] if settings.modules else modules
    rows = [row for path in chosen for row in stdlib.module_rows(path)]
    rows += packages.package_rows()
    unique: dict[str, Row] = {}
    for row in rows:
        if row.usable:
            unique.setdefault(row.answer, row)
    shuffled = list(unique.values())
    draw.shuffle(shuffled)
    return shuffled


def split(rows: Iterable[Row], settings: Settings) -> Corpus:
    """Divide rows into pool, eval sets and validation set.

    The shares of the pool hold at any size: it shrinks to what the scarcest domain allows.

    Args:
        rows: Rows in the order in which to take them.
        settings: How many of each are wanted.

    Raises:
        ConfigError: if the pool would not fill one stage of a run.
    """
    by_domain: dict[Domain, list[Row]] = defaultdict(list)
    for row in rows:
        by_domain[row.domain].append(row)
    corpus = Corpus()
    left = by_domain[Domain.DOCSTRINGS]
    for wanted, target in ((settings.evaluation, corpus.docstrings), (settings.validation, corpus.validation)):
        taken, left = _hold_out(left, wanted)
        target.extend(taken)
    candidates = {Domain.DOCSTRINGS: left}
    for domain in OTHERS:
        taken, candidates[domain] = _hold_out(by_domain[domain], settings.others // len(OTHERS))
        corpus.others.extend(taken)
    scarcest = min(SHARES, key=lambda domain: len(candidates[domain]) / SHARES[domain])
    size = min(settings.pool, int(len(candidates[scarcest]) / SHARES[scarcest]))
    needed = settings.batch * max(settings.update, settings.warmup)
    if size < needed:
        raise ConfigError(
            f"the demo needs a pool of at least {needed} rows, and the text found here gives {size}: "
            f"only {len(candidates[scarcest])} rows of the domain {scarcest.value}. It reads the source files of "
            "the standard library and the metadata of installed packages: use a Python that has both."
        )
    for domain, share in SHARES.items():
        corpus.pool.extend(candidates[domain][: round(size * share)])
    random.Random(settings.seed).shuffle(corpus.pool)
    return corpus


def _hold_out(rows: list[Row], wanted: int) -> tuple[list[Row], list[Row]]:
    """Take rows origin by origin, at most six of each, and at most a third of all; return them and the unseen origins.

    The rest of a used origin is dropped, so that no origin is on both sides.
    """
    by_origin: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_origin[row.origin].append(row)
    taken: list[Row] = []
    used: set[str] = set()
    spent = 0
    for origin, members in by_origin.items():
        if len(taken) >= wanted or spent + len(members) > len(rows) // 3:
            continue
        used.add(origin)
        spent += len(members)
        taken.extend(members[: min(MOST_PER_ORIGIN, wanted - len(taken))])
    return taken, [row for row in rows if row.origin not in used]
