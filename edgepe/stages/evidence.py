"""What was measured and tried while a bundle was built, as the JSON values that lie beside it.

Rules kept here:
1. Whatever differs from run to run (times, memory, host) is here and not in the bundle.
2. No path of the machine that built: evidence is published.
3. :mod:`edgepe.bundle.findings` reads what is written here.
"""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import PurePath
from typing import TYPE_CHECKING

from edgepe.graph.work import load_of
from edgepe.metrics import Kind

if TYPE_CHECKING:
    from edgepe.quantize.search import Attempt, Found
    from edgepe.stages.samples import Samples
    from edgepe.stages.trial import Ground, Trial
    from edgepe.target import Target

__all__ = ["evidence_of"]

PACKAGES = ("edgepe", "ai-edge-litert", "numpy", "onnx", "onnx-ir", "onnxruntime", "torch")
UNITS = {Kind.SCORE: "points", Kind.ERROR: "percent"}


def evidence_of(
    ground: Ground,
    target: Target,
    found: Found[Trial],
    twin: Trial,
    *,
    source: str,
    why: str,
    layers: dict[str, object],
    sha256: str,
) -> dict[str, object]:
    """Return what was measured and tried.

    Args:
        ground: What all targets share.
        target: The board.
        found: The search's result.
        twin: The float artifact of the same target.
        source: What was built from, as the user named it.
        why: Why this precision.
        layers: From :func:`edgepe.stages.layers.layer_evidence`.
        sha256: Digest of the bundle that this is the evidence of.
    """
    trial = found.artifact
    run = trial.run
    return {
        "schema": 1,
        "bundle_sha256": sha256,
        "target": target.name,
        "source": PurePath(source).name,
        "why": why,
        "scored_on": trial.judge.label,
        "host": {"machine": platform.machine(), "system": platform.system(), "python": platform.python_version()},
        "runtime": {"name": run.runtime, "version": run.version},
        "versions": _versions(),
        "data": [_samples("calibration", ground.calibration), _samples("evaluation", ground.evaluation)],
        "comparison": asdict(trial.comparison),
        "drop_unit": UNITS[ground.metric.kind],
        "latency": _timing(trial, target),
        "float": {"bytes": len(twin.artifact.data), "latency": _timing(twin, target)},
        "work": load_of((*ground.work, *trial.artifact.conversions), trial.artifact.schemes).to_json(),
        "rss_bytes": run.rss_bytes,
        "model_rss_bytes": run.model_bytes,
        "against_float": trial.race.to_json() if trial.race else None,
        "attempts": [_attempt(attempt, ships=attempt is found.attempt) for attempt in found.attempts],
        "layers": layers,
    }


def _timing(trial: Trial, target: Target) -> dict[str, object]:
    run = trial.run
    return {
        "us": trial.latency_us,
        "is": trial.latency_is,
        "p99_us": run.p99_us,
        "load_us": run.load_ns / 1000,
        "cold_us": run.cold_ns / 1000,
        "times_us": [time / 1000 for time in run.times_ns],
        "cost_table": target.cost.source if target.cost else "",
    }


def _samples(use: str, samples: Samples) -> dict[str, object]:
    return {"use": use, "samples": len(samples.data), "digest": samples.data.digest}


def _versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def _attempt(attempt: Attempt, *, ships: bool) -> dict[str, object]:
    bounds = attempt.verdict.bounds if attempt.verdict else ()
    refused = "" if ships else attempt.slowness
    return {
        "precision": str(attempt.precision),
        "note": attempt.recipe.note,
        "held": attempt.held and not refused,
        "error": attempt.error or refused,
        "measured": asdict(attempt.measured) if attempt.measured else None,
        "bounds": [asdict(bound) for bound in bounds],
    }
