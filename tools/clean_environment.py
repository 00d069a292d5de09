"""A virtual environment in which nothing of this repository can be found but what is installed from wheels.

PyTorch and LlamaFactory's libraries are 6.6 GB. They are not installed again: a folder of links to the libraries of
the environment that runs this stands behind the new one's own packages. Everything that has to do with DataFlex stays
out of that folder: this repository's packages, installed in place or not, other packages with DataFlex's entry points,
and every ``.pth`` file. pip sees the links as installed packages, so that it resolves the wheels' dependencies against
them, without an index.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

from commands import run
from dists import ROOT, read_dists

_GROUPS = ("dataflex.components", "dataflex.commands")
_RIVAL = "dataflex"


class CleanEnvironment:
    """A new virtual environment.

    Args:
        folder: Where; what is there is deleted.
        linked: Whether libraries are links to those of the environment that runs this.
        without: Distributions that are not linked.

    Attributes:
        python: Its interpreter.
        linked: As given.
    """

    def __init__(self, folder: Path, *, linked: bool = True, without: Collection[str] = ()) -> None:
        if folder.exists():
            shutil.rmtree(folder)
        # Linked, pip is a library like the others; venv's own setuptools would stand before a newer one.
        run(sys.executable, "-m", "venv", *(("--without-pip",) if linked else ()), folder)
        self._bin = folder / ("Scripts" if sys.platform == "win32" else "bin")
        self.python = self._bin / "python"
        self.linked = linked
        self.packages = Path(self.ask("import sysconfig; print(sysconfig.get_path('purelib'))"))
        if linked:
            libraries = folder / "libraries"
            _link(libraries, without)
            (self.packages / "libraries.pth").write_text(f"{libraries}\n", encoding="utf-8")

    def install(self, *what: str | Path) -> None:
        """Install wheels by path, or distributions by name and ``--find-links``.

        Libraries that are links are all there are; otherwise they are fetched in the versions of ``constraints.txt``.
        """
        source = ("--no-index",) if self.linked else ("-c", ROOT / "constraints.txt")
        run(self.python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *source, *what)

    def fetch(self, *what: str) -> None:
        """Install other versions of libraries from the index, with what they need of other versions than the links."""
        run(self.python, "-m", "pip", "install", "--quiet", "--upgrade", *what)

    def install_in_place(self, *folders: Path) -> None:
        """Install packages of this repository in place, without what they need."""
        editables = [argument for folder in folders for argument in ("-e", str(folder))]
        run(self.python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", *editables)

    def version(self, name: str) -> str:
        """Version of a distribution; ``""`` if it is not there."""
        code = f"import importlib.metadata as m; print(*(d.version for d in m.distributions(name={name!r})))"
        return self.ask(code).partition(" ")[0]

    def uninstall(self, name: str) -> None:
        """Take a distribution out again."""
        run(self.python, "-m", "pip", "uninstall", "--quiet", "--yes", name)

    def ask(self, code: str) -> str:
        """What a line of Python prints."""
        return run(self.python, "-c", code).strip()

    def dataflex(self, *arguments: str | Path, cwd: Path, environ: Mapping[str, str] | None = None) -> str:
        """What the installed command prints."""
        return run(self._bin / "dataflex", *arguments, cwd=cwd, environ=environ)


def _link(folder: Path, without: Collection[str]) -> None:
    """Link every library of this interpreter into a folder, as the interpreter would find it."""
    folder.mkdir()
    hidden = set(_hidden(without))
    for place in map(Path, sys.path):
        if not (place.is_dir() and any(place.glob("*.dist-info"))):
            continue  # the standard library, and the source of packages installed in place
        for item in place.iterdir():
            link = folder / item.name
            if item.name in hidden or item.suffix == ".pth" or item.name == "__pycache__" or link.is_symlink():
                continue
            link.symlink_to(item.resolve(), target_is_directory=item.is_dir())


def _hidden(without: Collection[str]) -> Iterator[str]:
    """Names of the files and folders of distributions that must not be seen."""
    own = {dist.name for dist in read_dists()} | {_RIVAL, *without}
    for dist in distributions():
        if dist.metadata["Name"] in own or any(point.group in _GROUPS for point in dist.entry_points):
            yield from _top_level(dist)


def _top_level(dist: Distribution) -> Iterable[str]:
    parts = {path.parts[0] for path in dist.files or ()}
    return parts - {"..", "__pycache__"}
