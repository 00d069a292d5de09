"""What can be known to be impossible in any phase, before the first one trains."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dataflex.config.theirs import is_enabled
from dataflex.errors import ConfigError
from dataflex.phases.model_size import open_config
from dataflex.phases.phase import Phase
from dataflex.phases.progress import Progress, progress

logger = logging.getLogger("dataflex")

_OTHER_HUBS = ("USE_MODELSCOPE_HUB", "USE_OPENMIND_HUB")  # LlamaFactory then looks for models there

StandIn = Callable[[Phase], Mapping[str, Any]]


def check_phases(
    phases: Sequence[Phase], plugins: Sequence[str], *, command: str, stand_in: StandIn | None = None
) -> None:
    """Refuse what a phase would refuse before it loads a model or data, and a model that is not there.

    The run files are those that will be trained, with something in place of what earlier phases have yet to write.

    Args:
        phases: In order.
        plugins: Values of ``-p`` for each run.
        command: The command, ``dataflex NAME``.
        stand_in: From a phase to its keys with something in place of what is not there yet; by default
            :func:`with_uniform_weights`.

    Raises:
        ConfigError: for a model that cannot be found, and as :func:`~dataflex.phases.progress.progress`.
        SystemExit: with the exit code of ``dataflex check-run``, which has said what is wrong.
    """
    waiting = [phase for phase in phases if progress(phase) is not Progress.COMPLETE]
    for phase in waiting:
        _check_model(phase)
    if not waiting:
        return
    chosen = [word for value in plugins for word in ("-p", value)]
    with tempfile.TemporaryDirectory(prefix=f"dataflex-{command}-") as folder:
        files = []
        for phase in _unlike(waiting):
            files.append(Path(folder) / f"{phase.slug}.yaml")
            keys = (stand_in or with_uniform_weights)(phase)
            files[-1].write_text(yaml.safe_dump(dict(keys), sort_keys=False, allow_unicode=True), encoding="utf-8")
        logger.info("checking the run files of %d phases, which loads LlamaFactory: some seconds", len(waiting))
        words = [sys.executable, "-m", "dataflex", "check-run", *map(str, files), *chosen]
        code = subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode
    if code:
        raise SystemExit(code)


def with_uniform_weights(phase: Phase) -> dict[str, Any]:
    """The keys of a phase; where its weights are not there yet, each domain has the same share."""
    keys = dict(phase.keys)
    if phase.weights_read is not None and not phase.weights_read.is_file():
        names = domain_names(keys["dataset"])
        keys["init_mixture_proportions"] = {name: 1 / len(names) for name in names}
    return keys


def domain_names(given: Any) -> list[str]:
    """The data sets that ``dataset`` names."""
    names = given.split(",") if isinstance(given, str) else given if isinstance(given, (list, tuple)) else ()
    return [str(name).strip() for name in names]


_OWN = ("output_dir", "init_mixture_proportions")


def _unlike(phases: Sequence[Phase]) -> list[Phase]:
    """Phases without those that differ from an earlier one in place and proportions alone."""
    found: list[Phase] = []
    for phase in phases:
        keys = _compared(phase)
        if not any(_compared(other) == keys for other in found):
            found.append(phase)
    return found


def _compared(phase: Phase) -> dict[str, Any]:
    return {key: value for key, value in phase.keys.items() if key not in _OWN or phase.weights_read is None}


def _check_model(phase: Phase) -> None:
    name = str(phase.keys.get("model_name_or_path"))
    elsewhere = any(is_enabled(hub) for hub in _OTHER_HUBS)
    if elsewhere or (Path(name) / "config.json").is_file():
        return
    try:
        open_config(name, phase.keys)
    except OSError as error:
        raise ConfigError(
            f"model_name_or_path: {name} of {phase.title} is neither a folder with a model nor found on a hub: {error}"
        ) from error
    except Exception:  # a configuration that only LlamaFactory's own loader can read; the run will say
        return
