from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from importlib_metadata import entry_points

from dataflex.components.mix_context import DomainLosses, MixContext, MixtureView
from dataflex.errors import ConfigError
from dataflex.spec import API, Kind
from dataflex.testing.subject import Subject, bind_values
from dataflex_mixers_loss import plugin
from dataflex_mixers_loss.mixer import LossMixer, softmax_proportions
from dataflex_mixers_loss.params import LossParams

SPEC = plugin.dataflex_components()[0]
NAMES = ("web", "code", "chat")


def mixer(**params: float) -> tuple[LossMixer, MixtureView]:
    view = MixtureView(NAMES, [10, 10, 10], [0.5, 0.3, 0.2])
    context = MixContext(dataset=range(30), data_collator=list, mixture=view)
    return LossMixer(LossParams(**params), context), view


def show(view: MixtureView, sums: list[float], tokens: list[int]) -> None:
    view.update(losses=DomainLosses(np.array(sums), np.array(tokens), np.array(tokens)))


def mix(component: LossMixer) -> list[float]:
    return component.mix(None, 5).tolist()  # type: ignore[arg-type]


def test_proportions_are_the_softmax_of_the_mean_token_losses() -> None:
    component, view = mixer(floor=0)
    show(view, [10, 4, 9], [10, 2, 3])  # means 1, 2, 3
    # exp(1), exp(2), exp(3) over their sum, by hand
    assert mix(component) == pytest.approx([0.090031, 0.244728, 0.665241], abs=1e-6)


def test_temperature_and_floor_are_those_of_the_formula() -> None:
    component, view = mixer(temperature=0.5, floor=0.1)
    show(view, [1, 2, 3], [1, 1, 1])
    # softmax(2, 4, 6) = [.015876, .117310, .866813]; .1 + .7 * that
    assert mix(component) == pytest.approx([0.111113, 0.182117, 0.706769], abs=1e-6)


def test_earlier_losses_count_by_their_share() -> None:
    component, view = mixer(ema=0.25, floor=0)
    show(view, [4, 4, 4], [1, 1, 1])
    mix(component)
    show(view, [0, 4, 8], [1, 1, 1])  # .25 * 4 + .75 * new = 1, 4, 7
    assert mix(component) == pytest.approx([0.002355, 0.047314, 0.950330], abs=1e-6)


def test_a_domain_without_tokens_keeps_its_last_loss() -> None:
    component, view = mixer(floor=0)
    show(view, [1, 2, 3], [1, 1, 1])
    before = mix(component)
    show(view, [1, 2, 0], [1, 1, 0])
    assert mix(component) == pytest.approx(before)


def test_a_domain_that_was_never_seen_counts_as_the_mean_of_the_others() -> None:
    component, view = mixer(floor=0)
    show(view, [1, 3, 0], [1, 1, 0])
    assert mix(component) == pytest.approx([0.090031, 0.665241, 0.244728], abs=1e-6)


def test_proportions_stay_while_no_loss_is_known() -> None:
    component, _ = mixer()
    assert mix(component) == [0.5, 0.3, 0.2]


@given(
    st.lists(st.floats(0, 20), min_size=2, max_size=6),
    st.floats(0.05, 10),
    st.floats(0, 1),
    st.floats(-5, 5),
)
def test_proportions_are_a_distribution_above_the_floor_and_blind_to_a_common_offset(
    losses: list[float], temperature: float, share: float, offset: float
) -> None:
    floor = share / len(losses)
    shares = softmax_proportions(np.array(losses), temperature, floor)
    assert shares.sum() == pytest.approx(1, abs=1e-9)
    assert (shares >= floor - 1e-9).all()
    assert softmax_proportions(np.array(losses) + offset, temperature, floor) == pytest.approx(shares, abs=1e-9)


def test_a_resumed_mixer_goes_on_with_the_losses_it_had() -> None:
    first, view = mixer(ema=0.5)
    show(view, [1, 2, 3], [1, 1, 1])
    mix(first)
    second, other = mixer(ema=0.5)
    second.load_state_dict(first.state_dict())
    for shown in (view, other):
        show(shown, [3, 3, 0], [1, 1, 0])
    assert mix(first) == mix(second)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"temperature": 0.0}, "temperature: 0.0 .* at least 1e-06"),
        ({"temperature": 1e-320}, "temperature: 1e-320 .* at least 1e-06"),
        ({"temperature": float("nan")}, "temperature: nan .* must be"),
        ({"temperature": float("inf")}, "temperature: inf .* finite"),
        ({"floor": -0.1}, "floor: -0.1 .* at least 0"),
        ({"floor": 1.1}, "floor: 1.1 .* at most 1"),
        ({"ema": 1.0}, "ema: 1.0 .* below 1"),
    ],
)
def test_an_impossible_parameter_is_refused(params: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_values(Subject(name="loss", kind=Kind.MIXER).find(), params)


def test_a_floor_that_leaves_nothing_to_mix_is_refused_with_the_largest_possible_one() -> None:
    with pytest.raises(ConfigError, match=r"for 3 domains adds up to more than 1. Set it to 0\.333 or less"):
        mixer(floor=0.4)


def test_the_entry_point_names_the_plugin() -> None:
    points = [point for point in entry_points(group="dataflex.components") if point.value == plugin.__name__]
    assert [point.load() for point in points] == [plugin]


def test_the_spec_names_what_exists() -> None:
    assert (SPEC.api, SPEC.kind, SPEC.name) == (API, Kind.MIXER, "loss")
    for reference in (SPEC.target, SPEC.params):
        assert reference is not None
        module, name = reference.split(":")
        assert hasattr(importlib.import_module(module), name)


def test_every_parameter_has_a_help_text() -> None:
    fields: Any = dataclasses.fields(LossParams)
    assert all(field.metadata["help"] for field in fields)


def test_no_module_of_the_package_imports_torch() -> None:
    code = (
        "import sys, dataflex_mixers_loss.plugin as p, dataflex_mixers_loss.params\n"
        "p.dataflex_components()\n"
        "print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))\n"
        "import dataflex_mixers_loss.mixer\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["[]", "False"]
