"""A release of one package, and the tests against an older core, in a small repository of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE, RANDOM = "packages/dataflex-core", "packages/dataflex-selectors/random"
DIST = "dataflex-selectors-random"
GIT = ("git", "-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("git") is None, reason="needs git")]
Tool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The tools, core and one component package, committed."""
    folder = tmp_path / "repository"
    for part in ("tools", f"{CORE}/src", f"{RANDOM}/src", f"{RANDOM}/changes"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    names = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")
    for file in ("pyproject.toml", ".gitignore", *(f"{part}/{name}" for part in (CORE, RANDOM) for name in names)):
        shutil.copy(ROOT / file, folder / file)
    changes = folder / RANDOM / "changes"
    shutil.rmtree(changes)
    changes.mkdir()
    (changes / "+draws.added.md").write_text("Draws without looking.\n")
    (folder / RANDOM / "tests").mkdir()
    (folder / RANDOM / "tests" / "test_core.py").write_text(_expects("0.2.0"))
    (folder / "tests" / "support").mkdir(parents=True)
    _version(folder / CORE, "0.2.0")
    _version(folder / RANDOM, "0.1.0")
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


@pytest.fixture
def tool(repository: Path) -> Tool:
    """Run one of the repository's tools."""

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(repository / "tools" / f"{name}.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        sys.stderr.write(done.stdout + done.stderr)
        return done

    return run


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run([*GIT, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Change something")


def _version(package: Path, version: str) -> None:
    """Write a version where the package has it."""
    for path in [package / "pyproject.toml", *package.glob("src/dataflex/__init__.py")]:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        key = "version = " if path.suffix == ".toml" else "__version__ = "
        text = "".join(f'{key}"{version}"\n' if line.startswith(key) else line for line in lines)
        path.write_text(text, encoding="utf-8")


def _expects(version: str) -> str:
    return f"import dataflex\n\n\ndef test_it_is_this_core():\n    assert dataflex.__version__ == {version!r}\n"


def test_a_rehearsal_shows_the_changelog_and_the_tag_and_changes_nothing(repository: Path, tool: Tool) -> None:
    done = tool("release", DIST)
    assert done.returncode == 0
    assert "Draws without looking." in done.stdout
    assert f"The tag will be {DIST}-v0.1.0." in done.stdout
    assert f"{DIST} needs dataflex-core<0.3,>=0.2, and no such version has a tag" in done.stdout
    assert git(repository, "status", "--porcelain") == ""


def test_a_release_needs_its_core_released_a_clean_tree_and_a_version_of_its_own(repository: Path, tool: Tool) -> None:
    (repository / RANDOM / "README.md").write_text("changed\n")
    refused = tool("release", DIST, "--yes")
    assert refused.returncode == 1
    assert "working tree is not clean" in refused.stderr
    assert "dataflex-core<0.3,>=0.2, and no such version has a tag: release that one first" in refused.stderr
    commit(repository)
    for tag in ("dataflex-core-v0.2.0", f"{DIST}-v0.1.0"):
        git(repository, "tag", tag)
    refused = tool("release", DIST, "--yes")
    assert refused.returncode == 1
    assert refused.stderr.strip() == f"{DIST}-v0.1.0 exists: raise the version in {RANDOM}/pyproject.toml."
    assert list((repository / RANDOM / "changes").iterdir())


def test_a_release_puts_the_changelog_into_what_is_built_and_says_which_tag_to_push(
    repository: Path, tool: Tool
) -> None:
    git(repository, "tag", "dataflex-core-v0.2.0")
    done = tool("release", DIST, "--yes")
    assert done.returncode == 0
    assert f"git tag -a {DIST}-v0.1.0" in done.stdout
    assert not list((repository / RANDOM).glob("changes/*.md"))
    changelog = (repository / RANDOM / "CHANGELOG.md").read_text()
    assert "## 0.1.0" in changelog
    assert "- Draws without looking." in changelog
    (source,) = (repository / "dist").glob("*.tar.gz")
    with tarfile.open(source) as archive:
        inside = archive.extractfile(f"{source.name.removesuffix('.tar.gz')}/CHANGELOG.md")
        assert inside is not None
        assert inside.read().decode() == changelog
    (wheel,) = (repository / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "dataflex_selectors_random/plugin.py" in archive.namelist()


def test_a_package_that_names_an_older_core_is_tested_against_that_one(repository: Path, tool: Tool) -> None:
    own = tool("oldest_core")
    assert own.returncode == 0
    assert own.stdout.strip() == f"{DIST}: its oldest core, 0.2, is this tree's own, as in nox -s tests."

    git(repository, "tag", "dataflex-core-v0.2.0")
    _version(repository / CORE, "0.3.0")
    metadata = repository / RANDOM / "pyproject.toml"
    metadata.write_text(metadata.read_text().replace("dataflex-core>=0.2,<0.3", "dataflex-core>=0.2,<0.4"))
    commit(repository)
    older = tool("oldest_core")
    assert older.returncode == 0
    assert older.stdout.strip() == f"{DIST}: its tests pass against its oldest core, 0.2."

    (repository / RANDOM / "tests" / "test_core.py").write_text(_expects("0.3.0"))
    failing = tool("oldest_core")
    assert failing.returncode == 1
    assert "assert '0.2.0' == '0.3.0'" in failing.stderr


def test_a_bound_that_names_no_release_is_refused(repository: Path, tool: Tool) -> None:
    metadata = repository / RANDOM / "pyproject.toml"
    metadata.write_text(metadata.read_text().replace("dataflex-core>=0.2,<0.3", "dataflex-core>=0.0.9,<0.3"))
    done = tool("oldest_core")
    assert done.returncode == 1
    assert f"{DIST} names dataflex-core 0.0.9 as the oldest it works with. There is no such release." in done.stderr
