"""The reference model: loading it, telling it apart from others, and its vocabulary.

Shapes: B samples, T tokens.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dataflex.components.context import RunContext
from dataflex.components.mix_context import MicroBatch
from dataflex.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger("dataflex")

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model*.bin")
_CONFIGS = ("config.json", "adapter_config.json")


class Reference(Protocol):
    """Gives the reference model's losses of training tokens.

    Attributes:
        vocabulary: Size of its vocabulary.
    """

    vocabulary: int

    def token_losses(self, batch: MicroBatch) -> torch.Tensor:
        """Losses of a micro-batch's tokens, shape and device of ``batch.losses_BT``; without meaning off the mask."""


def load_model(name: str, context: RunContext) -> nn.Module:
    """Load the reference for evaluation: in the precision it was saved in, on the run's device, without gradients.

    Args:
        name: A folder (of a full model or an adapter, whose base model is loaded with it) or a name on a hub.
        context: The run.

    Raises:
        ConfigError: when it cannot be loaded. Training without it would be another method with the opposite answer.
    """
    try:
        model = _load(name)
    except Exception as error:  # whatever a hub, a file or a model class has to say
        raise ConfigError(
            f"the reference model {name} cannot be loaded: {type(error).__name__}: {error}. Name a trained model under "
            "component_params.reference; without one, DoReMi would favour noise."
        ) from error
    model.requires_grad_(False)
    model.eval()
    return model.to(context.accelerator.device) if context.accelerator is not None else model


def _load(name: str) -> nn.Module:
    from transformers import AutoModelForCausalLM

    base = _base_of_adapter(Path(name).expanduser())
    model: nn.Module = AutoModelForCausalLM.from_pretrained(base or name, torch_dtype="auto")
    if base is None:
        return model
    from peft import PeftModel

    adapted: nn.Module = PeftModel.from_pretrained(model, name)
    return adapted


def model_identity(name: str) -> str:
    """What tells this model from any other: a hash of its files or, on a hub, its commit.

    Raises:
        ConfigError: when there is no such model.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _hash_folder(folder)
    from transformers import AutoConfig

    try:
        commit = getattr(AutoConfig.from_pretrained(name), "_commit_hash", None)
    except Exception as error:
        raise ConfigError(
            f"the reference model {name} is neither a folder nor found on the hub: {type(error).__name__}: {error}"
        ) from error
    return f"{name}@{commit}"


def check_vocabulary(name: str, context: RunContext) -> None:
    """Compare the reference's tokenizer with the run's: losses of other tokens cannot be compared.

    Raises:
        ConfigError: names the first tokens that differ.
    """
    from transformers import AutoTokenizer

    ours = getattr(context.tokenizer, "tokenizer", context.tokenizer)
    if ours is None:
        logger.warning("the run has no tokenizer, so its vocabulary is not compared with that of %s.", name)
        return
    try:
        theirs = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # weights alone, without a tokenizer
        logger.warning("the vocabulary of %s cannot be compared: %s: %s", name, type(error).__name__, error)
        return
    here, there = ours.get_vocab(), theirs.get_vocab()
    if here == there:
        return
    different = sorted(token for token in here.keys() | there.keys() if here.get(token) != there.get(token))
    raise ConfigError(
        f"the reference model {name} has another vocabulary than the model that is trained: {len(there)} tokens and "
        f"{len(here)}; {len(different)} differ, such as {', '.join(map(repr, different[:3]))}. Their losses cannot be "
        "compared: use a reference with the same tokenizer."
    )


def _hash_folder(folder: Path) -> str:
    found: set[Path] = {path for pattern in (*_CONFIGS, *_WEIGHTS) for path in folder.glob(pattern)}
    if not any(path.name in _CONFIGS for path in found):
        raise ConfigError(f"the reference {folder} holds no model: there is no {' and no '.join(_CONFIGS)} in it.")
    digest = hashlib.sha256()
    for path in sorted(found):
        with path.open("rb") as file:
            digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()};".encode())
    base = _base_of_adapter(folder)
    if base is not None:
        digest.update(model_identity(base).encode())
    return digest.hexdigest()


def _base_of_adapter(folder: Path) -> str | None:
    adapter = folder / "adapter_config.json"
    if not adapter.is_file():
        return None
    config: Any = json.loads(adapter.read_text(encoding="utf-8"))
    base = config.get("base_model_name_or_path")
    return str(base) if base else None
