"""Makes packages-COMMIT.zip: the component packages of a commit as they were, importable, with metadata beside them.

    python tests/old_code/make_packages.py f3a71b2
    python tests/old_code/make_packages.py f3a71b2 --core    # core-COMMIT.tar.xz, the core of that commit, too

The sources are unchanged. The metadata ask for a core below 0.2, as that of then did: whoever installs them beside a
later core overrides that.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
_EARLY = (1980, 1, 1, 0, 0, 0)  # so that the same commit makes the same file


def main(commit: str, *, core: bool = False) -> None:
    """Write the file for one commit; with ``core``, that of its core too."""
    archive = subprocess.run(
        ["git", "archive", commit, "packages"], cwd=HERE.parents[1], capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {item.name: _read(tar, item) for item in tar.getmembers() if item.isfile()}
    with zipfile.ZipFile(HERE / f"packages-{commit}.zip", "w", zipfile.ZIP_DEFLATED) as kept:
        for name in sorted(files):
            _, group, *rest = Path(name).parts
            if group == "dataflex-core" or len(rest) < 2:
                continue
            if rest[1] == "src":
                _add(kept, "/".join(rest[2:]), files[name])
            elif rest[1:] == ["pyproject.toml"]:
                _add_metadata(kept, tomllib.loads(files[name].decode())["project"])

    if core:
        with tarfile.open(HERE / f"core-{commit}.tar.xz", "w:xz") as packed:
            for name in sorted(files):
                _, group, *rest = Path(name).parts
                if group == "dataflex-core" and rest[0] == "src":
                    info = tarfile.TarInfo("/".join(rest[1:]))
                    info.size = len(files[name])
                    packed.addfile(info, io.BytesIO(files[name]))


def _read(tar: tarfile.TarFile, item: tarfile.TarInfo) -> bytes:
    found = tar.extractfile(item)
    assert found is not None
    return found.read()


def _add(kept: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _EARLY)
    info.compress_type = zipfile.ZIP_DEFLATED
    kept.writestr(info, content)


def _add_metadata(kept: zipfile.ZipFile, project: dict) -> None:
    name, version = project["name"], project.get("version", "0.1.0")
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {need}\n" for need in project["dependencies"])
    _add(kept, f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}".encode())
    groups = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        for group, points in project.get("entry-points", {}).items()
    )
    _add(kept, f"{folder}/entry_points.txt", groups.encode())


if __name__ == "__main__":
    main(sys.argv[1], core="--core" in sys.argv)
