"""Building distributions, and whether what was built is whole."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from commands import run, say
from dists import ROOT, Dist


def build_all(dists: Iterable[Dist], out: Path) -> list[Path]:
    """Build source distributions, a wheel from each of them, and check both; returns the wheels.

    Wheels come from source distributions, not from the folders: whoever builds from source gets the same.
    """
    out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        wheels = list(pool.map(partial(build, out=out), dists))
    run(sys.executable, "-m", "twine", "check", "--strict", *wheels, *map(_source_of, wheels))
    say(f"Built {len(wheels)} wheels and as many source distributions; metadata in order, nothing missing.")
    return wheels


def build(dist: Dist, out: Path) -> Path:
    """Build one distribution and return its wheel."""
    wheel = build_folder(dist.folder, out)
    missing = _missing(dist, wheel)
    if missing:
        sys.exit(f"{wheel.name} lacks {', '.join(missing)}. Look at [tool.hatch.build] in {dist.folder}.")
    return wheel


def build_folder(folder: Path, out: Path) -> Path:
    """Build a source distribution and a wheel of a folder and return the wheel."""
    printed = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, folder, environ={"NO_COLOR": "1"})
    words = printed.splitlines()[-1].split()  # Successfully built A.tar.gz and B.whl
    return out / next(word for word in words if word.endswith(".whl"))


def _source_of(wheel: Path) -> Path:
    name, version = wheel.name.split("-")[:2]
    return wheel.with_name(f"{name}-{version}.tar.gz")


def _missing(dist: Dist, wheel: Path) -> list[str]:
    """Files that git has under ``src`` and the wheel has not, and the licence."""
    source = dist.folder.relative_to(ROOT) / "src"
    listed = subprocess.run(["git", "ls-files", source], cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = [str(Path(line).relative_to(source)) for line in listed.stdout.splitlines()]
    wanted.append(f"{'-'.join(wheel.name.split('-')[:2])}.dist-info/licenses/LICENSE")
    with zipfile.ZipFile(wheel) as archive:
        return sorted(set(wanted) - set(archive.namelist()))
