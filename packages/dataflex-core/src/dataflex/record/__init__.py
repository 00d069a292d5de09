"""What a run leaves in its output directory: files, the run's record, plans, and the lock.

May touch the standard library, numpy for plans, and the rooms of plain facts (runs, decisions).
"""
