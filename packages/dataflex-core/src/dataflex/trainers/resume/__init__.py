"""Going on from a checkpoint: which one, under which keys, with which callbacks.

May read a Trainer's arguments and callbacks, and set what a resumed run changes.
"""
