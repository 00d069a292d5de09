"""The reference model: loading it, telling it apart from others, and its vocabulary.

Shapes: B samples, T tokens.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from dataflex.checkpoint_keys.models import identity
from dataflex.components.context import RunContext
from dataflex.components.mix_context import MicroBatch
from dataflex.data.fingerprint import fingerprint
from dataflex.errors import ComponentError, ConfigError
from dataflex.paths import user_path
from dataflex.weights.verify import check_adapter, check_pretrained

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger("dataflex")

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model*.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_NAMED = 8  # rows spelled out in a message
_CONFIGS = ("config.json", "adapter_config.json")
_SAMPLED = "sampled:"
_ALL_BYTES = re.compile("[0-9a-f]{64}")


class Reference(Protocol):
    """Gives the reference model's losses of training tokens.

    Attributes:
        vocabulary: Size of its vocabulary.
    """

    vocabulary: int

    def token_losses(self, batch: MicroBatch) -> torch.Tensor:
        """Losses of a micro-batch's tokens, shape and device of ``batch.losses_BT``; without meaning off the mask."""

    def row_means(self, context: RunContext, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Mean losses of rows of the pool, fp64, shape ``[rows]``; NaN for a row without a target.

        Called on every rank with the same rows.
        """


def load_model(name: str, context: RunContext) -> nn.Module:
    """Load the reference for evaluation: in the precision it was saved in, on the run's device, without gradients.

    Args:
        name: A folder (of a full model or an adapter, whose base model is loaded with it) or a name on a hub.
        context: The run.

    Raises:
        ConfigError: when it cannot be loaded, or does not hold the weights of its files afterwards. Training without it
            would be another method with the opposite answer.
    """
    try:
        model = _load(name)
    except ConfigError:
        raise
    except Exception as error:  # whatever a hub, a file or a model class has to say
        raise ConfigError(
            f"the reference model {name} cannot be loaded: {type(error).__name__}: {error}. Name a trained model under "
            "component_params.reference; without one, noise "
            "would count most: its losses are the highest."
        ) from error
    model.requires_grad_(False)
    model.eval()
    return model.to(context.accelerator.device) if context.accelerator is not None else model


def _load(name: str) -> nn.Module:
    from transformers import AutoModelForCausalLM

    base = _base_of_adapter(user_path(name))
    source = base or name
    loaded: Any = AutoModelForCausalLM.from_pretrained(source, torch_dtype="auto", output_loading_info=True)
    model: nn.Module = loaded[0]
    check_pretrained(model, source, loaded[1])
    if base is None:
        return model
    from peft import PeftModel

    adapted: nn.Module = PeftModel.from_pretrained(model, name)
    check_adapter(adapted, name)
    return adapted


def model_identity(name: str) -> str:
    """What tells this model from any other: its files, as core knows models by content, or, on a hub, its commit.

    Raises:
        ConfigError: when there is no such model.
    """
    folder = user_path(name)
    if folder.is_dir():
        return _SAMPLED + _identity_of_folder(folder)
    from transformers import AutoConfig

    try:
        commit = getattr(AutoConfig.from_pretrained(name), "_commit_hash", None)
    except Exception as error:
        raise ConfigError(
            f"the reference model {name} is neither a folder nor found on the hub: {type(error).__name__}: {error}"
        ) from error
    return f"{name}@{commit}"


def is_same_model(name: str, recorded: str) -> bool:
    """Whether a model is the one with a recorded identity; dataflex-mixers-doremi 0.1.0 recorded a hash of all bytes.

    Raises:
        ConfigError: when there is no such model.
    """
    folder = user_path(name)
    if folder.is_dir() and _ALL_BYTES.fullmatch(recorded):
        return _hash_folder(folder) == recorded
    return model_identity(name) == recorded


def changed_identities(kept: Mapping[str, str], now: Mapping[str, str], name: str) -> list[str]:
    """What of :func:`identities` is another than in a checkpoint: ``pool``, ``reference``, both or nothing.

    Raises:
        ConfigError: when there is no such model.
    """
    changed = [what for what, value in now.items() if kept[what] != value]
    if "reference" in changed and is_same_model(name, str(kept["reference"])):
        changed.remove("reference")
    return changed


def identities(name: str, context: RunContext) -> dict[str, str]:
    """What tells the pool and the reference of a run from others. Looks at parts of the reference's files.

    Raises:
        ConfigError: when there is no such model.
    """
    return {"pool": fingerprint(context.dataset), "reference": model_identity(name)}


def not_finite(name: str, rows: Sequence[int]) -> ComponentError:
    """The error for losses that nothing can be compared with.

    Args:
        name: The reference.
        rows: Rows of the pool it has such losses for.
    """
    named = ", ".join(map(str, rows[:_NAMED])) + (", ..." if len(rows) > _NAMED else "")
    return ComponentError(
        f"the reference model {name} has losses that are not finite, for {len(rows)} rows of the pool ({named}). Look "
        "at its training, and at the precision it is run in (fp16 overflows where bf16 does not)."
    )


def check_vocabulary(name: str, context: RunContext) -> None:
    """Compare the reference's vocabulary with the run's: losses of other tokens cannot be compared.

    Where one of them has no tokenizer, a warning says so and only the sizes are compared.

    Raises:
        ConfigError: names the first tokens that differ; or when the reference has too few.
    """
    ours = getattr(context.tokenizer, "tokenizer", context.tokenizer)
    if ours is None:
        _compare_sizes(name, context.vocab_size, "the run has no tokenizer", context)
        return
    here = ours.get_vocab()
    source, theirs = _tokenizer_source(name), None
    lack = f"the reference model {name} has no tokenizer (there is no {' and no '.join(_TOKENIZERS)} in it)"
    if source is not None:
        from transformers import AutoTokenizer

        try:
            theirs = AutoTokenizer.from_pretrained(source)
        except Exception as error:  # whatever a hub, a file or a tokenizer class has to say
            lack = f"the tokenizer of the reference model {name} cannot be loaded ({type(error).__name__}: {error})"
    if theirs is None:
        _compare_sizes(name, max(here.values()) + 1, lack, context)
        return
    there = theirs.get_vocab()
    if here == there:
        return
    different = sorted(token for token in here.keys() | there.keys() if here.get(token) != there.get(token))
    raise ConfigError(
        f"the reference model {name} has another vocabulary than the model that is trained: {len(there)} tokens and "
        f"{len(here)}; {len(different)} differ, such as {', '.join(map(repr, different[:3]))}. Their losses cannot be "
        "compared: use a reference with the same tokenizer."
    )


def _tokenizer_source(name: str) -> str | None:
    """Where the reference's tokenizer is; ``None`` if it has none: transformers would make one up."""
    folder = user_path(name)
    if not folder.is_dir() or any((folder / file).is_file() for file in _TOKENIZERS):
        return name
    base = _base_of_adapter(folder)
    return None if base is None else _tokenizer_source(base)


def _compare_sizes(name: str, needed: int | None, lack: str, context: RunContext) -> None:
    from transformers import AutoConfig

    folder = user_path(name)
    try:
        size = AutoConfig.from_pretrained(_base_of_adapter(folder) or name).get_text_config().vocab_size
    except Exception as error:
        raise ConfigError(
            f"the configuration of the reference model {name} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if needed is not None and size < needed:
        raise ConfigError(
            f"the reference model {name} has a smaller vocabulary than the model that is trained: {size} tokens, and "
            f"{needed} are needed ({lack}). Their losses cannot be compared: use a reference with the same tokenizer."
        )
    if context.rank == 0:
        logger.warning("%s, so the vocabularies are compared by size only: make sure that they are the same.", lack)


def _identity_of_folder(folder: Path) -> str:
    own = identity(folder)
    if not own:
        raise ConfigError(f"the reference {folder} holds no model: there is no {' and no '.join(_CONFIGS)} in it.")
    base = _base_of_adapter(folder)
    return own if base is None else hashlib.sha256(f"{own};{model_identity(base)}".encode()).hexdigest()


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
        digest.update((_hash_folder(Path(base)) if Path(base).is_dir() else model_identity(base)).encode())
    return digest.hexdigest()


def _base_of_adapter(folder: Path) -> str | None:
    adapter = folder / "adapter_config.json"
    if not adapter.is_file():
        return None
    config: Any = json.loads(adapter.read_text(encoding="utf-8"))
    base = config.get("base_model_name_or_path")
    return str(base) if base else None


def vocabulary_of(model: nn.Module) -> int:
    """Tokens that a model of transformers has room for."""
    config: Any = model.config
    return int(config.get_text_config().vocab_size)
