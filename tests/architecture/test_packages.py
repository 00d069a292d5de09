"""Each package of the repository is complete, and its metadata says what its source does."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest
from importlib_metadata import packages_distributions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]


distributions = cache(packages_distributions)


@dataclass(frozen=True)
class Package:
    folder: Path
    project: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.project["name"])

    @property
    def is_meta(self) -> bool:
        return not (self.folder / "src").exists()

    @property
    def requirements(self) -> dict[str, Requirement]:
        extras = self.project.get("optional-dependencies", {}).values()
        listed = [*self.project.get("dependencies", ()), *(item for extra in extras for item in extra)]
        parsed = [Requirement(item) for item in listed]
        return {canonicalize_name(requirement.name): requirement for requirement in parsed}

    @cached_property
    def imported_modules(self) -> set[str]:
        """Top-level modules imported anywhere in the source when it runs, inside functions included."""
        names: set[str] = set()
        for path in self.folder.glob("src/**/*.py"):
            for node in _executed(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.partition(".")[0])
        own = {path.name for path in self.folder.glob("src/*")}
        return names - own - set(sys.stdlib_module_names)


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _executed(node)


def _packages() -> list[Package]:
    found = [*ROOT.glob("packages/*/pyproject.toml"), *ROOT.glob("packages/*/*/pyproject.toml")]
    return [Package(path.parent, tomllib.loads(path.read_text(encoding="utf-8"))["project"]) for path in sorted(found)]


PACKAGES = _packages()
every_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
OWN_MODULES = {path.name: package.name for package in PACKAGES for path in package.folder.glob("src/*")}
every_package_with_code = pytest.mark.parametrize(
    "package", [package for package in PACKAGES if not package.is_meta], ids=lambda package: package.name
)


def test_the_repository_holds_the_packages_the_readme_lists() -> None:
    listed = re.findall(r"^\| \[`(dataflex-[\w-]+)`\]", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(package.name for package in PACKAGES)


@every_package
def test_a_package_has_a_readme_and_a_changelog(package: Package) -> None:
    assert package.name in (package.folder / "README.md").read_text(encoding="utf-8")
    assert "<!-- towncrier release notes start -->" in (package.folder / "CHANGELOG.md").read_text(encoding="utf-8")


@every_package
def test_a_package_brings_the_licence(package: Package) -> None:
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert (package.folder / "LICENSE").read_text(encoding="utf-8") == licence


@every_package_with_code
def test_a_package_with_code_has_tests(package: Package) -> None:
    assert list(package.folder.glob("tests/**/test_*.py"))


@every_package
def test_a_package_lies_where_its_name_says(package: Package) -> None:
    path = package.folder.relative_to(ROOT / "packages").parts
    assert package.name == "-".join([path[0], *path[1:]])


def _providers() -> dict[str, set[str]]:
    """Distributions by the top-level module they provide; a package installed in place does not tell.

    What an extra asks for need not be installed: it is called as its module then.
    """
    installed = {module: set(map(canonicalize_name, names)) for module, names in distributions().items()}
    return {**installed, **{module: {name} for module, name in OWN_MODULES.items()}}


@every_package_with_code
def test_what_the_source_imports_is_declared(package: Package) -> None:
    providers = _providers()
    candidates = {module: providers.get(module, {module}) for module in package.imported_modules}
    assert {module: names for module, names in candidates.items() if not names & set(package.requirements)} == {}


@every_package_with_code
def test_what_is_declared_is_imported_by_the_source(package: Package) -> None:
    providers = _providers()
    used = {name for module in package.imported_modules for name in providers.get(module, {module})}
    assert set(package.requirements) - used == set()


@pytest.mark.parametrize(
    "package", [package for package in PACKAGES if package.is_meta], ids=lambda package: package.name
)
def test_a_meta_package_brings_every_package_of_its_folder(package: Package) -> None:
    members = {member.name for member in PACKAGES if member.folder.parent == package.folder}
    assert set(package.requirements) == (members or {"dataflex-core"})


@every_package
def test_the_bounds_on_packages_of_the_repository_hold_the_versions_they_have(package: Package) -> None:
    versions = {other.name: Version(other.project["version"]) for other in PACKAGES}
    for name, requirement in package.requirements.items():
        if name in versions:
            operators = {specifier.operator for specifier in requirement.specifier}
            assert operators == {">=", "<"}, f"{requirement} needs a lower and an upper bound"
            assert versions[name] in requirement.specifier, f"{requirement} excludes {versions[name]}"


@every_package
def test_the_tested_versions_are_within_the_bounds(package: Package) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    tested = {canonicalize_name(name): Version(version) for name, version in pinned.items()}
    own = {other.name for other in PACKAGES}
    for name, requirement in package.requirements.items():
        if name not in own:
            assert name in tested, f"{name} has no tested version in constraints.txt"
            assert tested[name] in requirement.specifier, f"{requirement} excludes the tested {tested[name]}"


def test_the_import_package_of_core_has_the_version_of_its_metadata() -> None:
    import dataflex

    core = next(package for package in PACKAGES if package.name == "dataflex-core")
    assert dataflex.__version__ == core.project["version"]
