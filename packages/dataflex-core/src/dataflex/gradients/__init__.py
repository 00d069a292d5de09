"""The gradient of each sample of a batch, from one forward and one backward pass, handed out layer by layer.

::

    coverage.py   which trainable parameters can be told apart by sample, and why the others cannot
    linear.py     the autograd function under each trainable nn.Linear
    sink.py       who receives the gradients: nothing of size [samples, parameters] is ever held
    check.py      whether a batch gives its samples the gradients they have alone
    engine.py     runs batches, batched where possible, else one sample at a time
    moments.py    Adam's moments of the run's optimizer

``.grad``, hooks, train flags and the optimizer's state are left as they were found.
"""
