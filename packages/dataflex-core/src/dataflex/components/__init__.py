"""What a component author writes against: the base classes, and the context they are given."""
