"""From a model and data to one bundle per target: the stages, top to bottom.

Rules kept here:
1. capture → optimize → calibrate, once; then per target: assign → apply → lower → score in a child → contract.
2. Bundles are written when every target has one: a contract that one target breaks leaves nothing half-written.
3. Same inputs, same bundles: with no latency bound, no measured time decides anything.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.wire.errors import WireError
from device_agent.wire.topics import check_id
from edgepe.bundle.evidence import write_evidence
from edgepe.bundle.pack import write_bundle
from edgepe.bundle.report import write_report
from edgepe.capture import Captured, capture, source_name, wants_shapes
from edgepe.capture.footprint import check_fits
from edgepe.contract import Contract
from edgepe.data import Dataset, check_informative, load_dataset
from edgepe.errors import UsageError
from edgepe.graph.work import count_work
from edgepe.lower.onnx_file import onnx_bytes
from edgepe.quantize.cache import RangeCache
from edgepe.quantize.calibrate import DEFAULT, method_named
from edgepe.quantize.calibration import calibrate
from edgepe.quantize.search import Found, search
from edgepe.scheme import Precision
from edgepe.signature import Signature, load_signature
from edgepe.stages.assemble import assemble, why
from edgepe.stages.built import Built
from edgepe.stages.candidate import graph_edges
from edgepe.stages.evidence import evidence_of
from edgepe.stages.layers import layer_evidence
from edgepe.stages.samples import Samples, choose_metric, input_specs, ports_of
from edgepe.stages.trial import Ground, Trial, Trials
from edgepe.stages.watch import Silent, Watch
from edgepe.verify.run import run_artifact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepe.quantize.calibrate import Ranges
    from edgepe.target import Target

__all__ = ["Built", "Request", "Watch", "build"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to build.

    Attributes:
        source: ``.onnx`` file, folder made by compress, or ``package.module:factory``.
        targets: The boards.
        calibration: File with calibration samples.
        out: Folder for the bundles.
        evaluation: File with the samples that score; the calibration samples where None.
        weights: For a factory.
        signature: TOML file with preprocessing and labels.
        shapes: Input name → shape for open dimensions.
        outputs: Values to cut the graph at; the model's own where empty.
        metric: Name of the metric; by the labels where None.
        max_drop: See :class:`edgepe.contract.Contract`.
        max_bytes: Likewise.
        max_latency_us: Likewise.
        precision: The only one to try; the target's order where None.
        name: The model's name; by the source where None.
        version: Its version.
        method: How calibration takes ranges: a name in :data:`edgepe.quantize.calibrate.METHODS`.
        cache: Folder that keeps calibrations; None keeps nothing.
    """

    source: str
    targets: tuple[Target, ...]
    calibration: Path
    out: Path
    evaluation: Path | None = None
    weights: Path | None = None
    signature: Path | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    metric: str | None = None
    max_drop: float | None = None
    max_bytes: int | None = None
    max_latency_us: float | None = None
    precision: Precision | None = None
    name: str | None = None
    version: str = "1"
    method: str = DEFAULT
    cache: Path | None = None

    def contract(self, metric: str) -> Contract:
        """Return the bounds as a contract on a metric."""
        return Contract(
            metric=metric, max_drop=self.max_drop, max_bytes=self.max_bytes, max_latency_us=self.max_latency_us
        )

    def precisions(self, target: Target) -> tuple[Precision, ...]:
        """Return what to try for a target, in order."""
        return (self.precision,) if self.precision is not None else target.precisions


def build(request: Request, *, watch: Watch | None = None) -> tuple[Built, ...]:
    """Build, judge and write one bundle per target.

    Args:
        request: What to build.
        watch: Told how it goes on.

    Returns:
        One row per target, in the order of the request.

    Raises:
        EdgepeError: As its subclasses say; nothing is written then.
    """
    talk = watch or Silent()
    name = _checked_name(request)
    with tempfile.TemporaryDirectory(prefix="edgepe-build-") as folder:
        ground = _prepare(request, Path(folder), talk)
        contract = request.contract(ground.metric.name)
        found = []
        for target in request.targets:
            talk.stage(f"building for {target.name}")
            trials = Trials(ground, target, Path(folder), contract=contract, watch=talk)
            shipped = trials.raced(search(request.precisions(target), contract, trials))
            found.append((target, shipped, trials.twin()))
    return tuple(_write(request, name, ground, target, found=shipped, twin=twin) for target, shipped, twin in found)


def _prepare(request: Request, folder: Path, talk: Watch) -> Ground:
    """Capture and optimize the model, read and check the data, calibrate, run the float twin."""
    signature = load_signature(request.signature) if request.signature else Signature()
    calibration = load_dataset(request.calibration, labels=signature.labels)
    check_informative(calibration)
    evaluation = load_dataset(request.evaluation, labels=signature.labels) if request.evaluation else calibration
    captured = _capture(request, calibration, signature, talk)
    for target in request.targets:
        check_fits(captured.model, target, request.precisions(target))
    edges = graph_edges(captured)
    samples = Samples.fitting(calibration, input_specs(edges, calibration, signature))
    scored = Samples.fitting(evaluation, input_specs(edges, evaluation, signature))
    metric = choose_metric(request.metric, scored.data, captured)
    ranges = _calibrate(request, captured, samples, talk)
    talk.stage("scoring the float model")
    twin = folder / "float.onnx"
    twin.write_bytes(onnx_bytes(captured.model))
    return Ground(
        captured=captured,
        work=count_work(captured.model),
        signature=signature,
        calibration=samples,
        evaluation=scored,
        ranges=ranges,
        float_outputs=run_artifact(twin, "onnxruntime", scored.prepared()).outputs,
        metric=metric,
        method=request.method,
    )


def _capture(request: Request, calibration: Dataset, signature: Signature, talk: Watch) -> Captured:
    talk.stage(f"capturing {request.source}")
    return capture(
        request.source,
        weights=request.weights,
        shapes=request.shapes,
        inputs=ports_of(calibration, signature) if wants_shapes(request.source) else (),
        outputs=request.outputs,
    )


def _calibrate(request: Request, captured: Captured, samples: Samples, talk: Watch) -> Ranges | None:
    wanted = {precision for target in request.targets for precision in request.precisions(target)}
    if wanted == {Precision.FP32}:
        return None
    method = method_named(request.method)
    cache = RangeCache(request.cache) if request.cache is not None else None
    talk.stage(f"calibrating ({request.method})", len(samples))
    ranges = calibrate(captured.model, samples, method=method, cache=cache, progress=talk.advance)
    if cache is not None and cache.trouble:
        talk.stage(f"calibration was not kept: {cache.trouble}")
    return ranges


def _checked_name(request: Request) -> str:
    name = request.name or source_name(request.source)
    try:
        check_id(name, what="model name")
        check_id(request.version, what="model version")
    except WireError as error:
        raise UsageError(
            error.what, expected=error.expected, got=error.got, next_step="give --name and --version"
        ) from error
    return name


def _write(request: Request, name: str, ground: Ground, target: Target, *, found: Found[Trial], twin: Trial) -> Built:
    trial = found.artifact
    manifest, files = assemble(ground, target, trial, name=name, version=request.version)
    path = request.out / f"{name}-{request.version}-{target.name}.edge"
    write_bundle(path, manifest, files)
    data = path.read_bytes()
    reason = why(target, found, asked=request.precision is not None)
    evidence = evidence_of(
        ground,
        target,
        found,
        twin,
        source=request.source,
        why=reason,
        layers=layer_evidence(ground, trial, twin),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    write_evidence(path, evidence)
    write_report(path, manifest, evidence)
    verdict = found.attempt.verdict
    if verdict is None:
        message = "an artifact that ships has been judged"
        raise TypeError(message)
    return Built(
        path=path,
        name=name,
        version=request.version,
        target=target.name,
        format=target.format,
        precision=trial.artifact.precision,
        bytes=len(trial.artifact.data),
        transfer_bytes=len(data),
        float_bytes=len(twin.artifact.data),
        comparison=trial.comparison,
        scored_on=trial.judge.label,
        latency_us=trial.latency_us,
        float_latency_us=twin.latency_us,
        latency_is=trial.latency_is,
        verdict=verdict,
        why=reason,
    )
