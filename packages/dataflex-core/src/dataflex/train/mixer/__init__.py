"""Import paths of the design note."""
