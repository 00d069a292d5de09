"""Several runs one after another or beside each other, each a process of its own: lock, jobs, GPUs, what a kill left.

It knows nothing of what the runs are for: whoever calls it says when a run is finished, and what comes next.

::

    job.py, run.py         jobs in order, so many at once, until a signal says stop
    processes.py, foreground.py, on_ray.py, gpus.py, where.py    where they run, and on which GPUs
    phase.py, progress.py  a project's phases: run files, hand-over files, how far each has come
    conduct.py             the phases in order, under a lock, each skipped when it is complete
    checks.py, shown.py    what is refused before the first one trains; what --dry-run prints
    project_file.py, beside.py, model_size.py    reading a project, and what it names
"""
