"""Looking at a pool: what its rows hold, which tokens of them are trained on, where they come from, in which order.

May touch data sets, collators and a loader for passes over them (:mod:`.scoring_loader`); knows no Trainer.
"""
