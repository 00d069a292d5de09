"""The seam to LlamaFactory; only :mod:`dataflex.bridge.llamafactory` imports it, after :mod:`.versions` was asked.

Also how ranks are started, and how a large library is loaded. May touch LlamaFactory's modules for the time of a call,
and everything below; hands domains, origins and parsed arguments to the session of a run, and decides nothing itself.
"""
