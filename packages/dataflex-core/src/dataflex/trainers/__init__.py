"""The engine that serves plans to a Trainer, and the trainers that decide what those plans are.

session   what a run asked for: component, schedule, hooks
engine    serves micro-batches, opens stages, saves and restores itself
planner   turns a component's answer into the plan of a stage (select.py)
dynamic   the mixin that puts the engine under any ``transformers.Trainer``
"""
