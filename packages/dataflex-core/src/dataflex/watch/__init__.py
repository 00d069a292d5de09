"""``dataflex watch``: a run that goes on, in a page that follows it, in a terminal, or as a file.

    files of a run ── follow ──> RunData ──┐
    alive, lock ───── pulse ───> Sign ─────┴── view ──> page (HTML), text (rich) ── server (starlette)

Only reads: the run is neither slowed nor changed, and its lock is never taken.

May read the files of a run, and serve a page on this machine.
"""
