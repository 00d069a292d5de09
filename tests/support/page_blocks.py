"""Code blocks of a page that are marked as runnable, and running them as a reader would.

    <!-- runnable -->
    ```bash
    dataflex list-components
    ```

A block whose first line is a comment with a path is a file to be written; other blocks are shell commands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tiny_runs import call

MARK = "<!-- runnable -->"


@dataclass(frozen=True)
class Block:
    """One block: what it is written in, and its text."""

    language: str
    text: str

    @property
    def path(self) -> Path | None:
        """The file that it is, relative to the folder the reader is in."""
        match = re.match(r"# (\S+\.\w+)\n", self.text)
        return Path(match[1]) if match else None


def runnable_blocks(page: str) -> list[Block]:
    """The marked blocks, in the order of the page.

    Raises:
        ValueError: if a mark stands before something else.
    """
    found = re.findall(rf"^{MARK}\n```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    if len(found) != page.count(MARK):
        raise ValueError(f"{page.count(MARK)} marks, but {len(found)} marked blocks")
    return [Block(*item) for item in found]


def follow(
    blocks: list[Block], folder: Path, environ: Mapping[str, str], *, replaces: bool = False
) -> Iterator[tuple[Block, str]]:
    """Write the files, run the commands, ``cd`` included; yields each block, when done, with what it printed.

    Args:
        blocks: What to follow.
        folder: Where the reader begins.
        environ: Variables of the commands.
        replaces: Whether every file of the page takes the place of one that is there.
    """
    for block in blocks:
        if block.path is not None:
            assert not replaces or (folder / block.path).is_file(), f"there is no {block.path} to replace"
            (folder / block.path).write_text(block.text, encoding="utf-8")
            yield block, ""
            continue
        if block.language != "bash":
            raise ValueError(f"neither a file nor a command:\n{block.text}")
        done = call("bash", "-euc", f"cd '{folder}'\n{block.text}", **environ)
        assert done.returncode == 0, block.text
        yield block, done.stdout
        entered = re.search(r"^cd (\S+)$", block.text, re.MULTILINE)
        folder = folder / entered[1] if entered else folder
