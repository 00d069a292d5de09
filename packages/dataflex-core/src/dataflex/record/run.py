"""What a run writes down of itself beside its decisions, in ``dataflex/`` of its output directory.

    run.json        what runs: component, parameters, schedule, pool, versions; and how it ended
    log.jsonl       the Trainer's log, a line an entry, with the seconds spent so far
    seconds.jsonl   the seconds spent so far, a line a checkpoint
    samples.jsonl   text of the rows chosen most and least, brought up to date at each boundary

Everything :mod:`dataflex.report` shows comes from here and from ``decisions.jsonl``: it needs neither model nor data.
Standard library only.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dataflex.errors import ConfigError
from dataflex.record import fields as records
from dataflex.record import files

SCHEMA = 1
FOLDER = "dataflex"
_SECRET = re.compile(r"token$|secret|password|api_key|webhook", re.IGNORECASE)
_HIDDEN = "(hidden)"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended by itself.

    Attributes:
        steps: Optimizer steps done.
        metrics: The Trainer's closing metrics.
        ended_by: Who ended it before its last planned step; ``""`` for a run that came to it.
        written: Whether all that comes after training has been written too, the final model above all.
        checkpoint: Step of the newest checkpoint then; 0 if there was none.
    """

    steps: int
    metrics: Mapping[str, Any]
    ended_by: str = ""
    written: bool = False
    checkpoint: int = 0


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What runs (schema 1; later schemas only add fields).

    Attributes:
        train_type: The key of the run file.
        stage: LlamaFactory's training stage; ``""`` under another front end.
        kind: Kind of the component.
        component: Its name.
        dist: Who provides it.
        params: Its parameters.
        arguments: LlamaFactory's keys or the Trainer's arguments; what looks like a secret is hidden.
        unchecked: Those of LlamaFactory's keys that the pool may not have been made under, since it came from a folder
            that somebody else had tokenised: what was asked for. They do not stand in ``arguments``.
        components: Every component, in the order in which they decide: kind, name, who provides it, parameters, and how
            it is asked. Empty in a record of before there could be several.
        data: LlamaFactory's keys that the pool was tokenised under, as parsed; empty where that is not known.
        seed: The run's seed.
        run_id: What tells the run from others, as its checkpoints have it; ``""`` in a record of before there was one.
        data_seed: The seed that rows are drawn by; ``None`` in a record of before it could differ from ``seed``.
        global_batch: Samples of one optimizer step over all ranks.
        ranks: Number of processes.
        pool: Rows of the pool.
        domains: Names of the domains, if they are known.
        domain_sizes: Rows of each.
        warmup: Steps before the first boundary.
        update: Steps between boundaries.
        total: Steps of the whole run.
        versions: Version by distribution, Python's included.
        started: When the run (or the part of it that was resumed last) began, ISO 8601 with zone.
        settings: Our own keys that decide what is trained on, as far as they are not named above.
        pool_fingerprint: Content fingerprint of the pool; ``""`` in older records.
        ending: How it ended; ``None`` while it has not, or was killed.
        schema: Version of this record.
    """

    train_type: str
    stage: str
    kind: str
    component: str
    dist: str
    params: Mapping[str, Any]
    arguments: Mapping[str, Any]
    seed: int
    global_batch: int
    ranks: int
    pool: int
    domains: Sequence[str]
    domain_sizes: Sequence[int]
    warmup: int
    update: int
    total: int
    versions: Mapping[str, str]
    started: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    pool_fingerprint: str = ""
    ending: Ending | None = None
    run_id: str = ""
    data_seed: int | None = None
    unchecked: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    components: Sequence[Mapping[str, Any]] = ()
    schema: int = SCHEMA

    @property
    def title(self) -> str:
        """Kind and name of each component."""
        several = [f"{each.get('kind')} {each.get('component')}" for each in self.components]
        return " + ".join(several) or f"{self.kind} {self.component}"

    @classmethod
    def from_json(cls, text: str) -> RunInfo:
        """Read it back; fields of a later schema are ignored."""
        return records.from_fields(cls, json.loads(text))


@dataclass(frozen=True, kw_only=True)
class Logged:
    """One entry of the Trainer's log.

    Attributes:
        step: Optimizer steps done.
        values: What was logged.
        seconds: Seconds since the run began, all its parts together: ``elapsed``, and of these ``decisions``,
            ``checkpoints`` and ``evaluation``; the same in CPU seconds of all ranks, as ``cpu_elapsed`` and so on.
        histogram: Of the weights of all samples since the entry before: ``edges`` and ``counts``; empty without them.
    """

    step: int
    values: Mapping[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict)
    histogram: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, line: str) -> Logged:
        """Read one line."""
        return records.from_fields(cls, json.loads(line))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A row of the pool, to look at.

    Attributes:
        row: Its index.
        chosen: How often the plans made so far hold it.
        text: Its decoded text, cut to a few thousand characters; ``None`` if it cannot be decoded.
        score: Its score at the last boundary; ``None`` if it has none.
        domain: Its domain; ``""`` if that is not known.
        most: Whether it is one of those chosen most often; otherwise of the least.
    """

    row: int
    chosen: int
    text: str | None
    score: float | None
    domain: str
    most: bool

    @classmethod
    def from_json(cls, line: str) -> Sample:
        """Read one line."""
        return records.from_fields(cls, json.loads(line))


class RunRecord:
    """The files of one output directory. Only rank 0 writes them.

    Args:
        output_dir: The run's output directory.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        folder = self.output_dir / FOLDER
        self.info_path, self.log_path = folder / "run.json", folder / "log.jsonl"
        self.samples_path, self.seconds_path = folder / "samples.jsonl", folder / "seconds.jsonl"

    def write_info(self, info: RunInfo) -> None:
        """Write what runs."""
        files.replace_text(self.info_path, json.dumps(asdict(info), indent=1, default=str) + "\n")

    def info(self) -> RunInfo | None:
        """What runs; ``None`` if no run has written it.

        Raises:
            ConfigError: when the file is damaged.
        """
        if not self.info_path.is_file():
            return None
        try:
            return RunInfo.from_json(self.info_path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{self.info_path} is not the record of a run ({error}). Move the file away.") from error

    def mark_written(self, checkpoint: int) -> None:
        """Note that everything has been written which comes after the training of a run that has ended.

        Args:
            checkpoint: Step of its newest checkpoint; 0 if there is none.
        """
        info = self.info()
        if info is not None and info.ending is not None:
            self.write_info(replace(info, ending=replace(info.ending, written=True, checkpoint=checkpoint)))

    def append(self, entry: Logged) -> None:
        """Add an entry of the log."""
        files.append_line(self.log_path, json.dumps(asdict(entry), default=str), sync=False)

    def log(self) -> Iterator[Logged]:
        """The log."""
        return files.read_lines(self.log_path, Logged.from_json, "an entry of the log")

    def truncate(self, entries: int) -> None:
        """Keep the first ``entries`` of the log: as many as the checkpoint has seen from which a run goes on."""
        if self.log_path.exists():
            kept = itertools.islice(self.log(), entries)
            files.replace_lines(self.log_path, [json.dumps(asdict(entry), default=str) for entry in kept])

    def write_seconds(self, step: int, seconds: Mapping[str, float]) -> None:
        """Keep the seconds spent up to a checkpoint: a run that goes on from it counts from there."""
        files.append_line(self.seconds_path, json.dumps({"step": step, "seconds": dict(seconds)}), sync=False)

    def keep_seconds(self, step: int) -> Mapping[str, float]:
        """The seconds spent up to the checkpoint of a step; those of later ones are forgotten. Empty if not known."""
        lines = list(files.read_lines(self.seconds_path, files.parse_object, "the seconds of a checkpoint"))
        kept = [line for line in lines if isinstance(line.get("step"), int) and line["step"] <= step]
        if lines:
            files.replace_lines(self.seconds_path, map(json.dumps, kept))
        found = [line["seconds"] for line in kept if line["step"] == step]
        return {str(name): float(value) for name, value in found[-1].items()} if found else {}

    def write_samples(self, samples: Iterable[Sample]) -> None:
        """Replace the samples."""
        files.replace_lines(self.samples_path, [json.dumps(asdict(sample)) for sample in samples])

    def samples(self) -> list[Sample]:
        """The samples, those chosen most first."""
        return list(files.read_lines(self.samples_path, Sample.from_json, "a sample"))


def hide_secrets(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as JSON values, with what looks like a secret hidden, in mappings within them too."""
    return dict(_hidden(json.loads(json.dumps(dict(arguments), default=str))))


def _hidden(value: Any, name: str = "") -> Any:
    if value and _SECRET.search(name):
        return _HIDDEN
    if isinstance(value, dict):
        return {key: _hidden(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    return value
