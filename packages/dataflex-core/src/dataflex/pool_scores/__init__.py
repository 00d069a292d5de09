"""Scoring a pool without training, as ``dataflex score`` does: what is asked for, and what is written.

job.py       the request, scored and written
request.py   a run file turned into a request for the scores of one component
folder.py    the folder of results: new, to be continued, or of another request
scores.py    scores.parquet and summary.json
keep.py      the rows of highest score as a LlamaFactory data set, in their original fields
table.py     what the terminal shows

May touch LlamaFactory through the bridge, a Trainer that does not train, and the folder of results.
"""
