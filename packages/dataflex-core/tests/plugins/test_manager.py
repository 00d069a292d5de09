"""The loader: every row of the failure table, read from what the user sees."""

from __future__ import annotations

import logging
import os
import sys

import pytest
from prepared_runs import run_facts

from dataflex.plugins.catalog import Catalog
from dataflex.plugins.manager import PluginManager, PluginStatus, rival_installed
from dataflex.plugins.options import LOAD_PLUGINS, PluginOptions
from dataflex.spec import Kind

HOOK = """
    from dataflex import hookimpl
    from dataflex.spec import ComponentSpec

    @hookimpl
    def dataflex_components():
        return [ComponentSpec(kind="selector", name="{name}", target="nowhere:X", api={api})]
"""
MARKED = """
    from dataflex import register_selector

    @register_selector("{name}")
    class Mine:
        '''Picks what it likes.'''
"""


def load(**options):
    return PluginManager.load(PluginOptions(**options))


def plugin(manager, dist):
    (found,) = [plugin for plugin in manager.plugins if plugin.dist == dist]
    return found


def names(manager, dist):
    return [spec.name for spec in plugin(manager, dist).components]


def test_a_hook_and_a_marked_class_both_provide_components(fake_dist):
    fake_dist("acme-hook", HOOK.format(name="by_hook", api=1))
    fake_dist("acme-mark", MARKED.format(name="by_mark"), version="2.5")
    fake_dist("acme-both", HOOK.format(name="hooked", api=1) + MARKED.format(name="marked"))
    manager = load()
    assert names(manager, "acme-hook") == ["by_hook"]
    assert names(manager, "acme-mark") == ["by_mark"]
    assert names(manager, "acme-both") == ["hooked", "marked"]
    found = plugin(manager, "acme-mark")
    assert (found.version, found.status, found.entry_point) == ("2.5", PluginStatus.LOADED, "main")
    assert found.components[0].summary == "Picks what it likes."


def test_a_hook_describes_a_marked_class_of_the_same_name_better(fake_dist):
    fake_dist("acme", HOOK.format(name="one", api=1) + MARKED.format(name="one"))
    (spec,) = plugin(load(), "acme").components
    assert spec.target == "nowhere:X"


def test_an_entry_point_may_name_the_class_itself(fake_dist):
    points = "[dataflex.components]\nmain = acme_plugin:Mine\n"
    fake_dist("acme", MARKED.format(name="one"), entry_points=points)
    assert names(load(), "acme") == ["one"]


def test_two_dists_with_the_same_entry_point_name_both_load(fake_dist):
    fake_dist("acme-a", MARKED.format(name="a"))
    fake_dist("acme-b", MARKED.format(name="b"))
    manager = load()
    assert names(manager, "acme-a") == ["a"]
    assert names(manager, "acme-b") == ["b"]


def test_a_marked_base_class_is_not_offered_twice(fake_dist):
    fake_dist("acme-base", MARKED.format(name="base"))
    code = "from acme_base_plugin import Mine\nfrom dataflex import register_selector\n"
    fake_dist("acme-sub", code + "@register_selector('sub')\nclass Sub(Mine): pass\nclass Helper(Sub): pass\n")
    assert names(load(), "acme-sub") == ["sub"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_library_x", "ModuleNotFoundError: No module named 'no_such_library_x'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit('needs a GPU')", "SystemExit: needs a GPU"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("", "implements no hook and defines no class marked with @register_selector"),
        (
            "from dataflex import hookimpl\n@hookimpl\ndef dataflex_components(): raise OSError('disk')",
            "OSError: disk",
        ),
        (
            "from dataflex import hookimpl\n@hookimpl\ndef dataflex_components():\n    yield 'loss'",
            "TypeError: dataflex_components returned 'loss' in its list; every item must be a ComponentSpec",
        ),
        (
            "from dataflex import hookimpl\n@hookimpl\ndef dataflex_components(): return 7",
            "TypeError: dataflex_components returned 7; it must return a list of ComponentSpec",
        ),
        (
            "from dataflex import hookimpl\n@hookimpl\ndef dataflex_decison(decision): pass",
            "unknown hook 'dataflex_decison'",
        ),
        (
            "from dataflex import hookimpl\n@hookimpl\ndef dataflex_decision(verdict): pass",
            "verdict",
        ),
        (
            "from dataflex.spec import ComponentSpec\nComponentSpec(kind='selector', name='x', target='x', api=1)",
            "target of component 'x' is 'x'; write 'module:Class'",
        ),
    ],
)
def test_a_broken_plugin_is_listed_with_its_reason_and_harms_no_other(fake_dist, code, reason):
    fake_dist("acme-bad", code, version="0.3")
    fake_dist("acme-good", MARKED.format(name="good"))
    manager = load()
    bad = plugin(manager, "acme-bad")
    assert (bad.status, bad.version, bad.components) == (PluginStatus.BROKEN, "0.3", ())
    assert reason in bad.reason
    assert names(manager, "acme-good") == ["good"]


def test_an_interrupt_while_a_plugin_is_imported_stops_the_program(fake_dist):
    fake_dist("acme", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load()


def test_unreadable_entry_points_break_only_their_own_dist(fake_dist):
    fake_dist("acme-bad", "", entry_points="[dataflex.components]\nno equals sign\n")
    fake_dist("acme-good", MARKED.format(name="good"))
    manager = load()
    assert plugin(manager, "acme-bad").status is PluginStatus.BROKEN
    assert "entry_points.txt cannot be read" in plugin(manager, "acme-bad").reason
    assert names(manager, "acme-good") == ["good"]


def test_a_strangers_unreadable_entry_points_are_not_our_business(fake_dist):
    fake_dist("stranger", "", entry_points="[console_scripts]\nno equals sign\n")
    assert "stranger" not in [plugin.dist for plugin in load().plugins]


def test_one_broken_entry_point_leaves_the_other_of_its_dist(fake_dist, site):
    (site / "acme_gone.py").write_text("raise RuntimeError('gone')")
    points = "[dataflex.components]\na = acme_gone\nb = acme_plugin\n"
    fake_dist("acme", MARKED.format(name="b"), entry_points=points)
    states = {plugin.entry_point: plugin.status for plugin in load().plugins if plugin.dist == "acme"}
    assert states == {"a": PluginStatus.BROKEN, "b": PluginStatus.LOADED}


def test_a_plugin_for_another_api_is_incompatible(fake_dist):
    fake_dist("acme", HOOK.format(name="old", api=0))
    found = plugin(load(), "acme")
    assert (found.status, found.reason) == (PluginStatus.INCOMPATIBLE, "written for API 0, this is API 1")


def test_other_components_of_an_outdated_plugin_stay_usable(fake_dist):
    fake_dist("acme", HOOK.format(name="old", api=0) + MARKED.format(name="new"))
    manager = load()
    assert plugin(manager, "acme").status is PluginStatus.LOADED
    states = {e.spec.name: (e.status, e.reason) for e in Catalog(manager.plugins).entries if e.dist == "acme"}
    assert states["old"] == (PluginStatus.INCOMPATIBLE, "written for API 0, this is API 1")
    assert states["new"] == (PluginStatus.LOADED, "")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"blocked": frozenset({"acme-tools"})}, "switched off by -p no:Acme_Tools"),
        ({"disabled": True}, "switched off by DATAFLEX_NO_PLUGINS"),
        ({"only": frozenset({"other"})}, "not in DATAFLEX_LOAD_PLUGINS"),
    ],
)
def test_a_plugin_that_is_switched_off_is_not_even_imported(fake_dist, options, reason):
    fake_dist("Acme_Tools", "raise RuntimeError", module="acme_off")
    found = plugin(load(**options), "Acme_Tools")
    assert (found.status, found.reason) == (PluginStatus.BLOCKED, reason)
    assert "acme_off" not in sys.modules


def test_load_plugins_loads_what_it_names_and_nothing_else(fake_dist, monkeypatch):
    fake_dist("acme-a", MARKED.format(name="a"))
    fake_dist("acme-b", "raise RuntimeError", module="acme_not_named")
    monkeypatch.setenv(LOAD_PLUGINS, "acme-a")
    plugins = PluginManager.load(PluginOptions.gather([], os.environ)).plugins
    assert [each.dist for each in plugins if each.status is not PluginStatus.BLOCKED] == ["acme-a"]
    assert "acme_not_named" not in sys.modules


def test_switching_off_a_plugin_that_is_not_there_is_said(site, caplog):
    load(blocked=frozenset({"acme-typo"}), only=frozenset({"acme-other"}))
    assert "-p no:acme-typo switches nothing off" in caplog.text
    assert "DATAFLEX_LOAD_PLUGINS names acme-other, but no plugin of that name is installed" in caplog.text


def test_a_file_loads_although_installed_plugins_are_switched_off(site, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from dataflex import register_mixer\n@register_mixer('m')\nclass M: pass\n")
    found = plugin(load(files=(file,), disabled=True), str(file))
    assert (found.inline, found.status, found.components[0].kind) == (True, PluginStatus.LOADED, Kind.MIXER)


HOOKS = """
    from dataflex import hookimpl
    from dataflex.runs import Problem

    @hookimpl
    def dataflex_check_run(plan):
        {body}
"""


def test_a_failing_hook_is_logged_and_disturbs_no_other(fake_dist, caplog):
    fake_dist("acme-a", HOOKS.format(body="raise ValueError('bad plan')"), version="0.9")
    fake_dist("acme-b", HOOKS.format(body="return [Problem(plan.stage)]"))
    fake_dist("acme-c", HOOKS.format(body="import sys; sys.exit(3)"))
    fake_dist("acme-d", HOOKS.format(body="yield Problem('lazy'); 1 / 0"))
    fake_dist("acme-e", HOOKS.format(body="return 'a sentence'"))
    manager = load()
    with caplog.at_level(logging.WARNING, "dataflex"):
        answers = manager.call("dataflex_check_run", run=None, plan=run_facts(stage="dpo"))
    ours = {found.dist: [problem.message for problem in answer] for found, answer in answers if "acme" in found.dist}
    assert ours == {"acme-b": ["dpo"]}
    assert "Plugin acme-a 0.9 failed in dataflex_check_run, ignored: ValueError: bad plan" in caplog.text
    assert "Plugin acme-c 1.0 failed in dataflex_check_run, ignored: SystemExit: 3" in caplog.text
    assert "acme-d 1.0 failed in dataflex_check_run, ignored: ZeroDivisionError" in caplog.text
    assert "every item must be a Problem" in caplog.text


def test_hooks_of_an_outdated_plugin_are_not_called(fake_dist, caplog):
    fake_dist("acme", HOOK.format(name="old", api=0) + HOOKS.format(body="raise RuntimeError"))
    load().call("dataflex_check_run", run=None, plan=run_facts())
    assert "acme" not in caplog.text


def test_calling_an_unknown_hook_is_a_mistake_of_ours(site):
    with pytest.raises(ValueError, match="'dataflex_decided' is not a hook"):
        load().call("dataflex_decided")


def test_what_a_plugin_prints_does_not_reach_standard_output(fake_dist, capsys):
    fake_dist("acme", "print('hello')\n" + MARKED.replace("    ", "", 1).format(name="a").replace("\n    ", "\n"))
    assert names(load(), "acme") == ["a"]
    captured = capsys.readouterr()
    assert (captured.out, "hello" in captured.err) == ("", True)


def test_the_rival_distribution_is_detected(fake_dist):
    assert rival_installed() is None
    fake_dist("dataflex", "", version="1.1.0", module="unused", entry_points="")
    assert rival_installed() == "1.1.0"
