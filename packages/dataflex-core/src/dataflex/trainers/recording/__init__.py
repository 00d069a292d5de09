"""What a run says and writes while it trains: record, log, terminal, samples to look at.

May read a Trainer; decides nothing.
"""
