"""``from dataflex import ...``: what the author of a component needs, at no cost for the start of a command."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dataflex

NAMES = (
    *("Selector", "Mixer", "Weighter", "Selection", "ComponentSpec", "Kind", "Need", "param", "RunContext"),
    *("ConfigError", "ComponentError", "Problem", "hookimpl"),
    *("Orderer", "OrdererParams", "Pattern", "Candidates"),
    *("register_selector", "register_mixer", "register_weighter", "register_orderer"),
)


def test_the_door_has_the_names_that_were_promised_and_no_other() -> None:
    assert sorted(dataflex.__all__) == sorted(NAMES)
    assert [name for name in NAMES if name not in dir(dataflex)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_door_is_the_object_of_its_room(name: str) -> None:
    found = getattr(dataflex, name)
    home = "dataflex.plugins.hookspecs" if name == "hookimpl" else found.__module__
    assert getattr(sys.modules[home], name) is found


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Scheduler'"):
        _ = dataflex.Scheduler


def test_what_a_plugin_module_and_its_parameters_import_loads_neither_numpy_nor_torch() -> None:
    code = (
        "import sys\n"
        "from dataflex import ComponentError, ComponentSpec, ConfigError, Kind, Need, Problem, hookimpl, param\n"
        "print(sorted({'torch', 'numpy', 'rich', 'transformers', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_a_component_module_that_imports_the_context_loads_no_torch() -> None:
    code = "import sys\nfrom dataflex import RunContext, Selection, Selector\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"
