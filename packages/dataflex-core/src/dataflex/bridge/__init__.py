"""The seam to LlamaFactory; only :mod:`dataflex.bridge.llamafactory` imports it, after :mod:`.versions` was asked."""
