"""The selectors ``ifd``, ``perplexity``, ``deita`` and ``column``: scores of rows that need no target."""
