"""What contributors are told to run exists, and lists of names follow from the folders."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TOOLS = runpy.run_path(str(ROOT / "tools" / "package_names.py"))
METAS = [path.parent for path in sorted(ROOT.glob("packages/*/pyproject.toml")) if not (path.parent / "src").exists()]


def _text(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def _sessions() -> list[str]:
    functions = [node for node in ast.parse(_text("noxfile.py")).body if isinstance(node, ast.FunctionDef)]
    return [each.name for each in functions if any("nox.session" in ast.unparse(mark) for mark in each.decorator_list)]


def test_contributing_lists_every_session() -> None:
    listed = re.findall(r"^\|[^|]+\| `nox -s (\w+)", _text("CONTRIBUTING.md"), re.MULTILINE)
    assert sorted(listed) == sorted(_sessions())


def test_every_module_that_tests_share_is_explained() -> None:
    explained = re.findall(
        r"^\| `(\w+)` \|", _text("tests", "README.md").partition("## What tests share")[2], re.MULTILINE
    )
    assert sorted(explained) == sorted(path.stem for path in (ROOT / "tests" / "support").glob("*.py"))


def test_no_two_modules_that_tests_import_have_one_name() -> None:
    """They are imported by their bare names, so of two in one process the first would stand for both."""
    found: dict[str, list[str]] = {}
    for folder in ("packages", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            if "tests" in path.relative_to(ROOT).parts and not path.name.startswith(("test_", "conftest", "__init__")):
                found.setdefault(path.name, []).append(str(path.relative_to(ROOT)))
    assert found["embedded_pools.py"] == ["tests/support/embedded_pools.py"]
    assert [paths for paths in found.values() if len(paths) > 1] == []


def test_every_list_of_component_packages_holds_those_that_there_are() -> None:
    text = _text("pyproject.toml")
    modules: list[str] = TOOLS["component_modules"]()
    renewed, lists = TOOLS["with_names"](text, modules)
    assert lists >= 6, "a list of pyproject.toml is not written as one line of names any more"
    assert renewed == text, "python tools/package_names.py writes the lists anew"
    folders = TOOLS["sources"]()
    renewed, lists = TOOLS["with_sources"](text, folders)
    assert "packages/dataflex-core/src" in folders and lists == 2, "files and mypy_path of mypy"
    assert renewed == text, "python tools/package_names.py writes the lists anew"
    assert [name for name in modules if name not in text] == []


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_install_command_names_every_package_before_its_meta_package(readme: str) -> None:
    installed = re.findall(r"-e (packages/[\w/-]+)", _text(readme))
    folders = [path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("packages/**/pyproject.toml")]
    assert sorted(installed) == sorted(folders)
    for folder in (path.relative_to(ROOT).as_posix() for path in METAS):
        members = [each for each in installed if each.startswith(f"{folder}/")]
        assert all(installed.index(member) < installed.index(folder) for member in members)


def test_hooks_call_tools_of_the_shared_environment() -> None:
    hooks = [hook for repo in yaml.safe_load(_text(".pre-commit-config.yaml"))["repos"] for hook in repo["hooks"]]
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "end-of-file", "large-files"}
    for hook in hooks:
        assert hook["language"] == "system"
        assert hook["entry"].split()[0] == "tools/in_environment"
    assert all(f'"{tool}"' in _text("noxfile.py") for tool in ("ruff", "pre-commit", "pre-commit-hooks"))


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_a_tool_is_looked_for_in_the_environment_or_the_command_that_builds_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    tool = shutil.copy(ROOT / "tools" / "in_environment", tmp_path / "tools")
    missing = subprocess.run([tool, "ruff"], capture_output=True, text=True, check=False)
    assert (missing.returncode, missing.stderr.strip().endswith("nox -s environment")) == (1, True)
    (tmp_path / ".nox").mkdir()
    (tmp_path / ".nox" / "environment.sh").write_text("export OF_THE_ENVIRONMENT=yes\n")
    found = subprocess.run(
        [tool, "sh", "-c", "echo $OF_THE_ENVIRONMENT $0", "file"], capture_output=True, text=True, check=True
    )
    assert found.stdout == "yes file\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """What tells the packages of this repository: metadata, READMEs, folders."""
    parts = ("pyproject.toml", "README.md", "README.zh-CN.md", "LICENSE")
    inner = ("pyproject.toml", "README.md", "src/*/__init__.py")
    for pattern in (*parts, *(f"packages/**/{part}" for part in inner)):
        for path in ROOT.glob(pattern):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return tmp_path


def test_a_new_package_is_written_and_entered_everywhere(repository: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "new_package.py"), "mixer", "two-words", "--root", str(repository)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("packages/dataflex-mixers/two-words is written and entered.")
    folder, dist = repository / "packages/dataflex-mixers/two-words", "dataflex-mixers-two-words"
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    module = "src/dataflex_mixers_two_words"
    assert written == {
        *("CHANGELOG.md", "LICENSE", "README.md", "changes/+foundation.added.md", "pyproject.toml"),
        *(f"{module}/{name}" for name in ("__init__.py", "mixer.py", "params.py", "plugin.py", "py.typed")),
        "tests/test_two_words_mixer.py",
    }
    assert not any("@{" in (folder / path).read_text(encoding="utf-8") for path in written)
    project = _project(folder)
    other = _project(ROOT / "packages/dataflex-mixers/random")
    assert project["name"] == dist and set(project) == set(other)
    assert project["dependencies"] == other["dependencies"]
    assert project["entry-points"] == {"dataflex.components": {"two-words": "dataflex_mixers_two_words.plugin"}}
    assert f"{dist}>=0.1,<0.2" in _project(folder.parent)["dependencies"]
    lists = (repository / "pyproject.toml").read_text(encoding="utf-8").count('"dataflex_mixers_two_words"')
    assert lists == _text("pyproject.toml").count('"dataflex_mixers_random"')
    tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    for readme in ("README.md", "README.zh-CN.md"):
        text = (repository / readme).read_text(encoding="utf-8")
        assert f"| [`{dist}`](packages/dataflex-mixers/two-words) |" in text
        assert "-e packages/dataflex-mixers/two-words -e packages/dataflex-mixers\n" in text.replace(" \\\n", "\n")
    assert f"| [`{dist}`](two-words) |" in (folder.parent / "README.md").read_text(encoding="utf-8")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1 and "two-words exists already" in again.stderr


def _project(folder: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project
