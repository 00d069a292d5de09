"""How a benchmark keeps what it measured: one JSON file a script, whose ``figures`` the tables are made of."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "llamafactory", "numpy")


def figure(values: Sequence[float]) -> dict[str, float]:
    """Median and spread of repeated measurements.

    Args:
        values: One per run, pair or process; of ratios, the ratio of each pair.
    """
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "runs": len(values)}


def machine() -> str:
    """What class of machine this is: processor architecture, cores, memory, GPU."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = f"-{torch.cuda.get_device_name().replace(' ', '_')}" if torch.cuda.is_available() else ""
    return f"{platform.machine()}-{os.cpu_count()}cores-{memory:.0f}gb{gpu}"


def keep(name: str, figures: Mapping[str, Mapping[str, float]], **details: Any) -> None:
    """Write ``results/<name>.json``: figures, what else was seen, and on what it ran.

    Args:
        name: The script's, without its ending.
        figures: As :func:`figure` makes them, by the names that ``rows.yaml`` uses.
        details: Anything else worth keeping.
    """
    import torch

    facts = {
        "command": " ".join(["python", str(Path(sys.argv[0]).resolve()), *sys.argv[1:]]).replace(f"{ROOT}{os.sep}", ""),
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **_versions()},
    }
    text = json.dumps({**facts, "figures": figures, **details}, indent=1)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def show(figures: Mapping[str, Mapping[str, float]]) -> None:
    """Print figures as a table."""
    width = max(map(len, figures))
    print(f"{'':<{width}}{'median':>11}{'least':>11}{'most':>11}{'runs':>6}")
    for name, found in figures.items():
        cells = "".join(f"{found[key]:>11.4g}" for key in ("median", "least", "most"))
        print(f"{name:<{width}}{cells}{found['runs']:>6.0f}", flush=True)


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option that all benchmarks share."""
    own = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/")
    return own


def in_a_process(script: str, *arguments: str, python: str = sys.executable, **environ: str) -> Any:
    """What a script prints last, as JSON, when it runs with these arguments in a fresh process."""
    command = [python, script, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ})
    return json.loads(done.stdout.splitlines()[-1])
