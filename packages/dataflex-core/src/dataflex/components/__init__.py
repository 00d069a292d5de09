"""What a component author writes against: the base classes, and the context they are given.

Also the one door through which core calls components (:mod:`.asking`). May touch NumPy, and torch for type checkers
only; imports no room that scores or trains: who makes scores and gradients is handed in as ``context.passes``.
"""
