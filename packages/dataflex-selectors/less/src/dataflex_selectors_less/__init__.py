"""The selector ``less``: rows whose gradient points where the eval set's does."""
