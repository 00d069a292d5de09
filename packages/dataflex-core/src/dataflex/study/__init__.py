"""``dataflex study``: several arms, several seeds, one page that says which of them pays for itself.

    study.yaml ── file ──> StudyFile ── arms, lengths ──> Plan (a run file for each arm, length and seed)
                                                            │
    phases (processes, Ray) <── conduct ── prepare, check, train, evaluate: what is not done yet
                                                            │
    output directories ── reading, cost ──> StudyRun ── compare (curve, paired, worth) ──> verdicts
                                                            │
                                        study.json, study.csv, report.html, png/ <── record, plots, page

A run is an ordinary one: its file can be given to ``dataflex train``. Statistics are scipy's.

May write run files, start runs through the rooms below, and read what they leave.
"""
