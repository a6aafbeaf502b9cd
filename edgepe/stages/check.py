"""Run a bundle again and compare it with what it claims.

Rules kept here:
1. Every file is checked against the manifest, the bundle against its evidence, before anything runs.
2. The artifact runs in a child, on the target's own runtime or its named stand-in.
3. Golden vectors are judged by the very rule of the device.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.runtime.golden import compare as agrees
from device_agent.runtime.golden import read_golden
from edgepe.bundle.evidence import evidence_path, read_evidence
from edgepe.bundle.pack import Bundle, read_bundle
from edgepe.data import load_dataset
from edgepe.errors import DataError
from edgepe.metrics import metric
from edgepe.scheme import Precision
from edgepe.stages.board import target_of
from edgepe.stages.samples import Samples
from edgepe.verify.run import RunResult, run_artifact
from edgepe.verify.standin import StandIn, stand_in

if TYPE_CHECKING:
    from device_agent.wire.manifest import Manifest

__all__ = ["Bench", "Check", "bench", "check_bundle"]

TIMINGS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a bundle came to when it was run again.

    Attributes:
        manifest: What it claims.
        evidence: ``same``, ``other`` (the evidence is of another file) or ``absent``.
        scored_on: What ran it.
        golden_agree: Share of golden vectors that agree, 0-1.
        golden_error: Largest difference of an output element.
        score: Score on the data given; None where none was.
        claimed: Score that the manifest claims; None where it claims none.
        samples: Number of samples scored.
    """

    manifest: Manifest
    evidence: str
    scored_on: str
    golden_agree: float
    golden_error: float
    score: float | None
    claimed: float | None
    samples: int

    @property
    def passed(self) -> bool:
        """Whether the bundle is what it says, as far as was checked."""
        return self.evidence != "other" and self.golden_agree >= self.manifest.golden.min_agree


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One model, timed on this machine.

    Attributes:
        file: What was timed.
        runtime: What ran it.
        bytes: Size of the model file.
        median_us: Median of one inference, warm, one thread, µs.
        p99_us: 99th percentile, µs.
        cold_us: First inference, µs.
        load_us: Time to open the model, µs.
        rss_bytes: Peak memory of the process.
    """

    file: str
    runtime: str
    bytes: int
    median_us: float
    p99_us: float
    cold_us: float
    load_us: float
    rss_bytes: int


def check_bundle(path: Path, data: Path | None = None) -> Check:
    """Check a bundle's bytes, run its golden vectors, and score it on data where there is some.

    Args:
        path: The ``.edge`` file.
        data: Raw samples with labels, as for ``edgepe build --evaluation``.

    Raises:
        BundleError: A file of the bundle is damaged.
        VerifyError: The runtime refuses the artifact.
        DataError: The data does not fit, or has no labels.
    """
    bundle = read_bundle(path)
    manifest = bundle.manifest
    judge = _judge(bundle)
    with tempfile.TemporaryDirectory(prefix="edgepe-verify-") as name:
        folder = Path(name)
        bundle.extract(folder)
        agree, error = _replay_golden(folder, manifest, judge)
        score, samples = _score(folder, manifest, judge, data) if data else (None, 0)
    return Check(
        manifest=manifest,
        evidence=_evidence(path),
        scored_on=judge.label,
        golden_agree=agree,
        golden_error=error,
        score=score,
        claimed=manifest.metric.score if manifest.metric else None,
        samples=samples,
    )


def bench(path: Path, against: Path | None = None) -> tuple[Bench, ...]:
    """Time a bundle on this machine, and another model on the same inputs beside it.

    Args:
        path: The ``.edge`` file.
        against: An ``.onnx`` or ``.tflite`` file, or another bundle, with the same inputs.

    Raises:
        BundleError: The bundle is damaged.
        VerifyError: A runtime refuses a model or its inputs.
        DataError: The file to compare with is of no known kind.
    """
    bundle = read_bundle(path)
    with tempfile.TemporaryDirectory(prefix="edgepe-bench-") as name:
        folder = Path(name)
        bundle.extract(folder / "a")
        inputs = _golden_samples(folder / "a", bundle.manifest)
        judge = _judge(bundle)
        rows = [_time(folder / "a" / bundle.manifest.model, path.name, judge.kind, dict(judge.settings), inputs)]
        if against is not None:
            rows.append(_time_other(against, folder / "b", inputs))
    return tuple(rows)


def _judge(bundle: Bundle) -> StandIn:
    return stand_in(target_of(bundle.manifest), Precision(bundle.manifest.precision))


def _evidence(path: Path) -> str:
    if not evidence_path(path).exists():
        return "absent"
    same = read_evidence(path).get("bundle_sha256") == hashlib.sha256(path.read_bytes()).hexdigest()
    return "same" if same else "other"


def _golden_samples(folder: Path, manifest: Manifest) -> Samples:
    from edgepe.data import dataset  # noqa: PLC0415 - beside its only use

    vectors = read_golden(folder / manifest.golden.file)
    return Samples.fitting(dataset(vectors.inputs), manifest.inputs)


def _replay_golden(folder: Path, manifest: Manifest, judge: StandIn) -> tuple[float, float]:
    """Return the share of vectors that agree, and the largest difference."""
    terms = manifest.golden
    expected = read_golden(folder / terms.file).outputs
    samples = _golden_samples(folder, manifest)
    run = _run(folder / manifest.model, judge, samples)
    results = [agrees(run.outputs, expected, row, terms.atol, terms.rtol) for row in range(len(samples.data))]
    return sum(within for _, within in results) / len(results), max(error for error, _ in results)


def _score(folder: Path, manifest: Manifest, judge: StandIn, path: Path) -> tuple[float, int]:
    samples = Samples.fitting(load_dataset(path), manifest.inputs)
    labels = samples.data.labels
    name = manifest.metric.name if manifest.metric else "accuracy"
    if labels is None:
        raise DataError(f"'{name}' needs labels", expected="an array 'y' in the data", got="none")
    return metric(name).score(_run(folder / manifest.model, judge, samples).outputs, labels), len(labels)


def _run(model: Path, judge: StandIn, samples: Samples) -> RunResult:
    return run_artifact(model, judge.kind, samples.prepared(), settings=dict(judge.settings))


def _time_other(path: Path, folder: Path, inputs: Samples) -> Bench:
    if path.suffix == ".edge":
        other = read_bundle(path)
        other.extract(folder)
        judge = _judge(other)
        samples = _golden_samples(folder, other.manifest)
        return _time(folder / other.manifest.model, path.name, judge.kind, dict(judge.settings), samples)
    kinds = {".onnx": "onnxruntime", ".tflite": "litert"}
    if path.suffix not in kinds or not path.is_file():
        raise DataError(
            f"{path} is no model to compare with", expected="an .onnx, .tflite or .edge file", got=path.suffix
        )
    return _time(path, path.name, kinds[path.suffix], {}, inputs)


def _time(model: Path, name: str, kind: str, settings: dict[str, str], inputs: Samples) -> Bench:
    run = run_artifact(model, kind, inputs.prepared(), settings=settings, timings=TIMINGS)
    return Bench(
        file=name,
        runtime=f"{run.runtime} {run.version}",
        bytes=model.stat().st_size,
        median_us=run.median_us or 0.0,
        p99_us=run.p99_us or 0.0,
        cold_us=run.cold_ns / 1000,
        load_us=run.load_ns / 1000,
        rss_bytes=run.rss_bytes,
    )
