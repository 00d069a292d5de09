"""The first slot of a run, who orders the rows: the stock order, a selector or a mixer.

May call components through their door, and the recorder.
"""
