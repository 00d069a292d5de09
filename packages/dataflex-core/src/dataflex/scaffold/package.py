"""Filling in the templates of a component package."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from dataflex import __version__
from dataflex.errors import ConfigError
from dataflex.kinds import KINDS
from dataflex.scaffold.names import Names
from dataflex.spec import API

_SUFFIX = ".txt"
_COMMON = "package"


_PLACES = r"@\{(?P<braced>[a-z_]+)\}|(?P<escaped>(?!))|(?P<named>(?!))|(?P<invalid>(?!))"


class _At(Template):
    """``@{name}``: a dollar would collide with shell and CI files, braces alone with Python."""

    delimiter = "@"
    pattern = _PLACES  # type: ignore[assignment]  # the base class compiles it, and keeps it under the same name


def write_package(names: Names, out: Path) -> list[Path]:
    """Write a complete package.

    Args:
        names: What it is called.
        out: The folder to put its folder in.

    Returns:
        The files, relative to the package's folder, in order.

    Raises:
        ConfigError: if the package's folder exists and is not empty.
    """
    folder = out / names.dist
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists already. Choose another name, or another folder with --out.")
    templates = files("dataflex.scaffold") / "templates"
    values = _values(names)
    written = []
    for part in (_COMMON, KINDS[names.kind].template):
        for place, template in _walk(templates / part, ""):
            path = Path(_At(place.removesuffix(_SUFFIX)).substitute(values))
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            text = _At(template.read_text(encoding="utf-8")).substitute(values)
            (folder / path).write_text(text, encoding="utf-8")
            written.append(path)
    return sorted(written)


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found = []
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        place = f"{prefix}{item.name}"
        found += _walk(item, f"{place}/") if item.is_dir() else [(place, item)]
    return found


def _values(names: Names) -> dict[str, str]:
    major, minor = __version__.split(".")[:2]
    return {
        "kind": names.kind.value,
        "plural": names.kind.plural,
        "name": names.name,
        "dist": names.dist,
        "module": names.module,
        "stem": names.stem,
        "library": KINDS[names.kind].library,
        "api": str(API),
        "core": f">={major}.{minor},<{major}.{int(minor) + 1}",
    }
