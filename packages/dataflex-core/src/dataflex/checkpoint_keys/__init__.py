"""What may change between two parts of a run: the class of each key, the comparison, and models known by content.

Pure: JSON values and files in, findings out. :mod:`dataflex.trainers.resume.run_keys` gathers the keys of a run, and
:mod:`dataflex.trainers.resume.new_values` puts changed ones to work. May touch the standard
library alone.
"""
