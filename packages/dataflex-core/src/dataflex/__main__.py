"""``python -m dataflex``: the same program as ``dataflex`` and ``dataflex-cli``."""

from dataflex.cli.app import main

if __name__ == "__main__":
    main()
