"""Passes of a model over rows of the pool, and what they are made of.

::

    passes.py      context.score and context.losses
    batches.py     the loop: this rank's batches, finished ones to a store, all ranks gathered
    losses.py      mean next-token losses of a batch
    preferences.py context.preferences: the loss of dpo, rm and kto, row by row
    shards.py      finished scores on disk, so that a pass that was killed goes on
    candidates.py  which rows are scored
    embedding_source.py   where a component's embeddings come from: the model in training, as it began, or another
    embedding_params.py   the parameters that each such component has
    embeddings.py         rows to unit vectors, or those that lie on disk; the key they lie under
    embedding_pass.py     the loop: this rank's batches, gathered on rank 0, centred there
    embedded_model.py, other_model.py  the run's own model with its tokens, or another one with the rows' text
    score_source.py, row_scores.py  scores that need no target: made once, or those that lie on disk
    encoded_turns.py      rows in another model's tokens, prompt and answer told apart
    initial_model.py      the model as training began, once more
    hidden_states.py      layers of a model, without head and without the layers above
    pooling.py, cutting.py  tokens to one vector a row; tokens that need not be run
    kept_folder.py, writer_lock.py  what is found by its key, and who makes it
    index_store.py, index_cache.py  finished indexes, what lies in a folder
    reference/     a reference model's losses, live or from a file
    inputs.py      from a collated batch to what the model is called with
    objective.py   whether the loss that is scored is the one the model is trained with
    quiet.py, buffers.py, rope.py  a model that computes the same each time and is left as it was
    progress.py    the bar, or a line now and then
"""
