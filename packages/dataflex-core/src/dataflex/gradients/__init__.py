"""The gradient of each sample of a batch, from one forward and one backward pass, handed out layer by layer.

::

    coverage.py         which trainable parameters can be told apart by sample, and why the others cannot
    linear.py           the autograd function under each trainable nn.Linear
    sink.py             who receives the gradients: nothing of size [samples, parameters] is ever held
    check.py            whether a batch gives its samples the gradients they have alone
    engine.py           runs batches, batched where possible, else one sample at a time
    moments.py          Adam's moments of the run's optimizer
    preconditioning.py  the step that Adam would take for one sample
    grouped.py          validation samples made of several weighted rows
    sinks.py            norms, mean directions, cosines, projections
    measuring.py        one pass over rows of the pool: loader, ranks, parts on disk
    linear_adam.py      Adam's denominator applied once to a direction instead of to each sample
    in_training.py      inner products of the rows of a training step, from its own backward
    comparing.py        which steps are compared, and whether directions fit into memory
    directions.py       the mean direction of each eval set
    cosines.py          cosines of the pool's rows with the eval sets
    passes.py           what components are handed as context.passes

``.grad``, hooks, train flags and the optimizer's state are left as they were found.
"""
