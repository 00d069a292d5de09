"""The arithmetic the components share: per-sample losses and ranking."""
