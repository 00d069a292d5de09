"""Sampling a mixture: domains, proportions, whose turn it is, which row.

May touch numpy and the configuration of a mix run; knows no model and no Trainer.
"""
