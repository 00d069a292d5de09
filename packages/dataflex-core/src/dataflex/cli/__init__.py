"""The command line. Each command imports what it needs inside its function: ``list-components`` stays fast."""
