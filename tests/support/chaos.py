"""Killing real runs: start ``dataflex train``, SIGKILL it at a random moment, start it again, until it is done."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

WARM_WEIGHTS = '''
import os, time
from pathlib import Path

import torch
from dataflex import Selector, register_selector

@register_selector("weights")
class Weights(Selector):
    """Chooses by the current weights, slowly: another weight chooses other rows, and a kill can fall in between."""

    def __init__(self, dataset, accelerator, data_collator, cache_dir):
        super().__init__(dataset, accelerator, data_collator, cache_dir)
        Path(os.environ["CHAOS_STARTED"]).touch()

    def select(self, model, step_id, num_samples, **kwargs):
        torch.rand(7)
        total = sum(float(parameter.double().abs().sum()) for parameter in model.parameters())
        time.sleep(1.0)
        draw = torch.Generator().manual_seed(int(total * 1e6) % 2**31)
        return torch.randperm(len(self.dataset), generator=draw)[:num_samples].tolist()
'''
"""A single-file selector for chaos runs."""

WATCHFUL_MIXER = '''
import os, time
from pathlib import Path

import numpy as np
import torch
from dataflex import Mixer, register_mixer
from dataflex.spec import Need

@register_mixer("watchful", needs={Need.DOMAIN_LOSSES})
class Watchful(Mixer):
    """Mixes by everything a mixer may see and remember, slowly in a chaos run: a kill can fall in between."""

    def __init__(self, params, context):
        super().__init__(params, context)
        self.trail = np.zeros(len(context.domain_names))
        if "CHAOS_STARTED" in os.environ:
            Path(os.environ["CHAOS_STARTED"]).touch()

    def mix(self, model, step_id, **kwargs):
        torch.rand(7)
        evaluated = [self.context.evaluate(name, max_samples=9) for name in self.context.domain_names]
        time.sleep(1.0 if "CHAOS_STARTED" in os.environ else 0.0)
        raw = self.context.losses.mean() * np.array(evaluated) + self.trail
        raw *= self.context.rng(step_id).uniform(0.5, 2.0, len(raw))
        return raw / raw.sum()

    def on_step(self, stats):
        self.trail += np.nan_to_num(stats.losses.mean()) / stats.step

    def state_dict(self):
        return {"trail": self.trail}

    def load_state_dict(self, state):
        self.trail = state["trail"].copy()
'''
"""A single-file mixer, likewise."""

WATCHFUL_WEIGHTER = '''
import os, time
from pathlib import Path

import numpy as np
import torch
from dataflex import Weighter, register_weighter

@register_weighter("watchful")
class Watchful(Weighter):
    """Weighs by the loss and by all earlier steps, slowly in a chaos run: a kill can fall in between."""

    window = 20

    def __init__(self, params, context):
        super().__init__(params, context)
        self.trail = np.zeros(3)
        if "CHAOS_STARTED" in os.environ:
            Path(os.environ["CHAOS_STARTED"]).touch()

    def weights(self, losses_B, context):
        time.sleep(0.05 if "CHAOS_STARTED" in os.environ else 0.0)
        return 1 / (0.1 + (losses_B - self.trail[0]).abs()) + self.trail[2]

    def on_step(self, stats):
        latest = np.array([stats.losses.mean(), stats.tokens.sum(), stats.weights.max()])
        self.trail = 0.7 * self.trail + 0.3 * latest

    def state_dict(self):
        return {"trail": self.trail}

    def load_state_dict(self, state):
        self.trail = state["trail"].copy()
'''
"""A single-file weighter, likewise."""


def run_to_the_end(
    command: Sequence[str],
    folder: Path,
    *,
    kills: int,
    seed: str,
    span: float,
    first: Sequence[str] = (),
    since: Path | None = None,
) -> list[float]:
    """Run a command, killing it ``kills`` times on the way.

    Args:
        command: What to run; the component touches the file in ``CHAOS_STARTED`` when training is about to begin.
        folder: For the marker and the logs.
        kills: Number of kills before it is left alone.
        seed: Of the moments.
        span: Kills fall uniformly within so many seconds after the start of training.
        first: Further words of the first start alone.
        since: What has to be there, too, before a moment counts.

    Returns:
        The moments at which it was killed, in seconds after the start of training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw, attempt = random.Random(seed), 0
    moments: list[float] = []
    while True:
        attempt += 1
        if attempt > 3 * kills + 3:
            raise AssertionError(f"still not done after {attempt - 1} starts")
        marker = folder / f"started-{attempt}"
        log = folder / f"log-{attempt}.txt"
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "CHAOS_STARTED": str(marker)}
        with log.open("w") as file:
            words = [*command, *(first if attempt == 1 else ())]
            process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environ)
        if len(moments) < kills:
            while not all(path.exists() for path in (marker, since or marker)) and process.poll() is None:
                time.sleep(0.02)
            moment = draw.uniform(0, span)
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                moments.append(moment)
        code = process.wait()
        if code == 0:
            return moments
        if code != -signal.SIGKILL:
            raise AssertionError(f"exit code {code}:\n{log.read_text()[-4000:]}")


def train_command(run_file: Path, plugin: Path) -> list[str]:
    """``dataflex train`` with a single-file component."""
    return [sys.executable, "-m", "dataflex", "-p", str(plugin), "train", str(run_file)]
