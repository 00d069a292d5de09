"""The selectors ``near`` and ``rds``: rows whose embeddings lie close to those of the eval set."""
