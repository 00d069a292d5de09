"""``python tools/new_package.py selector NAME``: a component package of this repository, from the scaffold.

It writes ``packages/dataflex-selectors/NAME`` and enters the package wherever its name has to stand: the lists of the
root ``pyproject.toml``, its meta package, the READMEs. What needs a person is printed at the end.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dists import ROOT
from package_names import write_lists

from dataflex.kinds import KINDS, Kind
from dataflex.scaffold.names import Names
from dataflex.scaffold.package import write_package

_OURS = ("src", "tests")
"""Parts of a scaffolded package that are the same in this repository."""

_METADATA = """\
[build-system]
requires = ["hatchling>=1.25"]
build-backend = "hatchling.build"

[project]
name = "{dist}"
version = "0.1.0"
description = "{summary}"
readme = "README.md"
license = "Apache-2.0"
requires-python = ">=3.11"
keywords = ["llm", "training", "dataflex"]
classifiers = [
  "Development Status :: 4 - Beta",
  "Intended Audience :: Science/Research",
  "Programming Language :: Python :: 3.11",
  "Topic :: Scientific/Engineering :: Artificial Intelligence",
  "Typing :: Typed",
]
dependencies = ["{core}", "{library}"]

[project.entry-points."dataflex.components"]
{name} = "{module}.plugin"

[tool.hatch.build.targets.wheel]
packages = ["src/{module}"]
"""
_README = "# {dist}\n\nThe {kind} `{name}` of [DataFlex](../../../README.md).\n"
_CHANGELOG = (
    "# Changelog of {dist}\n\nWhat is not released yet lies in [changes/](changes/), one file per change.\n\n"
    "<!-- towncrier release notes start -->\n"
)


@dataclass(frozen=True)
class FirstParty(Names):
    """Names of a package of this repository: its folder is part of its name."""

    @property
    def group(self) -> str:
        """The meta package of its kind, and the folder of its members."""
        return f"dataflex-{self.kind.plural}"

    @property
    def dist(self) -> str:
        """Name of the distribution."""
        return f"{self.group}-{self.name.replace('_', '-')}"


def main() -> None:
    """Write the package that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[kind.value for kind in Kind])
    parser.add_argument("name", help="what users write as component_name")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = FirstParty(Kind(given.kind), given.name)
    folder = write(names, given.root)
    print(f"{folder.relative_to(given.root)} is written and entered. What is left:")
    print(f"  write the method: {folder.relative_to(given.root)}/src/{names.module}/{names.kind}.py")
    print("  say what it does: pyproject.toml, README.md, changes/ of the package, and its rows in the READMEs")
    print("  add a run file to examples/, and a pin to constraints.txt for every new library")
    print("  nox -s docs -- --write, nox -s lint, nox -s tests")


def write(names: FirstParty, root: Path = ROOT) -> Path:
    """Write a package and enter it.

    Args:
        names: What it is called.
        root: The repository.

    Returns:
        Its folder.
    """
    folder = root / "packages" / names.group / names.dist.removeprefix(f"{names.group}-")
    if folder.exists():
        raise SystemExit(f"{folder} exists already. Choose another name.")
    with tempfile.TemporaryDirectory() as scratch:
        write_package(names, Path(scratch))
        for part in _OURS:
            shutil.copytree(Path(scratch) / names.dist / part, folder / part)
    (folder / "tests" / f"test_{names.module}.py").rename(
        folder / "tests" / f"test_{names.name.replace('-', '_')}_{names.kind}.py"
    )
    meta = root / "packages" / names.group / "pyproject.toml"
    siblings = sorted(path.parent for path in meta.parent.glob("*/pyproject.toml"))
    core = _requirement_on_core(siblings)
    words = {
        "dist": names.dist,
        "module": names.module,
        "name": names.name,
        "kind": names.kind.value,
        "library": KINDS[names.kind].library,
        "core": core,
        "summary": f"DataFlex {names.kind} {names.name}",
    }
    for file, text in (("pyproject.toml", _METADATA), ("README.md", _README), ("CHANGELOG.md", _CHANGELOG)):
        (folder / file).write_text(text.format(**words), encoding="utf-8")
    shutil.copy(root / "LICENSE", folder / "LICENSE")
    (folder / "changes").mkdir()
    fragment = folder / "changes" / "+foundation.added.md"
    fragment.write_text(f"The {names.kind} `{names.name}`.\n", encoding="utf-8")
    write_lists(root)
    _enter_into_meta(meta, names.dist)
    for readme in ("README.md", "README.zh-CN.md"):
        _enter_into_readme(root / readme, names, folder.relative_to(root).as_posix())
    row = f"| [`{names.dist}`]({folder.name}) | `{names.name}` | {words['summary']} |"
    _insert(meta.parent / "README.md", rf"^\| \[`{names.group}-.*\n", row)
    _enter_into_install(meta.parent / "README.md", names.group, folder.name)
    return folder


def _requirement_on_core(siblings: list[Path]) -> str:
    """What the other packages of the group ask of core."""
    found = [re.search(r'"(dataflex-core[^"]*)"', (each / "pyproject.toml").read_text("utf-8")) for each in siblings]
    return next(match[1] for match in found if match)


def _enter_into_meta(path: Path, dist: str) -> None:
    """Add a member to a meta package, with the bounds that the others have."""
    text = path.read_text(encoding="utf-8")
    lines = re.findall(r'^  "dataflex-.*",$', text, re.MULTILINE)
    bounds = re.sub(r'^  "[\w-]+', "", lines[0])
    text = text.replace("\n".join(lines), "\n".join(sorted([*lines, f'  "{dist}{bounds}'])))
    path.write_text(text, encoding="utf-8")


def _enter_into_readme(path: Path, names: FirstParty, folder: str) -> None:
    row = f"| [`{names.dist}`]({folder}) | DataFlex {names.kind} {names.name} |"
    _insert(path, rf"^\| \[`{names.group}.*\n", row)
    _enter_into_install(path, names.group, folder.rpartition("/")[2])


def _insert(path: Path, rows: str, row: str) -> None:
    """Put a row after the last one like it."""
    text = path.read_text(encoding="utf-8")
    *_, last = re.finditer(rows, text, re.MULTILINE)
    path.write_text(f"{text[: last.end()]}{row}\n{text[last.end() :]}", encoding="utf-8")


def _enter_into_install(path: Path, group: str, folder: str) -> None:
    """Let pip install it before the meta package that needs it."""
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(rf"( -e packages/{group})(?=\s)", rf" -e packages/{group}/{folder}\1", text), "utf-8")


if __name__ == "__main__":
    main()
