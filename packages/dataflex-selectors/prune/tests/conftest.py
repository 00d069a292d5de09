import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # prune_cases and prune_runs, in spawned processes too
