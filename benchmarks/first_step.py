"""From the command to the first step, and to the end of its process, beside ``llamafactory-cli train``.

Whole processes that alternate: a run file of one step (LoRA, tiny Qwen2, 64 rows), by ``llamafactory-cli``, the very
same file by ``dataflex-cli``, and with the keys of a selected run added. The first step is done when its loss is
printed. By the wall clock, and for the whole process in CPU seconds too, which other work on the machine disturbs
less. Python may keep bytecode, as for a user: the round that is not counted writes it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import figures
import yaml

from dataflex.testing.tiny import tiny_rows, write_dataset, write_model

CLOCKS = ("first step", "wall", "cpu")
SELECT = {
    "train_type": "dynamic_select",
    "component_name": "random",
    "warmup_step": 0,
    "update_step": 1,
    "update_times": 1,
}


def write_runs(folder: Path) -> dict[str, list[str]]:
    """The commands by name."""
    keys: dict[str, Any] = {
        "model_name_or_path": str(write_model(folder / "model")),
        "dataset_dir": str(write_dataset(folder / "data", pool=tiny_rows(64))),
        "dataset": "pool",
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "template": "qwen",
        "cutoff_len": 128,
        "output_dir": str(folder / "out"),
        "overwrite_output_dir": True,
        "save_strategy": "no",
        "report_to": "none",
        "per_device_train_batch_size": 4,
        "max_steps": 1,
        "logging_steps": 1,
        "use_cpu": True,
    }
    commands = {}
    for name, program, more in (
        ("llamafactory-cli", "llamafactory-cli", {}),
        ("same file", "dataflex-cli", {}),
        ("select", "dataflex-cli", SELECT),
    ):
        path = folder / f"{name.replace(' ', '-')}.yaml"
        path.write_text(yaml.safe_dump(keys | more), encoding="utf-8")
        commands[name] = [str(Path(sys.executable).with_name(program)), "train", str(path)]
    return commands


def seconds(command: list[str]) -> dict[str, float]:
    """Seconds of a process, by each of :data:`CLOCKS`."""
    environment = {**os.environ, "DISABLE_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    printed, first_step = [], 0.0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            if not first_step and "'loss':" in line:
                first_step = time.perf_counter() - began
    ended = time.perf_counter() - began
    if process.returncode or not first_step:
        sys.exit(f"{' '.join(command)} failed or printed no loss:\n{''.join(printed)[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return dict(zip(CLOCKS, (first_step, ended, cpu), strict=True))


def main() -> None:
    """Measure, print a table and, if asked, write the figures."""
    parser = figures.parser(__doc__)
    parser.add_argument("--runs", type=int, default=7, help="rounds, after one that is not counted")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = write_runs(Path(folder))
        rounds = []
        for run in range(options.runs + 1):
            names = list(commands) if run % 2 else list(reversed(commands))
            rounds.append({name: seconds(commands[name]) for name in names})
    counted = rounds[1:]  # the first one fills the file cache
    stock = "llamafactory-cli"
    found = {}
    for clock in CLOCKS:
        found[f"{stock}, {clock}, seconds"] = figures.figure([each[stock][clock] for each in counted])
        for name in commands:
            if name != stock:
                ratios = [each[name][clock] / each[stock][clock] for each in counted]
                found[f"{name} over stock, {clock}"] = figures.figure(ratios)
    figures.show(found)
    if options.write:
        figures.keep("first_step", found)


if __name__ == "__main__":
    main()
