"""What the end-to-end tests share: a folder with a tiny model, ordinary run files, commands of this environment."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

POOL = 64
OTHER = 24
NOTE_SELECT = {
    "train_type": "dynamic_select",
    "component_name": "random",
    "components_cfg_file": "src/dataflex/configs/components.yaml",
    "warmup_step": 2,
    "update_step": 3,
    "update_times": 2,
}
NOTE_MIX = {
    "train_type": "dynamic_mix",
    "components_cfg_file": "src/dataflex/configs/components.yaml",
    "component_name": "random",
    "mixture_sample_rule": "mixture",
    "init_mixture_proportions": [0.7, 0.3],
    "warmup_step": 4,
    "update_step": 3,
    "update_times": 2,
    "dataset": "tiny,other",
}
"""The run file of the design note's Mix Trainer, on two data sets."""
NOTE_WEIGHT = {
    "train_type": "dynamic_weight",
    "components_cfg_file": "src/dataflex/configs/components.yaml",
    "component_name": "loss",
    "warmup_step": 1,
    "train_step": 3,
}
"""The run file of the design note's Weight Trainer."""


@dataclass(frozen=True)
class Workshop:
    """A folder with a tiny model and data, and a way to write run files for them."""

    folder: Path
    out: Path

    def run_file(self, name: str = "run", **keys: Any) -> Path:
        """An ordinary LlamaFactory LoRA run file of 4 samples a step, with ``keys`` on top (``None`` removes one)."""
        values = {
            "model_name_or_path": str(self.folder / "model"),
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "lora_target": "all",
            "lora_rank": 4,
            "dataset": "tiny",
            "dataset_dir": str(self.folder / "data"),
            "template": "qwen3_nothink",
            "cutoff_len": 96,
            "output_dir": str(self.out / name),
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "learning_rate": 1.0e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "seed": 3,
            "use_cpu": True,
            **keys,
        }
        path = self.out / f"{name}.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
        return path


def installed(site: Path) -> dict[str, str]:
    """Variables of a command for which the distributions in a folder are installed too."""
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "DATAFLEX_WARM_SITE": str(site)}  # the second is for tests/support/warm


def call(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment; its output is shown when a test fails, and nothing of it is left running."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DISABLE_VERSION_CHECK": "1", **environ}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            out, err = process.communicate(timeout=500)
        except BaseException:
            kill_all(process)
            raise
    sys.stdout.write(out)
    sys.stderr.write(err)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def kill_all(process: subprocess.Popen[Any]) -> None:
    """SIGKILL for a process and everything it started: torchrun gives each rank a session of its own."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=30)


def script(name: str) -> str:
    """Path of a console script of this environment."""
    return str(Path(sys.executable).with_name(name))


def weights_digest(folder: Path) -> str:
    """sha256 of a run's final weights file."""
    (file,) = [path for path in folder.glob("*.safetensors")]
    return hashlib.sha256(file.read_bytes()).hexdigest()


# The design note's CustomSelector, unchanged but for absolute imports: what a third party ships.
NOTE_SELECTOR = '''
from dataflex.core.registry import register_selector
from dataflex.train.selector.base_selector import logger, Selector

@register_selector('custom')
class CustomSelector(Selector):
    """
    A custom data selector, as in the design note.
    """
    def __init__(
        self,
        dataset,
        accelerator,
        data_collator,
        cache_dir,
    ):
        super().__init__(dataset, accelerator, data_collator, cache_dir)
        logger.info(f"CustomSelector initialized.")

    def select(self, model, step_id: int, num_samples: int, **kwargs):
        return list(range(num_samples))
'''

# The design note's RandomMixer, unchanged but for absolute imports: what a third party ships.
NOTE_MIXER = """
from dataflex.core.registry import register_mixer
from dataflex.utils.logging import logger
from dataflex.train.mixer.base_mixer import Mixer

import numpy as np

@register_mixer("random")
class RandomMixer(Mixer):
    def __init__(self, mixture_manager, seed):
        super().__init__(mixture_manager)
        self.seed = seed

    def mix(self, model, step_id: int, **kwargs) -> np.ndarray:
        k = len(self.mixture_manager.names)
        np.random.seed(self.seed)
        raw = np.random.random(k)
        probs = raw / raw.sum()
        logger.info(f"[RandomMixer] Step {step_id} Generated proportions: {probs}")

        return probs
"""

# The design note's CustomWeighter, unchanged but for its comments: what a third party ships.
NOTE_WEIGHTER = """
from dataflex.core.registry import register_weighter
from dataflex.utils.logging import logger
from typing import Any, Union
from torch import nn
import torch

@register_weighter("custom")
class CustomWeighter:
    def __init__(self, strategy: str = "uniform"):
        self.strategy = strategy
        logger.info(f"CustomWeighter initialized with strategy: {strategy}")

    def get_weighted_loss(
        self,
        losses: torch.Tensor,
        *,
        ctx: Any = None,
        model: nn.Module | None = None,
        inputs: dict[str, Union[torch.Tensor, Any]] | None = None,
    ) -> torch.Tensor:
        if not torch.is_tensor(losses) or losses.dim() == 0:
            return losses

        weights = torch.ones_like(losses) / losses.numel()
        weighted_loss = torch.sum(weights * losses)

        return weighted_loss

    def training_step(self, ctx, model, inputs, num_items_in_batch=None, use_weighter=False):
        model.train()
        inputs = ctx._prepare_inputs(inputs)

        with ctx.compute_loss_context_manager():
            loss, outputs = ctx.compute_loss(
                model, inputs, num_items_in_batch=num_items_in_batch, return_outputs=True
            )

        if use_weighter:
            pass

        loss = loss / ctx.args.gradient_accumulation_steps
        ctx.accelerator.backward(loss)

        return loss.detach()
"""
