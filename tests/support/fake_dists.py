"""Distributions in a folder, as pip would have left them there; the folder goes on ``PYTHONPATH``."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

METADATA = "Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n"


def install(site: Path, dist: str, code: str, *, version: str = "1.0") -> None:
    """Install a module and the metadata of a distribution that provides it as a plugin."""
    module = dist.replace("-", "_")
    (site / f"{module}.py").write_text(dedent(code), encoding="utf-8")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA.format(dist=dist, version=version), encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[dataflex.components]\nmain = {module}\n", encoding="utf-8")
