"""The manifest of a bundle: what it is, what it needs, and what it promises.

Rules kept here:
1. The manifest names every other file of the bundle with its SHA-256 and size, so one digest covers all.
2. The same manifest has the same bytes: sorted keys, floats by ``repr``. Fields not known here are kept.
3. A file name is one plain name: no folder, no ``..``; a bundle has no depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from device_agent.wire.canonical import document, parse_document
from device_agent.wire.errors import WireError
from device_agent.wire.fields import Extra, Fields, check_digest, merge_extra
from device_agent.wire.limits import MAX_MANIFEST_BYTES
from device_agent.wire.tensor import Preprocess, TensorSpec
from device_agent.wire.topics import check_id

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA",
    "FileEntry",
    "Golden",
    "Manifest",
    "MetricClaim",
    "OpRow",
    "Preprocess",
    "RuntimeFloor",
    "TensorSpec",
    "decode_manifest",
]

SCHEMA = 1
"""The version of the manifest."""
MANIFEST_NAME = "manifest.json"

_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_FORMATS = ("onnx", "tflite")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of the bundle: digest and size in bytes."""

    name: str
    sha256: str
    bytes: int
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_digest(self.sha256)
        if not _FILE.fullmatch(self.name) or self.name == MANIFEST_NAME:
            raise WireError("This is no name of a bundle's file.", expected="one plain name", got=ascii(self.name)[:80])

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values; the name is the key it stands under."""
        return merge_extra({"sha256": self.sha256, "bytes": self.bytes}, self.extra)

    @classmethod
    def read(cls, name: str, fields: Fields) -> FileEntry:
        """Read the value from its JSON object."""
        return cls(name=name, sha256=fields.text("sha256"), bytes=fields.integer("bytes"), extra=fields.extra())


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFloor:
    """The runtime that the artifact needs, and its lowest version."""

    name: str
    version: str
    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values."""
        return merge_extra({"name": self.name, "version": self.version}, self.extra)

    @classmethod
    def read(cls, fields: Fields) -> RuntimeFloor:
        """Read the value from its JSON object."""
        return cls(name=fields.text("name"), version=fields.text("version"), extra=fields.extra())


@dataclass(frozen=True, slots=True, kw_only=True)
class OpRow:
    """One op of the artifact: its precision and, by a reason code, why."""

    node: str
    op: str
    precision: str
    reason: str
    detail: str = ""
    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values."""
        known: dict[str, object] = {
            "node": self.node,
            "op": self.op,
            "precision": self.precision,
            "reason": self.reason,
            "detail": self.detail,
        }
        return merge_extra(known, self.extra)

    @classmethod
    def read(cls, fields: Fields) -> OpRow:
        """Read the value from its JSON object."""
        return cls(
            node=fields.text("node"),
            op=fields.text("op"),
            precision=fields.text("precision"),
            reason=fields.text("reason"),
            detail=fields.text("detail", default=""),
            extra=fields.extra(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricClaim:
    """What the artifact scored against the float model, on ``samples`` paired samples.

    Attributes:
        drop: ``float_score - score`` in points of a 0-1 score, or percent of the float value for an error.
        low: Lower end of the interval of the drop.
        high: Upper end of the interval of the drop.
        scored_on: The runtime that scored it, or the stand-in by name.
    """

    name: str
    float_score: float
    score: float
    drop: float
    low: float
    high: float
    samples: int
    scored_on: str
    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values."""
        known: dict[str, object] = {
            "name": self.name,
            "float_score": self.float_score,
            "score": self.score,
            "drop": self.drop,
            "low": self.low,
            "high": self.high,
            "samples": self.samples,
            "scored_on": self.scored_on,
        }
        return merge_extra(known, self.extra)

    @classmethod
    def read(cls, fields: Fields) -> MetricClaim:
        """Read the value from its JSON object."""
        return cls(
            name=fields.text("name"),
            float_score=fields.number("float_score"),
            score=fields.number("score"),
            drop=fields.number("drop"),
            low=fields.number("low"),
            high=fields.number("high"),
            samples=fields.integer("samples"),
            scored_on=fields.text("scored_on"),
            extra=fields.extra(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """The golden vectors: file, how many, and what counts as equal.

    Attributes:
        atol: Absolute tolerance of one output element.
        rtol: Relative tolerance of one output element.
        min_agree: Fraction of the vectors that must agree, 0 to 1.
    """

    file: str
    count: int
    atol: float
    rtol: float
    min_agree: float
    extra: Extra = ()

    def __post_init__(self) -> None:
        if self.atol < 0 or self.rtol < 0 or not 0 <= self.min_agree <= 1:
            raise WireError("The tolerances of the golden vectors are wrong.", got=self)

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values."""
        known: dict[str, object] = {
            "file": self.file,
            "count": self.count,
            "atol": self.atol,
            "rtol": self.rtol,
            "min_agree": self.min_agree,
        }
        return merge_extra(known, self.extra)

    @classmethod
    def read(cls, fields: Fields) -> Golden:
        """Read the value from its JSON object."""
        return cls(
            file=fields.text("file"),
            count=fields.integer("count"),
            atol=fields.number("atol"),
            rtol=fields.number("rtol"),
            min_agree=fields.number("min_agree"),
            extra=fields.extra(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is in a bundle.

    Attributes:
        target: Name of the target profile.
        format: ``onnx`` or ``tflite``.
        precision: ``int8``, ``mixed``, ``fp16`` or ``fp32``.
        model: Name of the model file; listed in ``files``.
        files: Every file but the manifest itself.
        labels: Names of the classes, or empty.
        runtime: What must be installed.
        ops: The scheme of each op.
        metric: The claim, or None where no evaluation data was given.
        predicted_latency_us: From the target's cost table, microseconds, or None.
        predicted_rss_bytes: Peak memory, or None.
        baseline: Frequency of each output class on the evaluation data, or empty.
        golden: The golden vectors; their file is listed in ``files``.
    """

    name: str
    version: str
    target: str
    format: str
    precision: str
    model: str
    files: tuple[FileEntry, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()
    runtime: RuntimeFloor
    ops: tuple[OpRow, ...] = ()
    calibration_digest: str = ""
    profile_digest: str = ""
    metric: MetricClaim | None = None
    predicted_latency_us: int | None = None
    predicted_rss_bytes: int | None = None
    baseline: tuple[float, ...] = ()
    golden: Golden
    schema: int = SCHEMA
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_id(self.name, what="model name")
        check_id(self.version, what="model version")
        if self.format not in _FORMATS:
            raise WireError("This format of a model is not known.", expected=_FORMATS, got=self.format)
        listed = [entry.name for entry in self.files]
        if len(set(listed)) != len(listed):
            raise WireError("A file of this manifest stands twice.", got=listed)
        missing = {self.model, self.golden.file} - set(listed)
        if missing:
            raise WireError("The manifest names a file that it does not list.", expected=sorted(missing), got=listed)

    def file(self, name: str) -> FileEntry:
        """Return the entry of one file.

        Raises:
            WireError: The manifest lists no such file.
        """
        for entry in self.files:
            if entry.name == name:
                return entry
        raise WireError("The manifest lists no such file.", expected=[entry.name for entry in self.files], got=name)

    def to_json(self) -> dict[str, object]:
        """Return the manifest as JSON values."""
        known: dict[str, object] = {
            "schema": self.schema,
            "name": self.name,
            "version": self.version,
            "target": self.target,
            "format": self.format,
            "precision": self.precision,
            "model": self.model,
            "files": {entry.name: entry.to_json() for entry in self.files},
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
            "labels": list(self.labels),
            "runtime": self.runtime.to_json(),
            "ops": [row.to_json() for row in self.ops],
            "calibration_digest": self.calibration_digest,
            "profile_digest": self.profile_digest,
            "metric": self.metric.to_json() if self.metric else None,
            "predicted_latency_us": self.predicted_latency_us,
            "predicted_rss_bytes": self.predicted_rss_bytes,
            "baseline": list(self.baseline),
            "golden": self.golden.to_json(),
        }
        return merge_extra(known, self.extra)

    def encode(self) -> bytes:
        """Return the bytes of ``manifest.json``: the same for the same manifest."""
        return document(self.to_json())

    @classmethod
    def read(cls, fields: Fields) -> Manifest:
        """Read the manifest from its JSON object."""
        schema = fields.version(SCHEMA, name="schema")
        files, metric = fields.table("files"), fields.fields_or_none("metric")
        return cls(
            schema=schema,
            name=fields.text("name"),
            version=fields.text("version"),
            target=fields.text("target"),
            format=fields.text("format"),
            precision=fields.text("precision"),
            model=fields.text("model"),
            files=tuple(FileEntry.read(name, files.fields(name)) for name in files.names()),
            inputs=tuple(TensorSpec.read(item) for item in fields.items("inputs")),
            outputs=tuple(TensorSpec.read(item) for item in fields.items("outputs")),
            labels=fields.texts("labels"),
            runtime=RuntimeFloor.read(fields.fields("runtime")),
            ops=tuple(OpRow.read(item) for item in fields.items("ops")),
            calibration_digest=fields.text("calibration_digest", default=""),
            profile_digest=fields.text("profile_digest", default=""),
            metric=MetricClaim.read(metric) if metric else None,
            predicted_latency_us=fields.integer_or_none("predicted_latency_us"),
            predicted_rss_bytes=fields.integer_or_none("predicted_rss_bytes"),
            baseline=fields.numbers("baseline"),
            golden=Golden.read(fields.fields("golden")),
            extra=fields.extra(),
        )


def decode_manifest(data: bytes) -> Manifest:
    """Read ``manifest.json``.

    Raises:
        WireError: The bytes are no manifest.
    """
    return Manifest.read(Fields(parse_document(data, limit=MAX_MANIFEST_BYTES, what="manifest"), "manifest"))
