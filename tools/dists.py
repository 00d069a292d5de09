"""The distributions of this repository, as their ``pyproject.toml`` describes them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
CORE = "dataflex-core"


@dataclass(frozen=True)
class Dist:
    """One distribution.

    Attributes:
        name: Its name.
        version: The version in its metadata.
        folder: Where it lies.
        requirements: What it needs, extras left out.
        group: Entry points in ``dataflex.components``: it is a component package if there are any.
    """

    name: str
    version: Version
    folder: Path
    requirements: tuple[Requirement, ...]
    group: tuple[str, ...]

    @property
    def tag(self) -> str:
        """The tag of this version in git."""
        return tag(self.name, self.version)

    @property
    def components(self) -> tuple[tuple[str, str], ...]:
        """Kind and name of each component of a component package; its folder says both, or its plugin where several."""
        if self.folder.parent.name == "packages":
            return tuple(_listed(self.folder, self.name.removeprefix("dataflex-").removesuffix("s")))
        return ((self.folder.parent.name.removeprefix("dataflex-").removesuffix("s"), self.folder.name),)

    def needs(self, name: str) -> Requirement | None:
        """What it asks of another distribution."""
        return next((requirement for requirement in self.requirements if requirement.name == name), None)


def _listed(folder: Path, kind: str) -> Iterator[tuple[str, str]]:
    """Components of a package that holds all of a kind: a class of parameters each."""
    for path in folder.glob("src/*/params.py"):
        for stem in re.findall(r"^class (\w+)Params\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield kind, stem.lower()


def tag(name: str, version: Version | str) -> str:
    """The tag of a version in git."""
    return f"{name}-v{version}"


def read_dists(root: Path = ROOT) -> list[Dist]:
    """Every distribution of the repository, core first."""
    return sorted(_read(root), key=lambda dist: (dist.name != CORE, dist.name))


def _read(root: Path) -> Iterator[Dist]:
    for path in [*root.glob("packages/*/pyproject.toml"), *root.glob("packages/*/*/pyproject.toml")]:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        yield Dist(
            name=project["name"],
            version=Version(project["version"]),
            folder=path.parent,
            requirements=tuple(map(Requirement, project.get("dependencies", ()))),
            group=tuple(project.get("entry-points", {}).get("dataflex.components", ())),
        )
