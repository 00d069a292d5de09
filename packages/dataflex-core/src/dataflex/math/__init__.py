"""The arithmetic the components share: losses, weights, draws, ranking, distances, proportions.

Pure: arrays and tensors in, arrays and tensors out. May touch NumPy and torch; reads no file and draws from no
generator that it was not given.
"""
