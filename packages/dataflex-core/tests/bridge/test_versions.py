"""Versions of LlamaFactory and transformers that are not known to work together are refused before they load."""

from __future__ import annotations

import logging

import importlib_metadata
import pytest

from dataflex.bridge import versions
from dataflex.errors import IncompatibleError


@pytest.fixture
def install(monkeypatch):
    """Pretend that these versions are installed; ``None`` for one that is not."""
    monkeypatch.delenv(versions.UNCHECKED, raising=False)

    def install(llamafactory: str | None, transformers: str | None) -> None:
        found = {"llamafactory": llamafactory, "transformers": transformers}

        def version(name: str) -> str:
            if found[name] is None:
                raise importlib_metadata.PackageNotFoundError(name)
            return found[name]

        monkeypatch.setattr(versions.importlib_metadata, "version", version)

    return install


@pytest.mark.parametrize(
    ("llamafactory", "transformers"),
    [("0.9.4", "4.55.4"), ("0.9.4", "4.57.1"), ("0.9.5", "4.55.4"), ("0.9.5", "5.0.0"), ("0.9.5", "5.6.0")],
)
def test_versions_within_a_tested_range_pass_without_a_word(install, caplog, llamafactory, transformers):
    install(llamafactory, transformers)
    versions.require()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("llamafactory", "transformers"),
    [("0.9.4", "5.6.0"), ("0.9.4", "4.57.2"), ("0.9.5", "5.6.1"), ("0.9.5", "5.24.0.dev0"), ("0.9.5", "4.54.1")],
)
def test_versions_outside_it_are_refused_with_what_to_install(install, llamafactory, transformers):
    install(llamafactory, transformers)
    with pytest.raises(IncompatibleError) as caught:
        versions.require()
    oldest, newest = versions.TESTED[llamafactory]
    assert str(caught.value) == (
        f"llamafactory {llamafactory} was tested with transformers {oldest} to {newest}, not with {transformers}. "
        "Install versions that were tested together: llamafactory==0.9.5 with transformers 4.55.4 to 5.6.0, "
        "or llamafactory==0.9.4 with transformers 4.55.4 to 4.57.1."
    )


def test_llamafactorys_own_variable_lets_them_be_tried_with_a_warning(install, caplog, monkeypatch):
    install("0.9.5", "5.6.1")
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    with caplog.at_level(logging.WARNING, "dataflex"):
        versions.require()
    assert "tested with transformers 4.55.4 to 5.6.0, not with 5.6.1" in caplog.text


def test_a_llamafactory_of_another_version_is_tried_with_a_warning(install, caplog):
    install("0.9.6", "5.9.0")
    with caplog.at_level(logging.WARNING, "dataflex"):
        versions.require()
    assert "llamafactory 0.9.6 was not tested with this release" in caplog.text


@pytest.mark.parametrize(("found", "missing"), [((None, "5.6.0"), "llamafactory"), (("0.9.5", None), "transformers")])
def test_what_is_not_installed_is_named(install, monkeypatch, found, missing):
    install(*found)
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    with pytest.raises(IncompatibleError, match=rf"^{missing} is not installed\. Install versions that were tested"):
        versions.require()
