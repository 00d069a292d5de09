"""The selector ``delta_loss``: rows whose loss has fallen since the first boundary."""
