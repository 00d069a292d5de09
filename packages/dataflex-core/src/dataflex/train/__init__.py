"""Compatibility with the design note's import paths: write ``from dataflex import ...``."""
