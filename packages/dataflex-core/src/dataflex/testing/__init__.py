"""Small real things to test a component with."""
