"""The selector ``influence``: LESS whose labels training makes itself."""
