"""Put a bundle together: manifest and golden vectors, and say why it has its precision.

Rules kept here:
1. Nothing measured in time goes into the bundle; times, host and attempts are evidence (``evidence``).
2. Golden inputs are samples of the evaluation data, golden outputs what the stand-in made of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from device_agent.wire.manifest import Manifest, MetricClaim, OpRow
from edgepe.bundle.golden import GOLDEN_FILE, golden_bytes, golden_rows, golden_terms
from edgepe.bundle.pack import file_entries
from edgepe.graph.memory import predict_rss_bytes
from edgepe.stages.board import BOARD, board_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from edgepe.metrics import Comparison
    from edgepe.quantize.search import Attempt, Found
    from edgepe.stages.trial import Ground, Trial
    from edgepe.target import Target

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["assemble", "why"]

CLASSES_FROM = 2  # outputs with at least so many columns are classes


def assemble(
    ground: Ground, target: Target, trial: Trial, *, name: str, version: str
) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest and the files of the bundle of the artifact that ships."""
    artifact = trial.artifact
    golden = _golden(ground, trial)
    files = {f"model.{target.format}": artifact.data, GOLDEN_FILE: golden_bytes(*golden)}
    predicted = trial.predicted_us
    manifest = Manifest(
        name=name,
        version=version,
        target=target.name,
        format=target.format,
        precision=str(artifact.precision),
        model=f"model.{target.format}",
        files=file_entries(files),
        inputs=trial.inputs,
        outputs=tuple(edge.output_spec() for edge in artifact.outputs),
        labels=ground.signature.labels,
        runtime=target.runtime,
        ops=tuple(
            OpRow(node=row.node, op=row.op, precision=str(row.precision), reason=str(row.reason), detail=row.detail)
            for row in artifact.schemes
        ),
        calibration_digest=ground.calibration.data.digest,
        profile_digest=target.digest,
        metric=_claim(trial.comparison, trial.judge.label),
        predicted_latency_us=None if predicted is None else round(predicted),
        predicted_rss_bytes=predict_rss_bytes(
            ground.captured.model, artifact.schemes, file_bytes=len(artifact.data), memory=target.memory
        ),
        baseline=_class_frequencies(trial.run.outputs),
        golden=golden_terms(golden[1], artifact.precision),
        extra=((BOARD, board_text(target)),),
    )
    return manifest, files


def why(target: Target, found: Found[Trial], *, asked: bool) -> str:
    """Return the reason for the precision that ships, in a sentence."""
    return f"{_choice(target, found, asked=asked)}{_warning(found)}"


def _choice(target: Target, found: Found[Trial], *, asked: bool) -> str:
    if asked:
        return "asked for"
    failed = _failures(found.attempts[:-1])
    if failed:
        return f"{'; '.join(failed)}; {found.attempt.recipe} holds"
    bounds = found.attempt.verdict.bounds if found.attempt.verdict else ()
    order = " → ".join(target.precisions)
    return f"first of {order}, {'holds the contract' if bounds else 'no bound was set'}"


def _warning(found: Found[Trial]) -> str:
    """Return what to know of the speed of what ships; empty where it is not slower than float."""
    raced = found.artifact.race
    if raced is not None and raced.slower:
        return f"; slower than float: measured, takes {raced.ratio:.2f} times as long"
    return f"; slower than float: {found.attempt.slowness}" if found.attempt.slower and raced is None else ""


def _golden(ground: Ground, trial: Trial) -> tuple[Arrays, Arrays]:
    rows = golden_rows(ground.evaluation.data)
    inputs = {spec.name: ground.evaluation.data.inputs[spec.name][rows] for spec in trial.inputs}
    return inputs, {name: array[rows] for name, array in trial.run.outputs.items()}


def _claim(comparison: Comparison, scored_on: str) -> MetricClaim:
    return MetricClaim(
        name=comparison.metric,
        float_score=comparison.float_score,
        score=comparison.score,
        drop=comparison.drop,
        low=comparison.low,
        high=comparison.high,
        samples=comparison.samples,
        scored_on=scored_on,
    )


def _class_frequencies(outputs: Arrays) -> tuple[float, ...]:
    first = next(iter(outputs.values()))
    if first.ndim != CLASSES_FROM or first.shape[1] < CLASSES_FROM:
        return ()
    counts = np.bincount(first.argmax(axis=1), minlength=first.shape[1])
    return tuple(float(count) / len(first) for count in counts)


def _failures(attempts: tuple[Attempt, ...]) -> list[str]:
    """Return why attempts were not the ones to ship; those with operators given back are told as one."""
    mixed = [attempt for attempt in attempts if attempt.recipe.float_nodes]
    told = [_failure(attempt) for attempt in attempts if not attempt.recipe.float_nodes]
    return [*told, f"{len(mixed)} choices of float operators do not hold or weigh more"] if mixed else told


def _failure(attempt: Attempt) -> str:
    if attempt.verdict is None:
        return f"{attempt.precision} failed: {attempt.error.splitlines()[0]}"
    if attempt.held:
        return f"{attempt.recipe} {attempt.slowness or 'is larger'}"
    return f"{attempt.recipe} breaks {', '.join(f'{bound.kind} by {bound.over:g}' for bound in attempt.verdict.broken)}"
