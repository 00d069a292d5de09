"""Who gives rewards: a function by name, or a classifier."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import torch

from dataflex import ComponentError, ConfigError, RunContext
from dataflex.paths import user_path
from dataflex.rng import rng_scope
from dataflex_selectors_nice.params import EXACT_MATCH
from dataflex_selectors_nice.rewards import Reward, exact_match


class Judge:
    """Asks for rewards, and checks what comes back.

    Args:
        name: ``component_params.reward``.
        context: The run; its ``trust_remote_code`` decides whether code of a classifier's folder may run.

    Raises:
        ConfigError: when there is no such function.
    """

    def __init__(self, name: str, context: RunContext) -> None:
        self._name, self._context = name, context
        self._function: Reward | None = None
        if name == EXACT_MATCH:
            self._function = exact_match
        elif is_function(name):
            self._function = _function(name)

    def rewards(self, prompt: str, answers: Sequence[str], reference: str) -> list[float]:
        """Of the answers of one row.

        Raises:
            ConfigError: when the classifier cannot be loaded whole.
            ComponentError: when the function fails, or gives anything but one finite number for each.
        """
        if self._function is None:
            self._function = Classifier(self._name, self._context)
        count = len(answers)
        try:
            given = list(self._function([prompt] * count, list(answers), [reference] * count))
            found = [float(each) for each in given]
        except Exception as error:
            raise ComponentError(f"reward {self._name} failed: {type(error).__name__}: {error}") from error
        if len(found) != count:
            raise ComponentError(f"reward {self._name} gave {len(found)} numbers for {count} answers.")
        for answer, reward in zip(answers, found, strict=True):
            if not math.isfinite(reward):
                raise ComponentError(f"reward {self._name} gave {reward} for the answer {answer[:80]!r}.")
        return found

    def free(self) -> None:
        """Let go of a classifier."""
        if isinstance(self._function, Classifier):
            self._function = None


class Classifier:
    """A sequence classifier: of one output it is the reward, of two the second less the first (log odds).

    Args:
        name: Its path or hub id.
        context: The run.

    Raises:
        ConfigError: when it cannot be loaded, lacks weights, or has more outputs.
    """

    def __init__(self, name: str, context: RunContext) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        local = user_path(name)
        place = str(local) if local.is_dir() else name
        trusted = {"trust_remote_code": context.trust_remote_code}
        device = torch.device("cpu") if context.accelerator is None else context.accelerator.device
        dtype: Any = torch.float32 if device.type == "cpu" else "auto"
        try:
            with rng_scope(devices=True):
                self._tokenizer = AutoTokenizer.from_pretrained(place, **trusted)
                kind: Any = AutoModelForSequenceClassification
                model, report = kind.from_pretrained(place, dtype=dtype, output_loading_info=True, **trusted)
        except Exception as error:
            raise ConfigError(
                f"component_params.reward: {name} could not be loaded as a classifier ({type(error).__name__}: "
                f"{error}). Write module:function, exact_match, or correct the path."
            ) from error
        new = sorted({*report["missing_keys"], *(str(each) for each in report.get("mismatched_keys", ()))})
        if new:
            raise ConfigError(
                f"component_params.reward: {name} is no trained classifier: it has no weights for "
                f"{', '.join(new[:3])}, which would be drawn at random. Name a model that was saved with its "
                "classification head."
            )
        outputs = int(model.config.num_labels)
        if outputs > 2:
            raise ConfigError(f"component_params.reward: {name} has {outputs} outputs; a reward is one number, or two.")
        if model.config.pad_token_id is None:
            model.config.pad_token_id = self._tokenizer.pad_token_id
        self._model, self._device = model.requires_grad_(False).eval().to(device), device

    def __call__(self, prompts: Sequence[str], answers: Sequence[str], references: Sequence[str]) -> list[float]:
        """Each by itself, so that none is padded to the length of another."""
        found = []
        with torch.no_grad():
            for prompt, answer in zip(prompts, answers, strict=True):
                encoded = self._tokenizer(prompt, answer, truncation=True, return_tensors="pt").to(self._device)
                logits = self._model(**encoded).logits[0].float()
                found.append(float(logits[-1] - logits[0]) if len(logits) == 2 else float(logits[0]))
        return found


def is_function(name: str) -> bool:
    """Whether a reward is ``module:function``, and no path."""
    module, colon, function = name.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def _function(name: str) -> Reward:
    module, _, function = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except Exception as error:
        raise ConfigError(
            f"component_params.reward: {name} could not be imported ({type(error).__name__}: {error}). It is "
            "module:function; the module is installed, or its folder is on PYTHONPATH."
        ) from error
    if not callable(found):
        raise ConfigError(f"component_params.reward: {name} is no function, but {type(found).__name__}.")
    reward: Reward = found
    return reward
