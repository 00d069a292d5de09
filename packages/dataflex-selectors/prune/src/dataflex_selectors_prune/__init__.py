"""The selector ``prune``: rows of low loss are read less often, and weigh more when they are."""
