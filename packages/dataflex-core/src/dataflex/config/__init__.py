"""From a run file to bound parameters: everything that is checked before anything loads."""
