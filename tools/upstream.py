"""``nox -s upstream``: the seams and a short training under the versions DataFlex is to work with.

These are, for each LlamaFactory in ``dataflex.bridge.versions.TESTED``, both ends of its range of transformers, and,
without LlamaFactory, the newest transformers on the index. Pairs outside the ranges have to be refused at start;
what they do under ``DISABLE_VERSION_CHECK=1`` is noted. ``docs/versions.json`` keeps the results with ``-- --write``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from clean_environment import CleanEnvironment
from commands import attempt, say
from dists import ROOT
from packaging.version import Version
from trial_runs import run_file, write_tiny

from dataflex.bridge.versions import TESTED, UNCHECKED

KEPT = ROOT / "docs" / "versions.json"
NEWEST = "newest"
PACKAGES = ("dataflex-core", "dataflex-selectors/random", "dataflex-selectors/loss")
TESTS = ROOT / "tests" / "end_to_end"
SEAMS = (str(TESTS / "test_seams.py"),)
TRAINING = (
    f"{TESTS / 'test_select_run.py'}::test_the_notes_yaml_trains_from_the_command_line",
    f"{TESTS / 'test_select_run.py'}::test_resuming_in_the_middle_of_a_stage_gives_the_same_model",
)
PLAIN = (str(TESTS / "test_without_llamafactory.py"), "-k", "resumes and not sft_trainer")


@dataclass(frozen=True)
class Row:
    """One pair of versions, and what came of it.

    Attributes:
        llamafactory: Its version; ``""`` for the plain Trainer.
        transformers: Its version.
        supported: Whether it has to work; else it has to be refused at start.
        peft: Version that came with them.
        trl: Version that came with them.
        seams: How many seam tests passed of how many.
        training: How many of those that train and resume.
        start: What a run says at start, if it is refused.
        tried: What it does when the refusal is switched off.
    """

    llamafactory: str
    transformers: str
    supported: bool = True
    peft: str = ""
    trl: str = ""
    seams: str = ""
    training: str = ""
    start: str = ""
    tried: str = ""

    @property
    def as_promised(self) -> bool:
        """Whether it works or is refused, as it should."""
        if not self.supported:
            return "Install versions that were tested together" in self.start
        return all(_all_passed(count) for count in (self.seams, self.training) if count) and bool(self.training)


def main() -> None:
    """Try every pair; exit code 1 if one is not as promised."""
    parser = argparse.ArgumentParser(prog="nox -s upstream --", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"keep the results in {KEPT.relative_to(ROOT)}")
    write = parser.parse_args().write
    rows = []
    for wanted in wanted_rows():
        rows.append(examine(wanted))
        say(f"{'ok ' if rows[-1].as_promised else 'NOT AS PROMISED '}{rows[-1]}")
    if write:
        facts = {"date": str(datetime.datetime.now(tz=datetime.UTC).date()), "python": platform.python_version()}
        facts |= {"torch": _version_here("torch")}
        kept = {**facts, "rows": [{**asdict(row), "as_promised": row.as_promised} for row in rows]}
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    sys.exit(not all(row.as_promised for row in rows))


def wanted_rows() -> Iterator[Row]:
    """Both ends of each range; what is newer than the range, up to the newest of all; and the plain Trainer."""
    newest = max((new for _, new in TESTED.values()), key=Version)
    for llamafactory, (old, new) in TESTED.items():
        yield Row(llamafactory, old)
        yield Row(llamafactory, new)
        yield Row(llamafactory, newest if new != newest else NEWEST, supported=False)
    yield Row("", NEWEST)


def examine(row: Row) -> Row:
    """Make the environment of a pair and see what it does."""
    name = f"upstream-{row.llamafactory or 'plain'}-{row.transformers}"
    environment = CleanEnvironment(ROOT / ".nox" / name, without=() if row.llamafactory else ("llamafactory",))
    transformers = "transformers" if row.transformers == NEWEST else f"transformers=={row.transformers}"
    if row.llamafactory:
        environment.fetch(f"llamafactory=={row.llamafactory}", *([transformers] if row.supported else ()))
    if not (row.llamafactory and row.supported):
        environment.fetch(transformers)  # by itself: LlamaFactory's own metadata excludes it
    environment.install_in_place(*(ROOT / "packages" / package for package in PACKAGES))
    found = {name: environment.version(name) for name in ("transformers", "peft", "trl")}
    row = replace(row, **found)
    if not row.supported:
        return _refused(row, environment)
    if not row.llamafactory:
        return replace(row, training=_passed(environment, *PLAIN))
    return replace(row, seams=_passed(environment, *SEAMS), training=_passed(environment, *TRAINING))


def _refused(row: Row, environment: CleanEnvironment) -> Row:
    with tempfile.TemporaryDirectory(prefix="dataflex-upstream-") as name:
        folder = Path(name)
        write_tiny(environment, folder)
        file = run_file("selector", "random", folder)

        def train(unchecked: str) -> subprocess.CompletedProcess[str]:
            command = (environment.python, "-m", "dataflex", "train", file.name)
            return attempt(*command, cwd=folder, environ={UNCHECKED: unchecked})

        first, second = train("0"), train("1")
    start = _message(first) if first.returncode else "it trains"
    tried = _message(second) if second.returncode else "one short run trains"
    return replace(row, start=start, tried=tried)


def _passed(environment: CleanEnvironment, *arguments: str) -> str:
    """How many tests passed, as ``5 of 6``."""
    done = attempt(environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, cwd=ROOT)
    if done.returncode:
        say(f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}")
    counts = {what: int(count) for count, what in re.findall(r"(\d+) (passed|failed|error)", done.stdout[-400:])}
    return f"{counts.get('passed', 0)} of {sum(counts.values())}"


def _all_passed(count: str) -> bool:
    passed, _, total = count.partition(" of ")
    return passed == total != "0"


def _message(done: subprocess.CompletedProcess[str]) -> str:
    """The last error of a command and, behind a traceback, the file it comes from; without this machine's paths."""
    errors = re.findall(r"^[\w.]*Error: .*$", done.stderr, re.MULTILINE) or [f"exit code {done.returncode}"]
    places = re.findall(r'^  File "\S+/(?:libraries|site-packages)/(\S+)", line', done.stderr, re.MULTILINE)
    place = f" (in {places[-1]})" if places and not errors[-1].startswith("Error: ") else ""
    return re.sub(r"/\S*/(?=[\w.-]+/)", "", errors[-1].removeprefix("Error: ").strip()) + place


def _version_here(name: str) -> str:
    from importlib.metadata import version

    return version(name)


if __name__ == "__main__":
    main()
