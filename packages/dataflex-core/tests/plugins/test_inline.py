"""Plugins that are a single file."""

from __future__ import annotations

import builtins
import importlib
import sys

import pytest

from dataflex.plugins.catalog import Catalog
from dataflex.plugins.inline import import_file
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.spec import Kind

CODE = """
import builtins
builtins.dataflex_imports += 1
from dataflex.core.registry import register_selector

@register_selector("custom")
class Custom:
    pass
"""


@pytest.fixture
def imports(monkeypatch):
    monkeypatch.setattr(builtins, "dataflex_imports", 0, raising=False)
    return lambda: builtins.dataflex_imports


def test_a_file_that_is_listed_and_then_used_is_imported_once(site, tmp_path, imports):
    file = tmp_path / "my file.v2.py"
    file.write_text(CODE)
    options = PluginOptions.gather([str(file)], {})
    entry = Catalog(PluginManager.load(options).plugins).find(Kind.SELECTOR, "custom")
    first = entry.load()
    again = Catalog(PluginManager.load(options).plugins).find(Kind.SELECTOR, "custom")
    assert again.load() is first
    assert imports() == 1


def test_a_changed_file_is_imported_again(site, tmp_path, imports):
    file = tmp_path / "mine.py"
    file.write_text(CODE)
    import_file(file)
    file.write_text(CODE + "\nedited = True\n")
    assert import_file(file).edited
    assert imports() == 2


def test_two_files_of_the_same_name_are_two_modules(site, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(f"where = {folder!r}")
    assert [import_file(tmp_path / folder / "mine.py").where for folder in ("a", "b")] == ["a", "b"]


def test_a_file_may_import_its_neighbour_but_shadows_nothing(site, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "acme_neighbour.py").write_text("value = 7")
    (folder / "json.py").write_text("raise RuntimeError('shadowed')")
    (folder / "mine.py").write_text("from acme_neighbour import value\nimport json\nloads = json.loads")
    module = import_file(folder / "mine.py")
    assert (module.value, module.loads("3")) == (7, 3)


def test_a_file_that_fails_is_not_kept_half_imported(site, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("half = 1\nraise OSError('no')")
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            import_file(file)


@pytest.mark.parametrize("name", ["random.py", "datasets.py", "my-selector v2.py", "插件.py"])
def test_a_file_of_any_name_is_a_plugin_and_hides_no_module(site, tmp_path, name):
    import random

    file = tmp_path / name
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass, field\n\n"
        "@dataclass(frozen=True)\nclass Params:\n    shares: dict[str, float] = field(default_factory=dict)\n" + CODE
    )
    builtins.dataflex_imports = 0
    options = PluginOptions.gather([str(file)], {})
    entry = Catalog(PluginManager.load(options).plugins).find(Kind.SELECTOR, "custom")
    del builtins.dataflex_imports
    module = sys.modules[entry.load().__module__]
    assert module.Params().shares == {}
    assert importlib.import_module("random") is random and "dataflex" not in (random.__file__ or "")
