"""Passes of a model over rows of the pool, and what they are made of.

::

    passes.py      context.score and context.losses
    batches.py     the loop: this rank's batches, finished ones to a store, all ranks gathered
    losses.py      mean next-token losses of a batch
    shards.py      finished scores on disk, so that a pass that was killed goes on
    candidates.py  which rows are scored
    inputs.py      from a collated batch to what the model is called with
    objective.py   whether the loss that is scored is the one the model is trained with
    quiet.py, buffers.py, rope.py  a model that computes the same each time and is left as it was
    progress.py    the bar, or a line now and then
"""
