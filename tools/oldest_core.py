"""``nox -s oldest_core``: the tests of each component package against the oldest core that it names.

That is the lower bound of its requirement on ``dataflex-core``. Where it is the version of this tree, ``nox -s tests``
has done it, and only that is said. An older one is built from its tag, installed into a clean environment together
with the package as it is now, and the package's tests run there. What follows ``--`` goes to pytest.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from building import build, build_folder
from clean_environment import CleanEnvironment
from commands import run, say
from dists import CORE, ROOT, Dist, read_dists, tag
from packaging.version import Version
from releases import released


def main() -> None:
    """Do it for every component package; exits with the first failure."""
    core, *others = read_dists()
    known = {core.version, *released(CORE)}
    with tempfile.TemporaryDirectory(prefix="dataflex-oldest-core-") as name:
        for dist, oldest in _bounds(others):
            if oldest == core.version:
                say(f"{dist.name}: its oldest core, {oldest}, is this tree's own, as in nox -s tests.")
            elif oldest in known:
                _test(dist, oldest, Path(name))
                say(f"{dist.name}: its tests pass against its oldest core, {oldest}.")
            else:
                sys.exit(f"{dist.name} names {CORE} {oldest} as the oldest it works with. There is no such release.")


def _bounds(dists: list[Dist]) -> Iterator[tuple[Dist, Version]]:
    for dist in dists:
        if not dist.group:
            continue  # a meta distribution: its members say which core they need
        need = dist.needs(CORE)
        lower = [Version(part.version) for part in (need.specifier if need else ()) if part.operator == ">="]
        if len(lower) != 1:
            sys.exit(f"{dist.name} names no oldest {CORE}. Write {CORE}>=X,<Y in its pyproject.toml.")
        yield dist, lower[0]


def _test(dist: Dist, oldest: Version, folder: Path) -> None:
    environment = CleanEnvironment(ROOT / ".nox" / "oldest-core")
    environment.install(_wheel_of_tag(oldest, folder), build(dist, folder))
    found = environment.ask("import dataflex; print(dataflex.__version__)")
    if Version(found) != oldest:
        sys.exit(f"dataflex {found} was imported, not {oldest}.")
    run(environment.python, "-m", "pytest", "-q", *sys.argv[1:], dist.folder / "tests", cwd=ROOT)


def _wheel_of_tag(version: Version, folder: Path) -> Path:
    # The tag's own spelling: 0.1 in a bound is 0.1.0 in a tag.
    spelt = next(tagged for tagged in released(CORE) if tagged == version)
    command = ["git", "archive", tag(CORE, spelt), f"packages/{CORE}"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    source = folder / f"core-{spelt}"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(source, filter="data")
    return build_folder(source / "packages" / CORE, folder)


if __name__ == "__main__":
    main()
