"""What has been released, as git's tags tell."""

from __future__ import annotations

from commands import run
from dists import ROOT, tag
from packaging.version import InvalidVersion, Version


def released(name: str) -> list[Version]:
    """Versions of a distribution that have a tag, oldest first."""
    prefix = tag(name, "")
    versions = []
    for line in run("git", "tag", "--list", f"{prefix}*", cwd=ROOT).splitlines():
        try:
            versions.append(Version(line.removeprefix(prefix)))
        except InvalidVersion:
            continue  # a tag of something else
    return sorted(versions)
