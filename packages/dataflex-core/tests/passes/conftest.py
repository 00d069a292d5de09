import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # passes_cases, in spawned processes too
