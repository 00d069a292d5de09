"""Errors of other libraries: marked where we call them, told in one sentence with exit code 2, kept in a log.

    with foreign(): library.call()      marks what the library raises; type and traceback stay as they are
    cli.app.main ── telling.tell ──>    sentence, exit code, traceback or not
                    place.of            what the run was doing, read off the traceback
                    error_log           the last calls, in the output directory

An error of ours carries no mark: it keeps its traceback and asks for a report. May touch the standard library, and the
output directory for the log.
"""
