"""Streams: what the code base draws from, and that no two of them are alike."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dataflex.components.context import RunContext
from dataflex.components.mix_context import MixContext, MixtureView
from dataflex.rng import key, key_seed, stream

SEED = 7


def context(seed: int = SEED) -> RunContext:
    return RunContext(dataset=[0] * 4, data_collator=list, seed=seed)


def mix_context() -> MixContext:
    view = MixtureView(("web", "code"), (4, 4), np.array([0.5, 0.5]))
    return MixContext(dataset=[0] * 8, data_collator=list, seed=SEED, mixture=view)


def test_without_names_the_stream_is_that_of_seed_and_step() -> None:
    for seed, step in itertools.product((0, 42, 2**40), (0, 3, 10**6)):
        expected = np.random.default_rng([seed, step]).bit_generator.state
        assert context(seed).rng(step).bit_generator.state == expected


def test_with_names_their_key_is_the_third_number() -> None:
    expected = np.random.default_rng([SEED, 3, key(("pass", 1))])
    assert context().rng(3, "pass", 1).bit_generator.state == expected.bit_generator.state


def test_names_that_look_alike_are_not_alike() -> None:
    names: list[tuple[str | int, ...]] = [
        ("1",),
        (1,),
        ("a", "b"),
        ("ab",),
        ("a,b",),
        ('a","b',),
        ("b", "a"),
        ("",),
        ("", ""),
        (-1,),
        (1, 1),
        (11,),
        ("é",),
        ("\ud800",),
        (2**80,),
        (0,),
    ]
    assert len({key(one) for one in names}) == len(names)
    assert all(0 <= key(one) < 2**64 for one in names)


def test_numbers_of_numpy_are_whole_numbers_too() -> None:
    assert key((np.int64(3), "x")) == key((3, "x"))


@pytest.mark.parametrize("name", [1.0, None, ("a",), True, b"a"])
def test_other_names_are_refused(name: object) -> None:
    with pytest.raises(TypeError, match="names are texts or whole numbers"):
        context().rng(3, name)  # type: ignore[arg-type]


def test_another_process_draws_the_same() -> None:
    code = "from dataflex.rng import stream; print(stream(7, 3, 'share', 2).integers(2**60))"
    drawn = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(drawn) == stream(7, 3, "share", 2).integers(2**60)


def test_no_two_streams_of_the_code_base_are_alike() -> None:
    run, mix, steps = context(), mix_context(), (0, 1, 2, 3, 8, 100)
    names: list[tuple[str | int, ...]] = [
        *((one,) for one in NAMED),
        *(("pass", number) for number in range(1, 4)),
        *(("prune", number) for number in range(1, 4)),
        ("web",),
        ("code",),  # a selector within a domain
        *(("pass", number, domain) for number in (1, 2) for domain in ("web", "code")),
        *((one, detail) for one in ("density", "order", "regmix", "validation") for detail in (0, 1, "web", "code")),
        *(("answers", target, row) for target in ("web", "code") for row in (0, 1)),
        ("order", "candidates"),
        ("order", "window"),
    ]
    streams = {("rng", step): run.rng(step) for step in steps}
    streams |= {("rng", step, *one): run.rng(step, *one) for step in steps for one in names}
    streams |= {("domain", step, name): mix.domain_rng(step, name) for step in steps for name in ("web", "code")}
    for parts in [
        (SEED, "tokens"),
        (SEED, "epoch", 0),
        (SEED, "epoch", 1),
        ("order within a global batch", SEED),
        ("order of a domain", SEED, "web", 0),
        ("order of a domain", SEED, "web", 1),
        ("order of a domain", SEED, "code", 0),
        ("samples", SEED, 8),
        ("samples", SEED, 100),
        *((SEED, "evaluate", step, name) for step in steps for name in ("web", "code")),
        *((SEED, name, step) for step in steps for name in ("plan", "begin_step", "directions")),
        (SEED, "begin"),
        ("pass of a queue", SEED, "web", 0, 0),
        ("pass of a queue", SEED, "web", 0, 1),
        *((name, SEED, "web") for name in ("unselected", "warm-up of a domain", "seed of a domain")),
        *(("whole pass", SEED, "web", step, 1) for step in steps),
    ]:
        streams[parts] = np.random.default_rng(key_seed(*parts))
    first = {name: tuple(rng.integers(2**60, size=2)) for name, rng in streams.items()}
    assert len(set(first.values())) == len(first)


NAMED = (
    "agreement", "answers", "band", "clusters", "density", "halves", "order", "pass", "prune", "regmix",
    "representatives", "screen/lexical", "screen/loss", "share", "validation",
)  # fmt: skip
SEEDED = {
    "begin", "begin_step", "directions", "epoch", "evaluate", "order of a domain", "order within a global batch",
    "pass of a queue", "plan", "samples", "seed of a domain", "tokens", "unselected", "warm-up of a domain",
    "whole pass",
}  # fmt: skip


def test_every_name_that_the_code_base_draws_by_is_one_of_the_test_above() -> None:
    found: dict[str, set[str]] = {"rng": set(), "rng_of": set(), "stream": set(), "key_seed": set()}
    for path in (Path(__file__).parents[3] / "packages").glob("**/src/**/*.py"):
        if "testing" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            if called in found and texts:
                found[called].add(texts[0])
    screens = {name for name in NAMED if name.startswith("screen/")}  # named after the screen
    assert found["rng"] | found["rng_of"] | found["stream"] == set(NAMED) - screens
    assert found["key_seed"] == SEEDED


def test_every_seed_of_numbers_is_a_stream_of_the_test_above() -> None:
    """Whoever draws from (seed, number) outside ``rng`` could meet a boundary's stream."""
    here = Path(__file__).parents[3]
    lists = {
        f"{path.relative_to(here).as_posix()}"
        for path in (here / "packages").glob("**/src/**/*.py")
        if "default_rng([" in path.read_text(encoding="utf-8") and "testing" not in path.parts
    }
    assert lists == {
        "packages/dataflex-core/src/dataflex/components/mix_context.py",  # domain_rng
        "packages/dataflex-core/src/dataflex/components/selector.py",  # the warm-up: step 0, where no boundary is
        "packages/dataflex-core/src/dataflex/rng.py",
    }
