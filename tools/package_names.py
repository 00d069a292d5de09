"""The packages, as the folders say, and the lists of ``pyproject.toml`` that hold their import names and sources.

``python tools/package_names.py`` writes the lists anew; a test compares.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = "dataflex"
_LIST = re.compile(r'^(?P<key>[\w-]+) = \[(?P<core>"dataflex", )?"dataflex_\w+"(?:, "dataflex_\w+")*\]$', re.MULTILINE)

_SOURCES = re.compile(r'(?:^  "packages/[\w/-]+/src",\n)+', re.MULTILINE)


def component_modules(root: Path = ROOT) -> list[str]:
    """Import names of the component packages, in order: of ``packages/GROUP/NAME/src`` and ``packages/GROUP/src``."""
    found = [*root.glob("packages/*/*/src/*/__init__.py"), *root.glob("packages/*/src/*/__init__.py")]
    return sorted(path.parent.name for path in found if path.parent.name != CORE)


def sources(root: Path = ROOT) -> list[str]:
    """Source folders of all packages, in order."""
    found = [*root.glob("packages/*/src"), *root.glob("packages/*/*/src")]
    return sorted(path.relative_to(root).as_posix() for path in found if any(path.glob("*/__init__.py")))


def with_sources(text: str, folders: list[str]) -> tuple[str, int]:
    """Put folders into every list of a ``pyproject.toml`` that holds sources of packages; and how many there are."""
    return _SOURCES.subn("".join(f'  "{folder}",\n' for folder in folders), text)


def with_names(text: str, names: list[str]) -> tuple[str, int]:
    """Put names into every list of a ``pyproject.toml`` that holds import names of component packages.

    Args:
        text: The file.
        names: What the lists are to hold; those that begin with ``dataflex`` itself still do.

    Returns:
        The new text, and how many lists there are.
    """
    quoted = ", ".join(f'"{name}"' for name in names)
    return _LIST.subn(lambda found: f"{found['key']} = [{found['core'] or ''}{quoted}]", text)


def write_lists(root: Path = ROOT) -> None:
    """Write the lists of the root ``pyproject.toml`` anew."""
    path = root / "pyproject.toml"
    text, _ = with_names(path.read_text(encoding="utf-8"), component_modules(root))
    text, _ = with_sources(text, sources(root))
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_lists()
