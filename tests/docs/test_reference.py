"""The reference is made from the code, and nothing is missing from it."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

import dataflex
from dataflex.cli.app import app
from dataflex.config.keys import PRESET_KEYS, RUN_KEYS
from dataflex.plugins import hookspecs

DOCS = Path(__file__).parents[2] / "docs"
PACKAGES = sorted(path.parents[2] for path in DOCS.parent.glob("packages/*/*/src/*/plugin.py"))
PAGES = ("cli.md", "components.md", "configuration.md", "hooks.md")


def page(name: str) -> str:
    return (DOCS / "reference" / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_reference", DOCS / "write_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says_now(name: str, writer: ModuleType) -> None:
    assert set(writer.PAGES) == set(PAGES)
    assert page(name) == writer.PAGES[name](), "out of date: run `nox -s docs -- --write` and look at the diff"


@pytest.mark.parametrize("hook", [name for name in vars(hookspecs) if name.startswith("dataflex_")])
def test_a_hook_is_in_the_reference_with_its_exact_signature(hook: str) -> None:
    signature = str(inspect.signature(getattr(hookspecs, hook))).replace("'", "")
    assert f"```python\ndef {hook}{signature}: ...\n```" in page("hooks.md")


def test_every_key_of_the_configuration_is_in_the_reference() -> None:
    text = page("configuration.md")
    assert [key.name for key in RUN_KEYS if f"| [`{key.name}`](../configuration.md#{key.name}) |" not in text] == []
    assert [key.name for key in PRESET_KEYS if f"| `{key.name}` |" not in text] == []


def test_every_command_and_option_that_help_shows_is_in_the_reference() -> None:
    def shown(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--help"], terminal_width=200)
        assert result.exit_code == 0
        return result.stdout

    text = page("cli.md")
    commands = re.findall(r"^│ ([a-z-]+) ", shown().partition("Commands")[2], re.MULTILINE)
    assert {"train", "report", "doctor", "chat", "doremi", "regmix", "mixmin"} <= set(commands)
    for command in commands:
        assert f"`dataflex {command}`" in text
    own = re.findall(r"^## `dataflex ([a-z-]+)`$", text, re.MULTILINE)
    for command in set(own) - {"doremi", "regmix", "mixmin"}:
        options = set(re.findall(r"(?<= )--[a-z]+", shown(command).partition("─ Options")[2])) - {"--help"}
        section = text.partition(f"## `dataflex {command}`\n")[2].partition("\n## ")[0]
        assert options == set(re.findall(r"`(--[a-z]+)", section))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_component_package_is_in_the_reference_with_every_parameter(package: Path) -> None:
    (plugin,) = package.glob("src/*/plugin.py")
    specs = importlib.import_module(f"{plugin.parent.name}.plugin").dataflex_components()
    assert package.name == "quality" or package.name in [spec.name.replace("_", "-") for spec in specs]
    for spec in specs:
        section = page("components.md").partition(f"## {spec.kind} `{spec.name}`\n")[2].partition("\n## ")[0]
        module, _, name = spec.params.partition(":")
        declared = [field.name for field in dataclasses.fields(getattr(importlib.import_module(module), name))]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == declared != []


def test_every_public_name_is_in_the_reference() -> None:
    text = page("api.md")
    assert [name for name in dataflex.__all__ if f"dataflex.{name}" not in text and f" {name}\n" not in text] == []
