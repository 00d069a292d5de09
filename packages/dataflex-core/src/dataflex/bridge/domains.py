"""One pool out of several data sets, with the domain of every row known.

LlamaFactory merges its data sets before it tokenises them and drops extra columns, so no mark on a row survives. Each
data set is therefore loaded by a call of its own and the parts are joined: a domain owns a run of rows.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dataflex.bridge.unloadable import unlike
from dataflex.data.trained_tokens import trained_tokens
from dataflex.errors import ConfigError
from dataflex.failures.saying import said
from dataflex.mixing.domains import Domains, domain_of

logger = logging.getLogger("dataflex")

GetDataset = Callable[..., dict[str, Any]]

_NO_SPLIT = 1e-6  # LlamaFactory's own threshold for val_size
_MERGED = "dataset_dict.json"  # what LlamaFactory leaves in a tokenized_path


def load_by_domain(
    get_dataset: GetDataset,
    template: Any,
    model_args: Any,
    data_args: Any,
    training_args: Any,
    *args: Any,
    compare: Callable[[Sequence[Any]], None] = lambda parts: None,
    **kwargs: Any,
) -> tuple[dict[str, Any], Domains]:
    """Load every data set of ``data_args.dataset`` as a domain of its own.

    With ``tokenized_path``, each domain has a folder there by its name, and the eval sets have one.

    Args:
        get_dataset: LlamaFactory's own, which is called once for each domain and once for the eval sets.
        template: Passed on to it, like all that follow.
        model_args: Passed on.
        data_args: Passed on, changed for each call.
        training_args: Passed on.
        args: Passed on.
        compare: Called with the arguments of the data of all calls before the first is made; may raise.
        kwargs: Passed on.

    Returns:
        The data set module as ``get_dataset`` returns it, and the domains of its training rows.

    Raises:
        ConfigError: when ``tokenized_path`` holds data sets that were merged before.
    """
    from datasets import concatenate_datasets

    def part(folder: str, **changes: Any) -> Any:
        path = None if data_args.tokenized_path is None else os.path.join(data_args.tokenized_path, folder)
        own = copy.copy(data_args)
        for name, value in {"val_size": 0.0, "tokenized_path": path, **changes}.items():
            setattr(own, name, value)
        return own

    def load(own: Any) -> dict[str, Any]:
        return get_dataset(template, model_args, own, training_args, *args, **kwargs)

    def rows_of(own: Any) -> Any:
        module = load(own)
        if "train_dataset" not in module:
            raise ConfigError(f"tokenized_path: {own.tokenized_path} holds no training rows. Delete that folder.")
        return module["train_dataset"]

    if data_args.tokenized_path is not None and os.path.exists(os.path.join(data_args.tokenized_path, _MERGED)):
        raise ConfigError(
            f"tokenized_path: {data_args.tokenized_path} holds data sets that were merged when they were tokenised, so "
            "their domains are lost. Name an empty folder: each domain is then kept in a folder of its own."
        )
    names = tuple(data_args.dataset)
    own = [part(f"train-{name}", dataset=[name], eval_dataset=None) for name in names]
    evals = None if data_args.eval_dataset is None else part("eval", dataset=None)
    if data_args.tokenized_path is not None:
        compare(own if evals is None else [*own, evals])
    parts = [rows_of(each) for each in own]
    sizes = [len(part) for part in parts]
    try:
        module: dict[str, Any] = {"train_dataset": concatenate_datasets(parts)}
    except Exception as error:  # rows whose fields differ
        odd = unlike([(name, part.features) for name, part in zip(names, parts, strict=True)])
        culprit = f"{odd[0]}, since {odd[1]}" if odd else ", ".join(names)
        raise ConfigError(f"the domains cannot be joined because of dataset: {culprit}: {said(error)}.") from error
    if evals is not None:
        module |= load(evals)
    if data_args.val_size > _NO_SPLIT and "eval_dataset" not in module:
        told = getattr(training_args, "process_index", 0) == 0
        module, sizes = _hold_out(
            module["train_dataset"], names, sizes, data_args.val_size, training_args.seed, told=told
        )
    return module, Domains(names, tuple(sizes), trained_tokens(module["train_dataset"]))


def _hold_out(
    pool: Any, names: Sequence[str], sizes: list[int], val_size: float, seed: int, *, told: bool = True
) -> tuple[dict[str, Any], list[int]]:
    """Hold out ``val_size`` rows (a share below 1, else a number), drawn over all domains as LlamaFactory does.

    Of a domain that would be held out as a whole, the first row stays in training.
    """
    from datasets import Dataset

    numbers = Dataset.from_dict({"row": range(len(pool))})
    drawn = numbers.train_test_split(test_size=int(val_size) if val_size > 1 else val_size, seed=seed)
    kept = np.sort(np.asarray(drawn["train"]["row"], dtype=np.int64))
    left = np.bincount(domain_of(kept, sizes), minlength=len(sizes))
    emptied = [place for place, rows in enumerate(left) if not rows and sizes[place]]
    first = np.cumsum([0, *sizes])[emptied].astype(np.int64)  # their rows are all held out
    left[emptied] = 1
    if emptied and told:
        logger.warning(
            "val_size: %s would hold out every row of %s; one row of each is left in training. Name an eval_dataset "
            "to decide what is held out.",
            *(val_size, ", ".join(f"{names[place]} ({sizes[place]})" for place in emptied)),
        )
    held = [row for row in drawn["test"]["row"] if row not in set(first.tolist())]
    if not held:
        raise ConfigError(
            f"val_size: {val_size} of {len(pool)} rows leaves no eval set once each domain has a row to train on. "
            "Raise it, add data, or name an eval_dataset."
        )
    module = {"train_dataset": pool.select(np.sort(np.concatenate([kept, first]))), "eval_dataset": pool.select(held)}
    return module, left.tolist()
