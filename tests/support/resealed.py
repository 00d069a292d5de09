"""Checkpoints that a test has changed, declared whole again: what is wrong with them is then what they hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from dataflex.checkpoint import files as checkpoint_files
from dataflex.checkpoint import state


def reseal(checkpoint: Path) -> None:
    """Write ``files.json``, its digest in ``engine.json`` and the mark anew, for the files as they are now."""
    folder = checkpoint / state.FOLDER
    engine = json.loads((folder / "engine.json").read_text())
    files = checkpoint_files.take(checkpoint, but=state.FOLDER, ranks=1).to_json()
    (folder / "files.json").write_bytes(files)
    engine["sha256"]["files.json"] = hashlib.sha256(files).hexdigest()
    (folder / "engine.json").write_text(json.dumps(engine))
    state.mark_complete(checkpoint)
