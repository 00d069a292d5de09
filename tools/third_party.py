"""``nox -s third_party``: what a third party's package goes through, from the scaffold to its removal.

Core is installed from its wheel into a clean environment, and nothing else of this repository: no editable package, no
component. For one component of each kind: scaffold, build, install, list, check, train four steps, uninstall, gone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from building import build, build_folder
from clean_environment import CleanEnvironment
from commands import say
from dists import CORE, ROOT, read_dists
from trial_runs import STEPS, expect_steps, write_tiny

from dataflex.kinds import Kind

NAME = "mine"


def main() -> None:
    """Do it all; exits with what went wrong."""
    core = next(dist for dist in read_dists() if dist.name == CORE)
    with tempfile.TemporaryDirectory(prefix="dataflex-third-party-") as name:
        folder = Path(name)
        environment = CleanEnvironment(ROOT / ".nox" / "third-party")
        environment.install(build(core, folder / "dist"))
        before = _listed(environment, folder)
        for kind in Kind:
            _follow(environment, kind, folder)
            if _listed(environment, folder) != before:
                sys.exit(f"{NAME}-{kind} was uninstalled and is still listed.")
            say(f"{kind} {NAME}: built, installed, listed, checked, trained {STEPS} steps, uninstalled, gone.")


def _follow(environment: CleanEnvironment, kind: str, folder: Path) -> None:
    environment.dataflex("new-component", kind, NAME, cwd=folder)
    dist, source = f"{NAME}-{kind}", folder / f"{NAME}-{kind}"
    environment.install(build_folder(source, folder / "dist"))
    if (kind, NAME, dist, "loaded") not in _listed(environment, folder):
        sys.exit(f"{dist} was installed, but list-components does not show the {kind} {NAME}.")
    environment.dataflex("check-component", NAME, cwd=folder)
    write_tiny(environment, source)
    environment.dataflex("train", "examples/run.yaml", "use_cpu=true", cwd=source)
    expect_steps(source / "runs" / NAME)
    environment.uninstall(dist)


def _listed(environment: CleanEnvironment, folder: Path) -> set[tuple[str, str, str, str]]:
    rows = json.loads(environment.dataflex("list-components", "--json", cwd=folder))
    return {(row["kind"], row["name"], row["dist"], row["status"]) for row in rows}


if __name__ == "__main__":
    main()
