"""Passes over a model that FSDP2 spreads over two gloo ranks, in which something goes wrong on one of them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gloo import joined
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from dataflex.data.scoring_loader import ScoringLoader
from dataflex.distributed import first_failure, together
from dataflex.errors import ComponentError
from dataflex.lockstep import lockstep
from dataflex.scoring.losses import score_pool
from dataflex.scoring.progress import ScoringProgress
from dataflex.scoring.shards import of_all_ranks, pass_fingerprint
from dataflex.spread import LocalGradients, is_spread, local_piece, whole


class Pool:
    """Rows of one length, of which some cannot be read."""

    def __init__(self, broken: int | None = None) -> None:
        self._ids = torch.randint(1, 40, (24, 6), generator=torch.Generator().manual_seed(1))
        self._broken = broken

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> dict[str, Any]:
        if row == self._broken:
            raise OSError("bad block")
        ids = self._ids[row].tolist()
        return {"input_ids": ids, "labels": ids, "attention_mask": [1] * len(ids)}


def _collated(features: Any) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([row[name] for row in features]) for name in ("input_ids", "labels", "attention_mask")}


def _model() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 40}
    model: Any = Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=2)).eval()
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert is_spread(model)
    return model


def _score(model: nn.Module, accelerator: Any, broken: int | None = None) -> str:
    pool, rank = Pool(), accelerator.process_index
    loader = ScoringLoader(pool, _collated, np.arange(24), token_budget=24, rank=rank, world_size=2)
    loader.dataset = Pool(broken)  # the lengths were read while it was whole
    try:
        score_pool(model, loader, 24, accelerator, ScoringProgress(24, enabled=False))
    except ComponentError as error:
        return str(error)
    return ""


def told(rank: int, world_size: int, folder: str) -> None:
    """A row that one rank cannot read, fingerprints, and gradients of different rows."""
    with joined(rank, world_size, folder) as accelerator:
        model, said = _model(), {}
        said["whole"] = _score(model, accelerator)
        said["resharded"] = str(is_spread(model))
        began = time.monotonic()
        said["broken"] = _score(model, accelerator, broken=17)
        said["seconds"] = str(time.monotonic() - began)
        said["afterwards"] = _score(model, accelerator)
        said["one forward more"] = _uneven(model, accelerator)
        said |= _fingerprints(model, accelerator)
        said |= _gradients(model, rank)
        Path(folder, f"said-{rank}.json").write_text(json.dumps(said), encoding="utf-8")


def _uneven(model: nn.Module, accelerator: Any) -> str:
    """A pass in which the second rank runs one forward more than the first."""
    said = ""
    try:
        with together("scoring", accelerator), lockstep(model, accelerator), torch.no_grad():
            for _ in range(1 + accelerator.process_index):
                model(input_ids=torch.ones(1, 4, dtype=torch.long))
    except ComponentError as error:
        said = str(error)
    first_failure("", accelerator, last=True)
    return said


def _fingerprints(model: nn.Module, accelerator: Any) -> dict[str, str]:
    def key() -> str:
        return of_all_ranks(pass_fingerprint(model, ["pool"], {}), model, accelerator)

    found = {"key": key(), "same key": key()}
    last = list(model.parameters())[-2]
    if accelerator.process_index == 1:
        local_piece(last).view(-1)[-1] += 1
    return found | {"other key": key()}


def _gradients(model: nn.Module, rank: int) -> dict[str, str]:
    """Whether the gradient that is read is of this rank's row alone, and nothing is left of it."""
    gradients, row = LocalGradients(model), torch.arange(1, 7).unsqueeze(0) + 10 * rank
    with gradients.apart():
        model(input_ids=row, labels=row).loss.backward()
        found: dict[str, Any] = {name: gradients.of(value) for name, value in model.named_parameters()}
        found = {name: None if value is None else value.clone() for name, value in found.items()}
    left = all(value.grad is None for value in model.parameters())
    named = {name: whole(value).clone() for name, value in model.named_parameters()}
    from transformers import Qwen2ForCausalLM

    alone = Qwen2ForCausalLM(model.config).eval()
    alone.load_state_dict(named, strict=False)
    alone(input_ids=row, labels=row).loss.backward()
    grads: dict[str, Any] = {name: value.grad for name, value in alone.named_parameters()}
    same = all(torch.allclose(found[name], grad, atol=1e-7) for name, grad in grads.items())
    return {"gradients of its own row": str(same), "nothing left": str(left)}


def inside(rank: int, world_size: int, folder: str) -> None:
    """An error inside the forward of the second rank: no rank comes back from the pass."""
    with joined(rank, world_size, folder) as accelerator:
        model: Any = _model()
        if rank == 1:
            model.model.layers[1].register_forward_pre_hook(_out_of_memory)
        Path(folder, f"began-{rank}").touch()
        _score(model, accelerator)
        Path(folder, f"came-back-{rank}").touch()


def _out_of_memory(module: nn.Module, inputs: Any) -> None:
    raise RuntimeError("out of memory")
