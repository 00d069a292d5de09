"""What can be known to be impossible in any phase, before the first one trains."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dataflex import ConfigError
from dataflex.run_checks import MODEL_FILES
from dataflex_mixers_doremi.model_size import open_config
from dataflex_mixers_doremi.phases import Phase
from dataflex_mixers_doremi.run import Progress, progress

logger = logging.getLogger("dataflex")

_OTHER_HUBS = ("USE_MODELSCOPE_HUB", "USE_OPENMIND_HUB")  # LlamaFactory then looks for models there


def check_phases(phases: Sequence[Phase], plugins: Sequence[str]) -> None:
    """Refuse what a phase would refuse before it loads a model or data, and a model that is not there.

    The run files are those that will be trained, with something in place of what earlier phases have yet to write.

    Args:
        phases: In order.
        plugins: Values of ``-p`` for each run.

    Raises:
        ConfigError: for a model that cannot be found, and as :func:`~dataflex_mixers_doremi.run.progress`.
        SystemExit: with the exit code of ``dataflex check-run``, which has said what is wrong.
    """
    waiting = [phase for phase in phases if progress(phase) is not Progress.COMPLETE]
    for phase in waiting:
        _check_model(phase)
    if not waiting:
        return
    chosen = [word for value in plugins for word in ("-p", value)]
    with tempfile.TemporaryDirectory(prefix="dataflex-doremi-") as folder:
        files = []
        for phase in waiting:
            files.append(Path(folder) / f"round-{phase.round}-{phase.name}.yaml")
            text = yaml.safe_dump(_as_if_trained(phase, phases), sort_keys=False, allow_unicode=True)
            files[-1].write_text(text, encoding="utf-8")
        logger.info("checking the run files of %d phases, which loads LlamaFactory: some seconds", len(files))
        command = [sys.executable, "-m", "dataflex", "check-run", *map(str, files), *chosen]
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    if code:
        raise SystemExit(code)


def _check_model(phase: Phase) -> None:
    name = str(phase.keys.get("model_name_or_path"))
    elsewhere = any(os.environ.get(hub, "").lower() in ("1", "true") for hub in _OTHER_HUBS)
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


def _as_if_trained(phase: Phase, phases: Sequence[Phase]) -> Mapping[str, Any]:
    """The keys of a phase, with nothing in them that another phase has yet to write."""
    keys = dict(phase.keys)
    outputs = {each.output_dir: each for each in phases}
    weights, reference = phase.weights_read, phase.reference
    if weights is not None and weights.parent in outputs and not weights.is_file():
        names = str(keys["dataset"]).split(",") if isinstance(keys["dataset"], str) else keys["dataset"]
        keys["init_mixture_proportions"] = {str(name).strip(): 1 / len(names) for name in names}
    if reference in outputs and not any((reference / name).is_file() for name in MODEL_FILES):
        like = outputs[reference].keys["model_name_or_path"]
        keys["component_params"] = {**keys["component_params"], "reference": str(like)}
    return keys
