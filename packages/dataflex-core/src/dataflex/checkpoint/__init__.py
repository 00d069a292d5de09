"""A checkpoint folder: what the engine keeps in it, whether it is whole, and which one comes first.

May touch torch for tensors of components; knows no Trainer.
"""
