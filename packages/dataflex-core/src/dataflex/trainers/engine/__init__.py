"""The engine: where every micro-batch of a dynamic run comes from, ticket by ticket.

May touch a Trainer's loader; asks whoever orders the rows for plans.
"""
