"""A component remembers nothing across a resume unless its class says otherwise."""

from __future__ import annotations

import pytest

from dataflex import Mixer, Selector, Weighter
from dataflex.errors import ComponentError


class Counting(Weighter):
    def state_dict(self):
        return {"count": 3}


@pytest.mark.parametrize("base", [Selector, Mixer, Weighter])
def test_every_base_class_has_an_empty_state(base):
    component = base.__new__(base)
    assert component.state_dict() == {}
    component.load_state_dict({})


def test_a_class_that_gives_a_state_must_say_how_to_take_it_back():
    with pytest.raises(ComponentError, match=r"Counting gave a state \(count\) but cannot take it back"):
        Counting().load_state_dict(Counting().state_dict())
