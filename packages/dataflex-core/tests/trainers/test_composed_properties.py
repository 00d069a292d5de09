"""Whatever the domains, shares, boundaries, ``every`` and ``keep``: shares are met, no row comes again too early."""

from __future__ import annotations

import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))  # planned_runs, whose components are imported by name

from planned_runs import Run, Stage, planned, without


@st.composite
def runs(draw: Any, *, mixed: bool = False, selected: bool = False, ordered: bool = False) -> Run:
    """Runs of two of the three kinds or all of them, and of a selector that plans ahead by itself."""
    mixes, selects, orders = (must or draw(st.booleans()) for must in (mixed, selected, ordered))
    if not selects and not (mixes and orders):
        mixes, selects = mixes or draw(st.booleans()), True
    some = st.integers(1, 3)
    domains = draw(st.integers(1, 4)) if mixes else 1
    times = draw(st.integers(1, 4))
    cuts = st.lists(st.integers(0, 20), min_size=domains - 1, max_size=domains - 1).map(sorted)
    shares = cuts.map(lambda at: tuple(b - a for a, b in zip((0, *at), (*at, 20), strict=True)))
    return Run(
        sizes=tuple(draw(st.lists(st.integers(2, 25), min_size=domains, max_size=domains))),
        shares=tuple(draw(shares) for _ in range(times + 1)) if mixes else (),
        batch=draw(st.integers(1, 6)),
        warmup=draw(st.integers(0, 3)),
        update=draw(st.integers(1, 4)),
        times=times,
        mixes=draw(some) if mixes else 0,
        selects=draw(some) if selects else 0,
        keep=draw(st.sampled_from(["stage", 0.25, 0.5, 1.0])) if selects else "stage",
        orders=draw(some) if orders else 0,
        candidates=draw(st.booleans()),
        foresees=draw(st.booleans()),
    )


def domain_of(run: Run, row: int) -> int:
    for domain, size in enumerate(run.sizes):
        if row < size:
            return domain
        row -= size
    raise AssertionError


def batches(run: Run, stages: list[Stage]) -> list[list[int]]:
    """How many rows of each domain every batch has."""
    found = []
    for stage in stages:
        for first in range(0, len(stage.plan), run.batch):
            counts = Counter(domain_of(run, row) for row in stage.plan[first : first + run.batch])
            found.append([counts[domain] for domain in range(len(run.sizes))])
    return found


def periods(run: Run, stages: list[Stage]) -> list[tuple[list[list[int]] | None, list[Stage]]]:
    """What was chosen by domain (``None`` in the warm-up), with the stages up to the next choice."""
    found: list[tuple[list[list[int]] | None, list[Stage]]] = []
    for stage in stages:
        if not found or stage.chosen is not None:
            found.append((stage.chosen, []))
        found[-1][1].append(stage)
    return found


def served(run: Run, stages: list[Stage], domain: int) -> Counter[int]:
    return Counter(row for stage in stages for row in stage.plan if domain_of(run, row) == domain)


@settings(max_examples=60, deadline=None)
@given(runs(mixed=True))
def test_every_batch_has_the_domains_that_the_deficit_rule_says(run: Run) -> None:
    """By hand in exact fractions: the domain furthest behind its share comes next, ties to the first."""
    owed, expected = [Fraction(0)] * len(run.sizes), []
    for stage, (first, end) in enumerate(run.schedule.stages()):
        for _ in range(first, end):
            batch = [0] * len(owed)
            for _ in range(run.batch):
                owed = [mine + Fraction(share, 20) for mine, share in zip(owed, run.share_of(stage), strict=True)]
                turn = owed.index(max(owed))
                owed[turn] -= 1
                batch[turn] += 1
            expected.append(batch)
            least, most = Fraction(-1), sum(Fraction(1, k) for k in range(1, len(owed) + 1))
            assert all(least < mine <= most for mine in owed)  # whatever the shares do: H_K behind, one ahead
    assert batches(run, planned(run)) == expected


@settings(max_examples=60, deadline=None)
@given(runs(selected=True))
def test_all_of_a_selection_is_served_before_any_of_it_comes_again(run: Run) -> None:
    for chosen, stages in periods(run, planned(run)):
        for domain, size in enumerate(run.sizes):
            times = served(run, stages, domain)
            first = sum(run.sizes[:domain])
            queue = Counter(range(first, first + size))  # where nothing was chosen: all rows, in the warm-up too
            if chosen is not None and chosen[domain]:
                queue = Counter(chosen[domain])  # more than once where more rows were needed than the domain has
            if chosen is not None and run.keep != "stage":
                assert max(queue.values()) == 1 and len(queue) == max(int(float(run.keep) * size + 0.5), 1)
            assert set(times) <= set(queue)
            rounds = min(times[row] // queue[row] for row in queue)
            assert all(rounds * queue[row] <= times[row] <= (rounds + 1) * queue[row] for row in queue)


@settings(max_examples=60, deadline=None)
@given(runs(selected=True))
def test_where_shares_stay_a_stage_takes_all_that_was_chosen_for_it_and_nothing_twice(run: Run) -> None:
    found = planned(run)
    if run.keep != "stage":
        return
    for chosen, stages in periods(run, found):
        at = [run.schedule.stage_at(stage.step) for stage in stages]
        if chosen is None or len({run.share_of(stage) for stage in at}) > 1:
            continue
        for domain, own in enumerate(chosen):
            assert served(run, stages, domain) == Counter(own)
    if all(share == run.shares[0] for share in run.shares):
        assert all(not any(stage.recycled) if run.mixes else not stage.recycled for stage in found if stage.decided)


@settings(max_examples=60, deadline=None)
@given(runs(ordered=True))
def test_an_orderer_changes_no_domains_set_of_rows_and_no_batchs_mixture(run: Run) -> None:
    ordered = planned(run)
    plain = planned(without(run, "orders"))
    assert batches(run, ordered) == batches(run, plain)
    assert [stage.chosen for stage in ordered] == [stage.chosen for stage in plain]
    for (chosen, mine), (_, theirs) in zip(periods(run, ordered), periods(run, plain), strict=True):
        for domain, size in enumerate(run.sizes):
            one, other = served(run, mine, domain), served(run, theirs, domain)
            assert one.total() == other.total()
            if not run.selects:  # passes over the whole domain, of which the last may be cut short, evenly
                assert max(one.values(), default=0) - (min(one.values()) if len(one) == size else 0) <= 1
            elif chosen is None or (chosen[domain] and one.total() % len(chosen[domain]) == 0):
                assert one == other  # all of the warm-up's rows, or whole passes over what was chosen


@settings(max_examples=40, deadline=None)
@given(runs(), st.data())
def test_a_run_that_is_built_up_again_at_any_boundary_plans_as_if_nothing_had_happened(run: Run, data: Any) -> None:
    breaks = data.draw(st.sets(st.integers(1, run.times)))
    whole, again = planned(run), planned(run, breaks=sorted(breaks))
    assert again == whole


def test_a_selector_of_every_fifth_boundary_chooses_five_stages_of_rows() -> None:
    """dataflex 1.1.0 trains on the rows of one stage five times: ``every: 50`` of ``update_step: 10``, 80 rows."""
    run = Run((500,), (), batch=8, warmup=0, update=10, times=5, mixes=0, selects=5)
    assert [len(stage.plan) for stage in planned(run)] == [80] * 5
    assert len({row for stage in planned(run) for row in stage.plan}) == 400


def test_a_domain_that_a_filter_would_empty_gives_its_half() -> None:
    """dataflex 1.1.0 filters the pool first: the half that scores higher has no row of the second domain."""
    run = Run((100, 100), ((10, 10),) * 2, batch=8, warmup=0, update=10, times=1, mixes=1, selects=1, keep=0.5)
    (stage,) = planned(run)
    assert [sum(domain_of(run, row) == domain for row in stage.plan) for domain in (0, 1)] == [40, 40]
    assert stage.chosen is not None and [len(rows) for rows in stage.chosen] == [50, 50]
    scores = np.repeat([1.0, 0.0], 100)  # what a filter over the whole pool would leave for the mixer to draw from
    left = np.argsort(-scores, kind="stable")[:100]
    assert [int((left < 100).sum()), int((left >= 100).sum())] == [100, 0]
