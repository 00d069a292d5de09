"""The keys of a study file: what the reader knows and docs/study.md lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

REQUIRED = "required"

COMMANDS: Mapping[str, str] = {"doremi": "final", "regmix": "final", "mixmin": "final"}
"""Commands that an arm may be in place of a run, each with its last phase: the one that trains for T steps."""

REPLACED = ("output_dir", "seed", "overwrite_output_dir", "resume_from_checkpoint")
"""Keys of a run file that the study sets itself, for each run."""


@dataclass(frozen=True, kw_only=True)
class FileKey:
    """One key.

    Attributes:
        name: As it is written.
        type: What its value is, in words.
        default: What holds when it is left out; :data:`REQUIRED` if it may not be.
        help: One sentence or two.
    """

    name: str
    type: str
    default: str
    help: str


KEYS = (
    FileKey(
        name="base",
        type="path",
        default=REQUIRED,
        help="A run file that evaluates; what all arms have in common. Looked for beside the study file, then in the "
        "working directory.",
    ),
    FileKey(
        name="arms",
        type="mapping of mappings",
        default=REQUIRED,
        help="A name for each arm, and the keys in which it differs from base; null takes a key away.",
    ),
    FileKey(
        name="metric",
        type="str",
        default=REQUIRED,
        help="The number that is compared: one of the run's eval_results.json, or of evaluate.",
    ),
    FileKey(name="out", type="path", default="studies/ and the file's name", help="Folder for everything it writes."),
    FileKey(name="baseline", type="str", default="the first arm", help="The arm that the others are compared with."),
    FileKey(name="seeds", type="list of int >= 0", default="[42]", help="Every arm is trained once with each."),
    FileKey(name="direction", type="lower | higher", default="lower", help="Which values of the metric are better."),
    FileKey(
        name="baseline_lengths",
        type="list of float > 0",
        default="[1]",
        help="Multiples of the arms' steps at which the baseline is trained, to compare at equal cost; 1 is always "
        "among them.",
    ),
    FileKey(
        name="cost",
        type="steps | seconds | cpu_seconds",
        default="steps",
        help="What training and deciding are counted in.",
    ),
    FileKey(
        name="shared_index",
        type="counted | free",
        default="counted",
        help="What embeddings cost that a run found ready: what they cost the run that made them, or nothing.",
    ),
    FileKey(
        name="prepare",
        type="str | list of str",
        default="none",
        help="A command that is run once for each seed before its runs; {seed} and {out} in it are filled in.",
    ),
    FileKey(
        name="evaluate",
        type="str | list of str",
        default="none",
        help="A command that is run after each run, with its output directory as last argument or for {output_dir}; "
        "the numbers of the last JSON object it prints join the run's.",
    ),
)
"""Keys of a study file."""
