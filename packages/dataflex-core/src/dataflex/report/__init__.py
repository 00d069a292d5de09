"""What runs did, as one HTML file.

    output directory ── read ──> RunData ── plots ──> Plot (matplotlib) ──┐
                                    └────── tables ───────────────────────┴── page ──> report.html, PNG files

Only files that the runs wrote are read: no model, no data set, no network. matplotlib is imported nowhere else.
May write the page and its pictures.
"""
