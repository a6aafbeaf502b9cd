"""The files that a verifying parent and its child exchange.

Rules kept here:
1. ``job.json`` and ``inputs.npz`` go in; ``result.json`` and, after a success, ``outputs.npz`` come back.
2. Arrays are keyed by position, their names stand in the JSON: a tensor's name may be anything.
3. A result that is not there, or breaks this format, means that the child did not finish: never that it succeeded.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["Failure", "Job", "Result", "read_arrays", "read_job", "read_result", "write_arrays", "write_json"]

JOB, RESULT = "job.json", "result.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the child shall do.

    Attributes:
        model: Path of the artifact.
        kind: Runtime kind, as ``device_agent.runtime.open_runtime`` takes it.
        settings: The runtime's own switches, as pairs.
        threads: Threads inside one run.
        batch: Samples in one run where the artifact leaves its batch open.
        timings: Runs to time, on one sample each; 0 for none.
        names: Names of the arrays in ``inputs.npz``, by position.
    """

    model: str
    kind: str
    settings: tuple[tuple[str, str], ...]
    threads: int
    batch: int
    timings: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the child found.

    Attributes:
        runtime: The runtime's kind.
        version: Its version.
        load_ns: Time to open the artifact.
        cold_ns: Time of the first run.
        times_ns: Time of each timed run, warm, in order.
        rss_bytes: Peak resident memory of the child.
        idle_bytes: Resident memory before the artifact was opened, inputs included.
        names: Names of the arrays in ``outputs.npz``, by position.
    """

    runtime: str
    version: str
    load_ns: int
    cold_ns: int
    times_ns: tuple[int, ...]
    rss_bytes: int
    idle_bytes: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why the child could not run the artifact.

    Attributes:
        error: The error's own explanation.
    """

    error: str


def write_json(folder: Path, value: Job | Result | Failure) -> None:
    """Write a job or what became of it."""
    (folder / (JOB if isinstance(value, Job) else RESULT)).write_text(json.dumps(asdict(value)), encoding="utf8")


def read_job(folder: Path) -> Job:
    """Read the job."""
    raw = json.loads((folder / JOB).read_text(encoding="utf8"))
    settings = tuple((str(key), str(value)) for key, value in raw.pop("settings"))
    return Job(**raw | {"settings": settings, "names": tuple(raw["names"])})


def read_result(folder: Path) -> Result | Failure | None:
    """Read what became of the job; None where the child did not finish."""
    try:
        raw = json.loads((folder / RESULT).read_text(encoding="utf8"))
        if "error" in raw:
            return Failure(error=str(raw["error"]))
        return Result(**raw | {"times_ns": tuple(raw["times_ns"]), "names": tuple(raw["names"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_arrays(path: Path, arrays: Arrays) -> tuple[str, ...]:
    """Write arrays by position and return their names."""
    with path.open("wb") as file:
        np.savez(file, *arrays.values())
    return tuple(arrays)


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Read arrays back by name."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[f"arr_{index}"] for index, name in enumerate(names)}
