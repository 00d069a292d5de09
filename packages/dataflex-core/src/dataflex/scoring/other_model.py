"""Another model than the run's to embed or score rows with, by path or hub id: its own tokenizer, the rows' text.

The text of a row is what its tokens decode to without special tokens; it is encoded plainly, without a template.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.checkpoint_keys.models import weight_files
from dataflex.components.context import RunContext
from dataflex.data.fingerprint import contents
from dataflex.errors import ComponentError, ConfigError
from dataflex.failures.foreign import foreign
from dataflex.math.losses import IGNORE_INDEX
from dataflex.paths import user_path
from dataflex.rng import rng_scope
from dataflex.scoring.cutting import has_media
from dataflex.scoring.embedded_model import Ready

if TYPE_CHECKING:
    from dataflex.scoring.embeddings import EmbeddingSpec
    from dataflex.scoring.pooling import Span

logger = logging.getLogger("dataflex")

Rows = npt.NDArray[np.int64]

_HASHED = (".safetensors", ".bin", ".json", ".model", ".txt", ".py")
_FEW_TOKENS = 1 << 30  # tokenizers without a longest text say a very large number


class OtherModel:
    """A frozen model that is loaded when rows are embedded with it, and freed afterwards.

    Args:
        name: Its path or hub id.
        head: Whether its head is needed, as for losses; embeddings do without.
        who: The parameter that names it, for messages.
        context: The run; its ``trust_remote_code`` decides whether code of the model's folder may run.
    """

    on_every_rank = False

    def __init__(self, name: str, context: RunContext, *, head: bool = False, who: str = "embedding_model") -> None:
        self.name, self._context, self._head, self._who = name, context, head, who
        self._loaded: tuple[nn.Module, Any] | None = None
        self._digest = ""

    def fingerprint(self, dataset: Any, rows: Rows, settings: Mapping[str, Any]) -> str:
        """Of the files of weights and tokenizer, wherever they lie, and of the rows."""
        if not self._digest:
            self._digest = _digest_of(self._folder())
        own = hashlib.blake2b(
            f"{self._digest} {contents(dataset, rows)} {_names(self._context)}".encode(), digest_size=12
        )
        own.update(repr(sorted(settings.items())).encode())
        return own.hexdigest()

    def ready(self, dataset: Any, rows: Rows, spec: EmbeddingSpec) -> Ready:
        """The model, and the rows' text in its own tokens; the span is cut out of the text.

        Raises:
            ComponentError: for rows with pictures, or without a tokenizer to decode them.
            ConfigError: when the model cannot be loaded.
        """
        if has_media(dataset):
            raise ComponentError(
                f"the rows come with pictures, films or sound, and {self.name} embeds text alone. "
                "Set component_params.embedding_model: initial (or run)."
            )
        if spec.modalities == "split":
            raise ComponentError(f"modalities: split needs the run's own model: {self.name} embeds text.")
        decoder, (model, tokenizer) = self.decoder(), self.load()
        texts = EncodedTexts(dataset, rows, decoder, tokenizer, spec.span, longest(model, tokenizer, spec.tokens))
        return Ready(model, texts, Padded(tokenizer), dataclasses.replace(spec, span="all"))

    def decoder(self) -> Any:
        """The tokenizer of the rows.

        Raises:
            ComponentError: without one.
        """
        decoder = getattr(self._context.tokenizer, "tokenizer", self._context.tokenizer)
        if not hasattr(decoder, "decode"):
            raise ComponentError(f"the run has no tokenizer, so rows cannot be turned into text for {self.name}.")
        return decoder

    def free(self) -> None:
        """Let go of the model."""
        if self._loaded is None:
            return
        self._loaded = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _folder(self) -> Path:
        """Where its files are; those of a hub are fetched first."""
        local = user_path(self.name)
        if local.is_dir():
            return local
        from transformers.utils.hub import cached_file

        try:
            with foreign(f"{self._who} {self.name} could not be had"):
                folder = Path(str(cached_file(self.name, "config.json"))).parent
        except Exception as error:
            raise ConfigError(
                f"component_params.{self._who}: {self.name} is neither a folder nor a model that can be downloaded "
                f"({type(error).__name__}). Correct it; initial names the run's own model."
            ) from error
        if not weight_files(folder):
            self.load()
        return folder

    def load(self) -> tuple[nn.Module, Any]:
        """The model and its tokenizer, loaded when they are first asked for."""
        if self._loaded is None:
            from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

            local, context = user_path(self.name), self._context
            place = str(local) if local.is_dir() else self.name
            device = torch.device("cpu") if context.accelerator is None else context.accelerator.device
            dtype: Any = torch.float32 if device.type == "cpu" else "auto"
            trusted = {"trust_remote_code": context.trust_remote_code}
            with rng_scope(devices=True), foreign(f"{self._who} {self.name} could not be loaded"):
                tokenizer = AutoTokenizer.from_pretrained(place, **trusted)
                kind: Any = AutoModelForCausalLM if self._head else AutoModel
                model = kind.from_pretrained(place, dtype=dtype, **trusted)
            self._loaded = model.requires_grad_(False).eval().to(device), tokenizer
        return self._loaded


class EncodedTexts:
    """Rows of a data set in another tokenizer's tokens, map-style by the rows' own numbers.

    Args:
        dataset: Tokenised, map-style.
        rows: Which of its rows.
        decoder: The tokenizer of its tokens.
        tokenizer: The tokenizer to encode with.
        span: Whose text: of all tokens, of those without a label or of those with one.
        longest: Most tokens of a row.
    """

    def __init__(self, dataset: Any, rows: Rows, decoder: Any, tokenizer: Any, span: Span, longest: int | None) -> None:
        self._size, self._places = len(dataset), {int(row): place for place, row in enumerate(rows)}
        encoded: list[npt.NDArray[np.int32]] = []
        cut = {} if longest is None else {"truncation": True, "max_length": longest}
        for start in range(0, len(rows), 1000):
            texts = [
                decoder.decode(_ids(dataset[row], span), skip_special_tokens=True)
                for row in rows[start : start + 1000].tolist()
            ]
            encoded += [np.asarray(ids, np.int32) for ids in _encode(tokenizer, texts, cut)]
        self._ends = np.cumsum([0, *map(len, encoded)])
        self._tokens = np.concatenate([np.zeros(0, np.int32), *encoded])

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, row: int) -> dict[str, list[int]]:
        place = self._places[int(row)]
        return {"input_ids": self._tokens[self._ends[place] : self._ends[place + 1]].tolist()}


class Padded:
    """Pads rows of tokens on the right."""

    def __init__(self, tokenizer: Any) -> None:
        self._pad = int(getattr(tokenizer, "pad_token_id", None) or 0)

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Make a batch of rows."""
        width = max(1, *(len(feature["input_ids"]) for feature in features))
        rows = [list(feature["input_ids"]) for feature in features]
        return {
            "input_ids": torch.tensor([row + [self._pad] * (width - len(row)) for row in rows], dtype=torch.long),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
        }


def _encode(tokenizer: Any, texts: Sequence[str], cut: Mapping[str, Any]) -> list[list[int]]:
    filled = [text for text in texts if text]
    given = iter(tokenizer(filled, **cut)["input_ids"] if filled else ())
    return [list(next(given)) if text else [] for text in texts]  # of no text not even a special token counts


def _ids(features: Mapping[str, Any], span: Span) -> list[int]:
    tokens = list(features["input_ids"])
    if span == "all":
        return tokens
    if "labels" not in features:
        raise ComponentError(f"span: {span} needs labels, which the rows do not have. Use span: all.")
    answer = span == "answer"
    return [token for token, label in zip(tokens, features["labels"], strict=True) if (label != IGNORE_INDEX) == answer]


def longest(model: nn.Module, tokenizer: Any, tokens: int | None = None) -> int | None:
    """Most tokens of a row that a model takes: by what it, its tokenizer and ``tokens`` say, ``None`` for no limit."""
    config: Any = getattr(model, "config", None)
    said = (tokens, getattr(tokenizer, "model_max_length", None), getattr(config, "max_position_embeddings", None))
    return min((int(number) for number in said if number is not None and 0 < number < _FEW_TOKENS), default=None)


def _digest_of(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in _HASHED]
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()};".encode())
        with path.open("rb") as file:
            while piece := file.read(2**22):
                digest.update(piece)
    return digest.hexdigest()


def _names(context: RunContext) -> str:
    """What the rows' own tokenizer is: its text depends on it."""
    tokenizer = getattr(context.tokenizer, "tokenizer", context.tokenizer)
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
    return hashlib.blake2b(repr(sorted(vocabulary.items())).encode(), digest_size=8).hexdigest()
