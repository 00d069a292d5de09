"""The first half of the demo: data, tokenizer, pretrained model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataflex.demo import chat, corpus, dataset, pretrain, tokenizer_model
from dataflex.demo.progress import phase
from dataflex.demo.row import Domain, Row
from dataflex.demo.runs import Paths
from dataflex.demo.settings import CUTOFF, Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Data:
    """The data set as it was written.

    Attributes:
        tokenizer: Learnt from the pool.
        splits: Rows by data set name, each within the cutoff.
    """

    tokenizer: Tokenizer
    splits: dict[str, list[Row]]

    @property
    def pool_domains(self) -> list[Domain]:
        """Domain of each row of the pool."""
        return [row.domain for row in self.splits[dataset.POOL]]


def build_data(settings: Settings, paths: Paths, seconds: dict[str, float]) -> Data:
    """Collect rows, learn the tokenizer, shorten the rows to the cutoff, write the data set."""
    with phase("Reading text") as line:
        line.show("docstrings and functions of the standard library, descriptions and licences of packages")
        rows = corpus.split(corpus.read_rows(settings), settings)
        counts = ", ".join(f"{len(split)} {name}" for name, split in rows.splits().items())
        line.show(f"rows: {counts}")
    seconds["reading"] = line.seconds
    with phase("Training the tokenizer") as line:
        tokenizer = tokenizer_model.train_tokenizer(rows.pool)
        splits = {name: [chat.fit(row, tokenizer, CUTOFF) for row in split] for name, split in rows.splits().items()}
        dataset.write(paths.data, splits)
        line.show(f"byte-level BPE, {tokenizer.get_vocab_size()} tokens; no row over {CUTOFF} tokens")
    seconds["tokenizer"] = line.seconds
    return Data(tokenizer, splits)


def build_model(data: Data, settings: Settings, paths: Paths, seconds: dict[str, float]) -> dict[str, Any]:
    """Make a random model, pretrain it on the domains other than docstrings, save it; returns its facts."""
    with phase("Pretraining Qwen2") as line:
        line.show("importing torch and transformers")
        model = tokenizer_model.new_model(data.tokenizer, settings.seed)
        rows = [row for row in data.splits[dataset.POOL] if row.domain is not Domain.DOCSTRINGS]

        def report(step: int, loss: float) -> None:
            line.show(f"step {step}/{settings.pretraining}, loss {loss:.2f}", step, settings.pretraining)

        loss = pretrain.pretrain(
            model,
            [chat.token_ids(row, data.tokenizer) for row in rows],
            steps=settings.pretraining,
            batch=settings.pretraining_batch,
            rate=settings.rate,
            seed=settings.seed,
            report=report,
        )
        tokenizer_model.save(data.tokenizer, model, paths.model)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        line.show(f"{parameters / 1e6:.2f} M parameters, {len(rows)} rows without docstrings, last loss {loss:.2f}")
    seconds["pretraining"] = line.seconds
    return {"parameters": parameters, "vocabulary": data.tokenizer.get_vocab_size(), "pretraining_loss": loss}


def devices() -> int:
    """Accelerators of this machine."""
    import torch

    return torch.accelerator.device_count() if hasattr(torch, "accelerator") else torch.cuda.device_count()
