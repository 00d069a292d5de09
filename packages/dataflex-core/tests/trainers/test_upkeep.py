"""A run with many boundaries holds no more at the last than at the first."""

from __future__ import annotations

import gc
import multiprocessing
import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter
from transformers import Trainer, TrainingArguments

from dataflex.trainers import dynamic_trainer

BOUNDARIES = 50
PLUGIN = """
from dataflex import Selector, register_selector

@register_selector("counting")
class Counting(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        return self.dataset.at_boundary(num_samples)
"""


class Pool(torch.utils.data.Dataset):
    """Rows of noise; asked for a selection, it also counts what the process holds."""

    def __init__(self, census):
        self.census, self.counts = census, []

    def __len__(self):
        return 40

    def __getitem__(self, row):
        return {"x": torch.full((4,), float(row)), "labels": torch.ones(1)}

    def at_boundary(self, num_samples):
        self.counts.append(self.census())
        return np.arange(len(self.counts), len(self.counts) + num_samples) % len(self)


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, x, labels):
        return {"loss": (self.layer(x) - labels).pow(2).mean()}


@pytest.fixture
def train(tmp_path):
    plugin = tmp_path / "counting.py"
    plugin.write_text(PLUGIN)
    config = {
        "train_type": "dynamic_select",
        "component_name": "counting",
        "warmup_step": 1,
        "update_step": 2,
        "update_times": BOUNDARIES,
    }

    def train(census, **arguments):
        args = TrainingArguments(
            str(tmp_path / "out"),
            per_device_train_batch_size=2,
            save_strategy="no",
            logging_strategy="no",
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            **arguments,
        )
        pool = Pool(lambda: census(trainer))
        trainer = dynamic_trainer(Trainer, config, plugins=[plugin])(model=Line(), args=args, train_dataset=pool)
        trainer.train()
        assert len(pool.counts) == BOUNDARIES
        return pool.counts

    return train


@pytest.fixture
def only_new_objects():
    """Keep what lives already out of the collector's sight, for good: there are millions of objects."""
    gc.collect()
    gc.freeze()


def loaders_and_workers(trainer):
    gc.collect()
    kinds = [type(thing) for thing in gc.get_objects()]
    return {
        "loaders": sum(issubclass(kind, DataLoader) for kind in kinds),
        "iterators": sum(issubclass(kind, _BaseDataLoaderIter) for kind in kinds),
        "workers": len(multiprocessing.active_children()),
        "known to accelerate": len(trainer.accelerator._dataloaders),
    }


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_every_boundary_finds_the_same_loaders_and_workers(train, only_new_objects, workers, persistent):
    counts = train(loaders_and_workers, dataloader_num_workers=workers, dataloader_persistent_workers=persistent)
    assert counts == [counts[0]] * BOUNDARIES
    assert counts[0] == {
        "loaders": 2,  # the tickets' and the stock one
        "iterators": 1 + persistent,
        "workers": workers if persistent else 0,
        "known to accelerate": 1,
    }


def test_memory_does_not_grow_with_the_number_of_boundaries(train, only_new_objects):
    def kept(trainer):
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        sizes = train(kept)
    finally:
        tracemalloc.stop()
    # Bytes. The Trainer's log keeps an entry for each and Python's caches of names fill up, 2 kB to 2.5 kB together
    # under a deep stack; a loader and its iterator take several times that.
    assert (sizes[-1] - sizes[9]) / (BOUNDARIES - 10) < 4096
