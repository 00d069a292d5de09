"""One pool out of several data sets, with the domain of every row known.

LlamaFactory merges its data sets before it tokenises them and drops extra columns, so no mark on a row survives. Each
data set is therefore loaded by a call of its own and the parts are joined: domain ``k`` owns a run of rows.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dataflex.data.domains import Domains


def load_by_domain(
    get_dataset: Callable[..., dict[str, Any]],
    template: Any,
    model_args: Any,
    data_args: Any,
    training_args: Any,
    stage: str,
    **tokenizer_module: Any,
) -> tuple[dict[str, Any], Domains]:
    """Load every data set of ``data_args.dataset`` as a domain.

    Args:
        get_dataset: LlamaFactory's own; the other arguments are its.

    Returns:
        The data set module, as ``get_dataset`` returns it, and the domains of its training rows.
    """
    from datasets import concatenate_datasets

    names: list[str] = list(data_args.dataset)

    def load(name: str | None) -> dict[str, Any]:
        part = copy.copy(data_args)
        part.dataset = None if name is None else [name]
        part.eval_dataset = data_args.eval_dataset if name is None else None
        part.val_size = 0.0
        if data_args.tokenized_path is not None:
            part.tokenized_path = os.path.join(data_args.tokenized_path, name or "eval")
        return get_dataset(template, model_args, part, training_args, stage, **tokenizer_module)

    parts = [load(name)["train_dataset"] for name in names]
    module: dict[str, Any] = {"train_dataset": concatenate_datasets(parts)}
    domains = Domains(tuple(names), tuple(len(part) for part in parts))
    if data_args.eval_dataset is not None:
        module["eval_dataset"] = load(None)["eval_dataset"]
    if data_args.val_size > 1e-6:
        module, domains = _split(module["train_dataset"], domains, data_args.val_size, training_args.seed)
    return module, domains


def _split(pool: Any, domains: Domains, val_size: float, seed: int) -> tuple[dict[str, Any], Domains]:
    """Hold out ``val_size`` rows (a share below 1, else a number), drawn as LlamaFactory draws them."""
    indices = _row_numbers(len(pool)).train_test_split(
        test_size=int(val_size) if val_size > 1 else val_size, seed=seed
    )
    kept = np.sort(np.asarray(indices["train"]["row"], dtype=np.int64))
    held_out = np.asarray(indices["test"]["row"], dtype=np.int64)
    counts = np.bincount(domains.of_rows(kept), minlength=len(domains.names))
    module: Mapping[str, Any] = {"train_dataset": pool.select(kept), "eval_dataset": pool.select(held_out)}
    return dict(module), Domains(domains.names, tuple(counts.tolist()))


def _row_numbers(count: int) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"row": range(count)})
