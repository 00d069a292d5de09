"""How a name finds a component, and what is said when it does not."""

from __future__ import annotations

import logging

import pytest

from dataflex.errors import ConfigError, IncompatibleError, PluginError
from dataflex.plugins.catalog import Catalog
from dataflex.plugins.manager import Plugin, PluginStatus
from dataflex.spec import ComponentSpec, Kind


def spec(name="loss", kind=Kind.SELECTOR, api=1, target="json:JSONDecoder", params=None):
    return ComponentSpec(kind=kind, name=name, target=target, api=api, params=params)


def plugin(dist, *specs, version="1.0", **changes):
    return Plugin(dist=dist, version=version, components=specs, **changes)


def file(path, *specs, **changes):
    return Plugin(dist=path, module=path, inline=True, components=specs, **changes)


def broken(dist, reason="ImportError: no cuda", **changes):
    return Plugin(dist=dist, version="0.2", status=PluginStatus.BROKEN, reason=reason, **changes)


A = plugin("acme-a", spec())
B = plugin("acme-b", spec(), version="2.1")


def find(name, *plugins, kind=Kind.SELECTOR):
    return Catalog(plugins).find(kind, name)


def test_a_component_is_found_by_kind_and_name():
    entry = find("loss", A, plugin("acme-w", spec(kind=Kind.WEIGHTER)))
    assert (entry.dist, entry.version, entry.spec.kind) == ("acme-a", "1.0", Kind.SELECTOR)


def test_two_dists_with_one_name_are_listed_but_the_name_alone_is_refused():
    catalog = Catalog([A, B])
    assert [entry.dist for entry in catalog.entries] == ["acme-a", "acme-b"]
    with pytest.raises(PluginError) as caught:
        catalog.find(Kind.SELECTOR, "loss")
    assert str(caught.value) == (
        "selector 'loss' is provided by acme-a 1.0 and by acme-b 2.1. Write acme-a/loss or acme-b/loss to say which."
    )


@pytest.mark.parametrize("name", ["acme-b/loss", "Acme_B/loss"])
def test_dist_and_name_pick_one_of_two(name):
    assert find(name, A, B).dist == "acme-b"


def test_a_dist_that_provides_a_name_twice_is_told_apart_from_a_conflict():
    twice = plugin("acme-a", spec(), spec(target="json:JSONEncoder"))
    with pytest.raises(PluginError, match=r"acme-a 1\.0 provides the selector 'loss' more than once: json:JSONDecoder"):
        find("loss", twice)


def test_the_same_component_behind_two_entry_points_is_one():
    assert len(Catalog([A, A]).entries) == 1


def test_a_file_wins_over_installed_ones_and_the_log_says_so(caplog):
    with caplog.at_level(logging.INFO, "dataflex"):
        entry = find("loss", A, B, file("/w/mine.py", spec()))
    assert entry.dist == "/w/mine.py"
    assert "selector 'loss' comes from /w/mine.py (-p), not from acme-a 1.0, acme-b 2.1." in caplog.text


def test_an_installed_one_can_still_be_had_beside_a_file():
    assert find("acme-a/loss", A, file("/w/mine.py", spec())).dist == "acme-a"


def test_a_file_with_another_name_hides_nothing(caplog):
    with caplog.at_level(logging.INFO, "dataflex"):
        assert find("loss", A, file("/w/mine.py", spec("other"))).dist == "acme-a"
    assert caplog.text == ""


def test_two_files_with_one_name_are_a_conflict():
    with pytest.raises(PluginError, match=r"Write /w/a\.py/loss or /w/b\.py/loss"):
        find("loss", file("/w/a.py", spec()), file("/w/b.py", spec()))
    assert find("/w/b.py/loss", file("/w/a.py", spec()), file("/w/b.py", spec())).dist == "/w/b.py"


def test_an_installed_namesake_does_not_replace_a_broken_file():
    with pytest.raises(PluginError, match=r"-p /w/mine\.py is broken: SyntaxError: x\. 'loss' may be in it"):
        find("loss", A, file("/w/mine.py", status=PluginStatus.BROKEN, reason="SyntaxError: x"))


def test_a_broken_plugin_does_not_keep_a_run_from_another_ones_component():
    assert find("loss", A, broken("acme-bad")).dist == "acme-a"


def test_only_an_incompatible_one_is_an_error_with_the_reason():
    with pytest.raises(IncompatibleError) as caught:
        find("loss", plugin("acme-a", spec(api=0)))
    assert str(caught.value) == (
        "selector 'loss' is incompatible (acme-a 1.0: written for API 0, this is API 1). "
        "Install other versions of acme-a or dataflex-core."
    )


def test_a_usable_one_is_preferred_to_an_incompatible_one():
    assert find("loss", plugin("acme-old", spec(api=2)), B).dist == "acme-b"


def test_an_unknown_name_gets_the_nearest_and_the_list():
    with pytest.raises(ConfigError) as caught:
        find("lss", A, plugin("acme-r", spec("random")), plugin("acme-w", spec("wide", Kind.WEIGHTER)))
    assert "no selector 'lss' is installed. Did you mean 'loss'? Installed selectors: loss, random." in str(
        caught.value
    )


def test_nothing_installed_says_none():
    with pytest.raises(ConfigError, match=r"Installed mixers: none\. Install the package that provides it"):
        find("doremi", kind=Kind.MIXER)


def test_a_name_of_another_kind_is_pointed_out():
    with pytest.raises(ConfigError, match=r"There is a weighter of that name\."):
        find("loss", plugin("acme-w", spec(kind=Kind.WEIGHTER)))


def test_an_unknown_name_may_be_in_a_plugin_that_is_not_loaded():
    off = Plugin(dist="acme-off", version="3.0", status=PluginStatus.BLOCKED, reason="switched off by -p no:acme-off")
    with pytest.raises(ConfigError) as caught:
        find("custom", broken("acme-bad"), off)
    assert (
        "It may be in a plugin that is not loaded: acme-bad 0.2 (broken: ImportError: no cuda); "
        "acme-off 3.0 (blocked: switched off by -p no:acme-off)."
    ) in str(caught.value)


def test_naming_a_broken_dist_gives_its_reason():
    with pytest.raises(PluginError, match=r"'acme-bad/loss' cannot be used: acme-bad 0\.2 \(broken: ImportError"):
        find("acme-bad/loss", A, broken("acme-bad"))


def test_a_name_of_the_wrong_dist_leads_to_the_right_one():
    with pytest.raises(ConfigError, match=r"no selector 'acme-x/loss' is installed\. Did you mean acme-a/loss\?"):
        find("acme-x/loss", A)


def test_without_a_kind_one_match_is_enough_and_two_need_the_kind():
    wide = plugin("acme-w", spec(kind=Kind.WEIGHTER))
    assert find("loss", A, kind=None).spec.kind is Kind.SELECTOR
    with pytest.raises(ConfigError, match=r"'loss' names a selector and a weighter\. Say which: --kind selector\."):
        find("loss", A, wide, kind=None)


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("no_such_module_x:Thing", "ModuleNotFoundError: No module named 'no_such_module_x'"),
        ("json:Missing", "AttributeError: module 'json' has no attribute 'Missing'"),
        ("json:loads", "TypeError: loads is <function loads"),
    ],
)
def test_a_target_that_cannot_be_imported_is_named_with_its_dist(target, cause):
    entry = find("loss", plugin("acme-a", spec(target=target, params=target)))
    for load, role in ((entry.load, "target"), (entry.load_params, "params")):
        with pytest.raises(PluginError) as caught:
            load()
        start = f"{role} {target} of selector 'loss' from acme-a 1.0 cannot be imported: {cause}"
        assert str(caught.value).startswith(start)


def test_a_nested_class_is_loaded():
    assert find("loss", plugin("acme-a", spec(target="dataflex.spec:Kind"))).load() is Kind


def test_no_params_class_means_the_constructor_is_the_schema():
    assert find("loss", A).load_params() is None


@pytest.mark.parametrize(
    "name", ["../loss", "./loss", "..", "acme-a/../loss", "loss\0", "acme-a/lo/ss", "acme_a\\loss"]
)
def test_a_name_that_is_a_path_finds_nothing(name):
    with pytest.raises(ConfigError, match=r"no selector .* is installed"):
        find(name, A)
