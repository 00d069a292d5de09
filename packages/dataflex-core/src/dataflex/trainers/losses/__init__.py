"""The second slot of a run, who shapes the loss: plain, by domain, or by sample.

May call components through their door; acts inside the Trainer's own ``compute_loss``.
"""
