"""What a run's log.txt tells: when it was started and by what, what it warned of, how it ended."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

# As Detectron2's `setup_logger` writes it.
_RECORD = re.compile(r"\[(\d\d/\d\d \d\d:\d\d:\d\d)\] (\S+) ([A-Z]+): (.*)")
_FIRST_OF_A_START = "Rank of current process"
_TRAINS = "Starting training from iteration "
# As `SOLVER.EARLY_STOP` says it.
_EARLY_STOP = "early stop after"
# What `describe_start` gives stands behind it.
STARTED = "started: "
# Rows of Detectron2's "Environment info".
_ENVIRONMENT = re.compile(
    r"^(Python|PyTorch|detectron2|GPU [\d,]+|Driver version) {2,}(\S.*)$", re.M
)


class Record(NamedTuple):
    """One entry of a log; its text may have several lines."""

    time: datetime
    level: str
    text: str


class Start(NamedTuple):
    """One process of a run: when it began and ended, at which iteration; how it was started."""

    begin: datetime
    end: datetime
    iteration: int
    facts: dict[str, Any]


class LogStory(NamedTuple):
    """starts: those that trained. environment: the latest. warnings: with how often they came.

    ending: why the last start ended before its time, where it said so: the last line of its
    traceback, or that it was stopped early.
    """

    starts: list[Start]
    environment: dict[str, str]
    warnings: dict[str, int]
    ending: str


def describe_start(version: str, folder: str, command: list[str], processes: int) -> str:
    """The line of a log from which the page of the run knows how it was started."""
    facts = {"vfnet": version, "folder": folder, "command": command, "processes": processes}
    return STARTED + json.dumps(facts)


def read_log(path: Path) -> LogStory:
    """Read log.txt; of one that is not there or holds nothing, nothing."""
    if not path.is_file():
        return LogStory([], {}, {}, "")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    parts: list[list[Record]] = []
    for record in _records(lines, datetime.fromtimestamp(path.stat().st_mtime)):
        if not parts or record.text.startswith(_FIRST_OF_A_START):
            parts.append([])
        parts[-1].append(record)
    trained = [part for part in parts if any(r.text.startswith(_TRAINS) for r in part)]
    warnings = Counter(r.text for part in parts for r in part if r.level == "WARNING")
    last = trained[-1] if trained else []
    return LogStory(
        [_start(part) for part in trained],
        {
            name: text
            for part in trained
            for r in part
            for name, text in _ENVIRONMENT.findall(r.text)
        },
        dict(warnings),
        next((_last_line(r.text) for r in reversed(last) if _is_ending(r)), ""),
    )


def _records(lines: Iterable[str], written: datetime) -> Iterator[Record]:
    """The entries of a log that was last written to at this time: it has no years."""
    current: Record | None = None
    for line in lines:
        found = _RECORD.match(line)
        if found is None:
            if current is not None:
                current = current._replace(text=f"{current.text}\n{line}")
            continue
        if current is not None:
            yield current
        time, _, level, text = found.groups()
        current = Record(_with_year(time, written), level, text)
    if current is not None:
        yield current


def _with_year(time: str, written: datetime) -> datetime:
    """A time without a year, in the last year before the file was written; a day is tolerance."""
    for year in range(written.year, written.year - 8, -1):
        try:  # 29 February is not in every year
            found = datetime.strptime(f"{year}/{time}", "%Y/%m/%d %H:%M:%S")
        except ValueError:
            continue
        if found <= written + timedelta(days=1):
            return found
    return written


def _start(records: list[Record]) -> Start:
    facts: dict[str, Any] = {}
    iteration = 0
    for record in records:
        if record.text.startswith(STARTED):
            try:
                facts = json.loads(record.text.removeprefix(STARTED))
            except ValueError:  # the line was cut by a kill
                facts = {}
        if record.text.startswith(_TRAINS):
            number = record.text.removeprefix(_TRAINS).split()[0]
            iteration = int(number) if number.isdigit() else 0
    return Start(records[0].time, records[-1].time, iteration, facts)


def _is_ending(record: Record) -> bool:
    return record.level == "ERROR" or record.text.startswith(_EARLY_STOP)


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""
