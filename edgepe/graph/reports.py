"""Latencies that devices reported, as a file to fit a cost table to.

Rules kept here:
1. A report says what was run (its load: operators, and per precision multiply-accumulates and elements) and how long
   it took; the load stands in the report, or in the evidence file that lies beside the bundle.
2. A report is of a whole inference, or of one operator alone (``"scope": "op"``: the call's own time is not in it).
3. What does not fit is an error that names the report; nothing is skipped.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, cast

from edgepe.errors import DataError, MissingFileError
from edgepe.graph.work import Load
from edgepe.scheme import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["LARGEST_BYTES", "MOST", "SCHEMA", "Report", "read_reports"]

SCHEMA = 1
LARGEST_BYTES = 16 << 20
MOST = 10_000
"""Reports in one file."""
SCOPES = ("model", "op")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One latency.

    Attributes:
        load: What was run.
        latency_us: How long it took, µs: the median of what was seen.
        device: Who reported it; empty where nobody says.
        whole: Whether it is of a whole inference; otherwise of one operator.
    """

    load: Load
    latency_us: float
    device: str
    whole: bool


def read_reports(path: Path, *, target: str) -> tuple[Report, ...]:
    """Return the reports of a file.

    Args:
        path: JSON: ``{"schema": 1, "target": NAME, "reports": […]}``; see ``targets/README.md``.
        target: The target that they ought to be of.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is too large, no JSON, of another target, or a report is wrong.
    """
    raw = _json(path)
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        _refuse(
            path, "the file", f"an object with schema {SCHEMA}", raw if not isinstance(raw, dict) else raw.get("schema")
        )
    if raw.get("target") != target:
        _refuse(path, "'target'", target, raw.get("target"))
    rows = raw.get("reports")
    if not isinstance(rows, list) or not 0 < len(rows) <= MOST:
        _refuse(path, "'reports'", f"a list of 1 to {MOST}", len(rows) if isinstance(rows, list) else rows)
    return tuple(_report(path, f"report {place}", row) for place, row in enumerate(rows, 1))


def _report(path: Path, where: str, row: object) -> Report:
    if not isinstance(row, dict):
        _refuse(path, where, "an object", row)
    scope = row.get("scope", "model")
    if scope not in SCOPES:
        _refuse(path, f"{where} 'scope'", " or ".join(SCOPES), scope)
    latency = row.get("latency_us")
    if isinstance(latency, bool) or not isinstance(latency, int | float) or not 0 < latency < math.inf:
        _refuse(path, f"{where} 'latency_us'", "a positive number", latency)
    work = row.get("work")
    if work is None and isinstance(row.get("evidence"), str):
        work = _evidence_work(path, where, row["evidence"])
    return Report(
        load=_load(path, where, work),
        latency_us=float(latency),
        device=str(row.get("device", "")),
        whole=scope == "model",
    )


def _evidence_work(path: Path, where: str, name: str) -> object:
    evidence = _json(path.parent / name)
    if not isinstance(evidence, dict) or "work" not in evidence:
        _refuse(path, f"{where} 'evidence'", "an evidence file that holds 'work'", name)
    return evidence["work"]


def _load(path: Path, where: str, work: object) -> Load:
    if not isinstance(work, dict):
        _refuse(path, f"{where} 'work'", "an object, or an 'evidence' file that holds it", work)
    known = {"ops", *map(str, Precision)}
    if set(work) - known:
        _refuse(path, f"{where} 'work'", ", ".join(sorted(known)), ", ".join(sorted(set(work) - known)))
    counts: dict[str, dict[Precision, int]] = {"macs": {}, "elements": {}}
    for key in sorted(set(work) - {"ops"}):
        if not isinstance(work[key], dict):
            _refuse(path, f"{where} 'work' '{key}'", "an object with macs and elements", work[key])
        for kind, into in counts.items():
            into[Precision(key)] = _count(path, f"{where} '{key}' '{kind}'", work[key], kind)
    ops = _count(path, f"{where} 'work'", work, "ops")
    return Load(ops=ops, macs=counts["macs"], elements=counts["elements"])


def _count(path: Path, where: str, holder: Mapping[str, object], key: str) -> int:
    value = holder.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _refuse(path, f"{where} '{key}'", "a whole number, not negative", value)
    return value


def _json(path: Path) -> object:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            _refuse(path, "the file", f"at most {LARGEST_BYTES} bytes", path.stat().st_size)
        return cast("object", json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no file {path}", expected="a JSON file", got="no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON", expected="see targets/README.md", got=str(error)) from error


def _refuse(path: Path, where: str, expected: object, got: object) -> NoReturn:
    raise DataError(f"{path}: {where} is wrong", expected=expected, got=got, next_step="see targets/README.md")
