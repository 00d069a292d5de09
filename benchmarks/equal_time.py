"""What selection buys on the demo's text: the study ``benchmarks/studies/quickstart.yaml``.

Losses at equal steps, and beside random selection of equal cost; nothing is extrapolated. It lies in ``studies/`` of
the repository, and the same command goes on where a killed one stopped. Further arguments are those of ``dataflex
study``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import figures

STUDY = Path("benchmarks", "studies", "quickstart.yaml")
KEPT = figures.RESULTS / "equal_time.json"


def main() -> None:
    """Conduct the study and, if asked, keep its record."""
    parser = figures.parser(__doc__)
    options, more = parser.parse_known_args()
    command = [sys.executable, "-m", "dataflex", "study", str(STUDY), *more]
    code = subprocess.run(command, cwd=figures.ROOT, check=False).returncode
    if options.write and code == 0:
        shutil.copyfile(figures.ROOT / "studies" / "quickstart" / "study.json", KEPT)
    sys.exit(code)


if __name__ == "__main__":
    main()
