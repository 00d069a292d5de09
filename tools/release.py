"""``nox -s release -- DIST``: build one distribution with its changelog, and print the tag. Nothing is uploaded.

Without ``--yes`` nothing in the working tree changes: the changelog is only shown, and what is built goes to ``dist/``
for a look. With it, the fragments become the changelog, which is then in what is built.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from building import build_all
from commands import run, say
from dists import ROOT, Dist, read_dists
from releases import released

FRAGMENT = re.compile(r".+\.(added|changed|fixed|removed)(\.\d+)?\.md")


def main() -> None:
    """Do it; exits with what stands in the way."""
    parser = argparse.ArgumentParser(prog="nox -s release --", description=__doc__)
    parser.add_argument("dist", metavar="DIST", help="name of the distribution")
    parser.add_argument("--yes", action="store_true", help="turn the fragments into the changelog")
    options = parser.parse_args()
    dists = {dist.name: dist for dist in read_dists()}
    if options.dist not in dists:
        sys.exit(f"There is no distribution {options.dist!r}. There are: {', '.join(dists)}.")
    dist = dists[options.dist]
    obstacles = list(_obstacles(dist, dists))
    if obstacles and options.yes:
        sys.exit("\n".join(obstacles))
    out = ROOT / "dist"
    (wheel,) = build_all([dist], out)
    say(_changelog(dist, write=options.yes))
    if options.yes:
        build_all([dist], out)  # once more: the changelog belongs to the source distribution
    say(f"In {out}: {wheel.name} and its source distribution.")
    say(_next_steps(dist) if options.yes else _after_rehearsal(dist, obstacles))


def _obstacles(dist: Dist, dists: dict[str, Dist]) -> Sequence[str]:
    found = []
    path = dist.folder.relative_to(ROOT)
    if dist.version in released(dist.name):
        found.append(f"{dist.tag} exists: raise the version in {path}/pyproject.toml.")
    if not any(FRAGMENT.fullmatch(item.name) for item in (dist.folder / "changes").glob("*")):
        found.append(f"{path}/changes holds no fragment: nothing to release.")
    if run("git", "status", "--porcelain", cwd=ROOT):
        found.append("The working tree is not clean: commit or stash first, so that the tag is what was built.")
    for requirement in dist.requirements:
        if requirement.name in dists and not list(requirement.specifier.filter(released(requirement.name))):
            found.append(f"{dist.name} needs {requirement}, and no such version has a tag: release that one first.")
    return found


def _changelog(dist: Dist, *, write: bool) -> str:
    how = ("--yes",) if write else ("--draft",)
    where = ("--config", ROOT / "pyproject.toml", "--dir", dist.folder, "--version", dist.version)
    said = run(sys.executable, "-m", "towncrier", "build", *where, *how, cwd=ROOT)
    return f"{dist.folder.relative_to(ROOT)}/CHANGELOG.md has the release now." if write else said


def _next_steps(dist: Dist) -> str:
    return f"""Next, by hand:
  git commit -am 'Release {dist.name} {dist.version}'
  git tag -a {dist.tag} -m '{dist.name} {dist.version}'
  git push --follow-tags"""


def _after_rehearsal(dist: Dist, obstacles: Sequence[str]) -> str:
    lines = ["In the way of a release:", *obstacles] if obstacles else []
    lines += [f"The tag will be {dist.tag}.", f"Nothing was changed. For real: nox -s release -- {dist.name} --yes"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
