"""The command line. Each command imports what it needs inside its function: ``list-components`` stays fast.

May touch every room, and prints; the work itself is done in the rooms below.
"""
