from __future__ import annotations

import dataclasses
import importlib
import random
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from importlib_metadata import entry_points

from dataflex.components.mix_context import MixContext, MixtureView
from dataflex.errors import ConfigError
from dataflex.spec import API, Kind
from dataflex.testing.subject import Subject, bind_values
from dataflex_mixers_random import plugin
from dataflex_mixers_random.mixer import RandomMixer
from dataflex_mixers_random.params import RandomParams

SPEC = plugin.dataflex_components()[0]
NAMES = ("web", "code", "chat")


def draw(
    step: int, *, names: tuple[str, ...] = NAMES, seed: int = 1, concentration: float = 1.0
) -> npt.NDArray[np.float64]:
    view = MixtureView(names, [10] * len(names), np.full(len(names), 1 / len(names)))
    context = MixContext(dataset=range(10 * len(names)), data_collator=list, seed=seed, mixture=view)
    return RandomMixer(RandomParams(concentration=concentration), context).mix(None, step)  # type: ignore[arg-type]


@pytest.mark.parametrize("concentration", [0.01, 1.0, 100.0])
def test_proportions_are_positive_and_sum_to_one(concentration: float) -> None:
    drawn = draw(5, concentration=concentration)
    assert drawn.shape == (3,) and (drawn >= 0).all()
    assert drawn.sum() == pytest.approx(1, abs=1e-12)


def test_a_tiny_concentration_does_not_underflow() -> None:
    drawn = np.array([draw(step, concentration=1e-6) for step in range(50)])
    assert np.isfinite(drawn).all()
    assert (drawn.max(axis=1) > 0.999).all()


def test_every_update_draws_new_proportions() -> None:
    assert len({tuple(draw(step)) for step in range(0, 100, 10)}) == 10


def test_a_draw_is_a_function_of_seed_and_step() -> None:
    assert np.array_equal(draw(5), draw(5))
    assert not np.array_equal(draw(5), draw(5, seed=2))


def test_another_order_of_the_domains_gives_the_same_proportions_by_name() -> None:
    for step in range(20):
        forwards = dict(zip(NAMES, draw(step), strict=True))
        backwards = dict(zip(NAMES[::-1], draw(step, names=NAMES[::-1]), strict=True))
        assert forwards == pytest.approx(backwards, abs=1e-12)


def test_domains_draw_independently_of_each_other() -> None:
    # With a concentration of 1 and two domains, a proportion is uniform on [0, 1].
    shares = np.array([draw(step, names=("a", "b"))[0] for step in range(2000)])
    counts = np.histogram(shares, bins=10, range=(0, 1))[0]
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # 9 degrees of freedom, p = 0.001


@pytest.mark.parametrize("concentration", [0.5, 1.0, 4.0])
def test_mean_and_variance_are_those_of_the_dirichlet_distribution(concentration: float) -> None:
    drawn = np.array([draw(step, concentration=concentration) for step in range(3000)])
    variance = (1 / 3) * (2 / 3) / (3 * concentration + 1)
    assert drawn.mean(axis=0) == pytest.approx(1 / 3, abs=4 * (variance / 3000) ** 0.5)
    assert drawn.var(axis=0) == pytest.approx(variance, rel=0.1)


def test_drawing_moves_no_global_generator() -> None:
    python, numpy = random.getstate(), np.random.get_state()[1].copy()
    draw(5)
    assert random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], numpy)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf"), 1e-320])
def test_an_impossible_concentration_is_refused(wrong: float) -> None:
    entry = Subject(name="random", kind=Kind.MIXER).find()
    with pytest.raises(ConfigError, match=r"component_params.concentration: .* must be at least 1e-06 and finite"):
        bind_values(entry, {"concentration": wrong})


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_the_spec_names_what_exists() -> None:
    assert (SPEC.api, SPEC.kind, SPEC.name) == (API, Kind.MIXER, "random")
    for reference in (SPEC.target, SPEC.params):
        assert reference is not None
        module, name = reference.split(":")
        assert hasattr(importlib.import_module(module), name)


def test_every_parameter_has_a_help_text() -> None:
    fields: Any = dataclasses.fields(RandomParams)
    assert all(field.metadata["help"] for field in fields)


def test_no_module_of_the_package_imports_torch() -> None:
    code = (
        "import sys, dataflex_mixers_random.plugin as p, dataflex_mixers_random.params\n"
        "p.dataflex_components()\n"
        "print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))\n"
        "import dataflex_mixers_random.mixer\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["[]", "False"]
