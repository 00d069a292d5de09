"""A reference model, with whose losses those of the model in training are compared.

::

    params.py      where its losses come from: a file, or a second model in memory
    model.py       loading it, telling it apart from others, its vocabulary
    live.py        its losses of each micro-batch, or of rows of the pool
    cached.py      its losses of the whole pool, computed once; loss_file.py keeps them
    opening.py     one or the other
    samples.py     from losses of tokens to those of the samples that a weighter weighs
"""
