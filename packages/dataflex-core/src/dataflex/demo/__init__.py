"""``dataflex demo``: real text of this machine, a small model, real runs, and a table of what came out.

    text (standard library, installed packages)  ->  rows  ->  data/   one pool, two eval sets, one validation set
    tokenizer  ->  random Qwen2  ->  pretraining on the domains other than docstrings  ->  model/
    base.yaml, demo.yaml  ->   :mod:`dataflex.study`, a process a run  ->  files/, runs/, logs/, study.json, report.html
    decisions.jsonl and all_results.json of each run  ->  tables, summary.json

The runs know nothing of the demo: each can be repeated by hand from its file, and ``dataflex study demo.yaml`` goes on
with more seeds. Nothing is downloaded.

May touch what is installed on this machine, to read its text, a folder of its own, and the rooms that train and report.
"""
