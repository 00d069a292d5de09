"""Several runs one after another or beside each other, each a process of its own: lock, jobs, GPUs, what a kill left.

It knows nothing of what the runs are for: whoever calls it says when a run is finished, and what comes next.
"""
