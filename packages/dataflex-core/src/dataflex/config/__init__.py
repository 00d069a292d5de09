"""From a run file to bound parameters: everything that is checked before anything loads.

May touch the run file, components.yaml, plugins and whether a path exists; OmegaConf, PyYAML and pydantic inside
functions. Knows no model library.
"""
