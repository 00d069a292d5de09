"""``nox -s wheels``: build every distribution, install from the wheels alone, list, train.

With ``--fresh`` the libraries are installed as well, from the index that pip is configured for: 6.6 GB.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from building import build_all
from clean_environment import CleanEnvironment
from commands import say
from dists import ROOT, Dist, read_dists
from trial_runs import STEPS, train, write_tiny

TRAINED = (("selector", "loss"), ("mixer", "loss"), ("weighter", "loss"), ("orderer", "folding"))


def main() -> None:
    """Do it all; exits with what went wrong."""
    parser = argparse.ArgumentParser(prog="nox -s wheels --", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="install the libraries anew, too")
    fresh = parser.parse_args().fresh
    dists = read_dists()
    with tempfile.TemporaryDirectory(prefix="dataflex-wheels-") as name:
        folder = Path(name)
        wheels = build_all(dists, folder / "dist")
        environment = CleanEnvironment(ROOT / ".nox" / "wheels", linked=not fresh)
        if fresh:
            environment.install(*wheels)
        else:
            environment.install("--find-links", folder / "dist", *_wanted(dists))
        _expect_installed(environment, dists)
        _expect_listed(environment, dists, folder)
        write_tiny(environment, folder)
        for kind, component in TRAINED:
            train(environment, kind, component, folder)
            say(f"{kind} {component}: trained {STEPS} steps.")


def _wanted(dists: list[Dist]) -> list[str]:
    """Core, and the meta distributions that have to bring all the rest."""
    members = {requirement.name for dist in dists if not dist.group for requirement in dist.requirements}
    return [dist.name for dist in dists if dist.name not in members or not dist.group]


def _expect_installed(environment: CleanEnvironment, dists: list[Dist]) -> None:
    code = (
        "import json, sysconfig, dataflex; from importlib.metadata import distributions; "
        "own = distributions(path=[sysconfig.get_path('purelib')]); "
        "print(json.dumps([dataflex.__file__, {dist.name: dist.version for dist in own}]))"
    )
    file, installed = json.loads(environment.ask(code))
    if not Path(file).is_relative_to(environment.packages):
        sys.exit(f"dataflex was imported from {file}, not from its wheel.")
    wrong = [dist.name for dist in dists if installed.get(dist.name) != str(dist.version)]
    if wrong:
        sys.exit(f"Not installed, or in another version: {', '.join(wrong)}.")
    say(f"{len(dists)} distributions installed from wheels alone.")


def _expect_listed(environment: CleanEnvironment, dists: list[Dist], folder: Path) -> None:
    rows = json.loads(environment.dataflex("list-components", "--json", cwd=folder))
    listed = {(row["kind"], row["name"], row["dist"], row["status"]) for row in rows}
    wanted = {(*one, dist.name, "loaded") for dist in dists if dist.group for one in dist.components}
    if listed != wanted:
        sys.exit(f"list-components shows {sorted(map(str, listed))}, not {sorted(map(str, wanted))}.")
    say(f"{len(rows)} components listed.")


if __name__ == "__main__":
    main()
