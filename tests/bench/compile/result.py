"""What the benchmark measured, as values, and as the JSON in ``.cache/bench/compile.json``.

Rules kept here:
1. A tool that failed is a row with its reason, never a missing row.
2. Drops are points of accuracy, paired with the float net on the same samples, with a 95 % interval.
3. A result read back is checked: another schema, or a row with a field too many or too few, is refused.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ["SCHEMA", "Build", "Result", "Row", "read_result", "write_result"]

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One tool's int8 artifact of one net for one target.

    Attributes:
        net: Name of the net.
        seed: Seed of its training.
        target: The board.
        tool: Who made it.
        version: The tool's version.
        error: Why there is nothing to score; empty where there is.
        bytes: Size of the artifact.
        float_bytes: Size of the float file that every tool was given.
        float_score: Accuracy of the float net on the test part.
        score: Accuracy of the artifact.
        drop: Loss, points.
        low: Lower end of its 95 % interval.
        high: Upper end.
        samples: Number of test samples; 0 where only size and time count, so that there is no score.
        work_s: Wall time of calibrate, choose, apply; median over the repeats.
        cpu_s: Processor time of the same, its children included; median over the repeats.
        all_cpu_s: The same from the start of Python on, imports included.
        import_s: Wall time before that: starting Python and importing the tool.
        rss_bytes: Peak memory of the process; median.
        behind_best: Our loss against the best peer on the same samples, points; None in rows of peers.
        behind_low: Lower end of its interval.
        behind_high: Upper end.
        speed: Time of the float twin over time of the artifact, on a host that is the target; None elsewhere.
    """

    net: str
    seed: int
    target: str
    tool: str
    version: str = ""
    error: str = ""
    bytes: int = 0
    float_bytes: int = 0
    float_score: float = 0.0
    score: float = 0.0
    drop: float = 0.0
    low: float = 0.0
    high: float = 0.0
    samples: int = 0
    work_s: float = 0.0
    cpu_s: float = 0.0
    all_cpu_s: float = 0.0
    import_s: float = 0.0
    rss_bytes: int = 0
    behind_best: float | None = None
    behind_low: float | None = None
    behind_high: float | None = None
    speed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What ``edgepe build`` ships of one net for one target, and whether its claim held on data it never saw.

    Attributes:
        net: Name of the net.
        seed: Seed of its training.
        target: The board.
        error: Why nothing shipped; empty otherwise.
        precision: What shipped.
        bytes: Size of the model file.
        drop: Claimed drop, on the evaluation part.
        low: Lower end of the claimed interval.
        high: Upper end.
        test_drop: Drop on the test part.
        speed: As claimed in the bundle's evidence: float latency over latency; None where unknown.
        speed_is: ``measured`` or ``predicted``.
        seconds: Wall time of the whole build, verification included.
    """

    net: str
    seed: int
    target: str
    error: str = ""
    precision: str = ""
    bytes: int = 0
    drop: float = 0.0
    low: float = 0.0
    high: float = 0.0
    test_drop: float = 0.0
    speed: float | None = None
    speed_is: str = ""
    seconds: float = 0.0

    @property
    def covered(self) -> bool:
        """Whether the claimed interval holds the drop on unseen data."""
        return self.low <= self.test_drop <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run of the benchmark.

    Attributes:
        host: Processor, instruction set and cores.
        software: Names and versions.
        repeats: Runs behind each median of time.
        load: Load average while it ran: other work on the same cores.
        rows: Artifacts.
        builds: What ships.
    """

    host: str
    software: str
    repeats: int
    load: float
    rows: tuple[Row, ...]
    builds: tuple[Build, ...]


def write_result(path: Path, result: Result) -> None:
    """Write a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps({"schema": SCHEMA, **asdict(result)}, indent=1) + "\n", encoding="utf8")
    partial.replace(path)


def read_result(path: Path) -> Result:
    """Read a result back.

    Raises:
        ValueError: Rule 3.
    """
    data = json.loads(path.read_text(encoding="utf8"))
    if data.pop("schema", None) != SCHEMA:
        raise ValueError(f"{path} is no result of schema {SCHEMA}")
    rows = tuple(Row(**checked(row, Row)) for row in data.pop("rows"))
    builds = tuple(Build(**checked(build, Build)) for build in data.pop("builds"))
    return Result(rows=rows, builds=builds, **data)


def checked(data: dict[str, Any], kind: type[Row | Build]) -> dict[str, Any]:
    """Return the fields of one row.

    Raises:
        ValueError: A field is missing or unknown.
    """
    wanted = {field.name for field in fields(kind)}
    if set(data) != wanted:
        raise ValueError(f"a {kind.__name__} has the fields {sorted(wanted)}, got {sorted(data)}")
    return data
