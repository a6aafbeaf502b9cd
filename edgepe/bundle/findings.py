"""The evidence of a bundle as typed values, for whoever shows it.

Rules kept here:
1. Evidence is data from a file: each field is checked for its type, and a wrong one is a BundleError that names it.
2. What an older build did not record is None or empty; nobody makes up a value for it.
3. A time is measured or predicted, and says which, where, or from what.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from device_agent.wire.errors import WireError
from device_agent.wire.fields import Fields
from edgepe.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Dataset",
    "Findings",
    "JudgedBound",
    "LayerError",
    "LayerErrors",
    "Timing",
    "Tried",
    "Turns",
    "read_findings",
]

MEASURED = "measured"
LONG_TEXT = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The latency of one model, one inference on one thread.

    Attributes:
        us: Median or prediction, µs; None where unknown.
        kind: ``measured`` or ``predicted``.
        p99_us: 99th percentile of the timed runs, µs.
        load_us: Time to open the model on the host that judged it, µs.
        cold_us: Time of its first run there, µs.
        cost_table: Where a prediction's figures come from.
        times_us: Each timed warm run, in order, µs; empty where none was timed.
    """

    us: float | None
    kind: str
    p99_us: float | None = None
    load_us: float | None = None
    cold_us: float | None = None
    cost_table: str = ""
    times_us: tuple[float, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether it was measured."""
        return self.kind == MEASURED


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Medians of artifact and float twin that took turns on the build host, round by round, µs.

    Attributes:
        us: Of the artifact.
        float_us: Of its float twin.
        ratio: The artifact's time as a multiple of its twin's.
        slower: Whether it is slower beyond noise.
    """

    us: tuple[float, ...]
    float_us: tuple[float, ...]
    ratio: float
    slower: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBound:
    """One bound of the contract: what it is about, limit, value (None where unknown), whether it is held."""

    kind: str
    limit: float
    value: float | None
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One attempt of the search.

    Attributes:
        precision: What was tried.
        note: What was special about it; may be empty.
        held: Whether it held every bound.
        error: Why it could not be built or run; empty where it could.
        drop: Loss of score, points or percent.
        size: Bytes of the model file.
        latency_us: Latency, µs.
        bounds: The contract, judged.
    """

    precision: str
    note: str
    held: bool
    error: str
    drop: float | None
    size: int | None
    latency_us: float | None
    bounds: tuple[JudgedBound, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerError:
    """How far one layer is from the float twin: see :class:`edgepe.verify.parity.Layer`."""

    node: str
    op: str
    fused: tuple[str, ...]
    sqnr_db: float
    max_error: float | None
    peak: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerErrors:
    """The error of each layer.

    Attributes:
        rows: The layers that were compared, in the order of the graph.
        skipped: (node, reason) of the others.
        samples: How many samples were run.
        threshold_db: Below this a layer counts as divergent.
        first_divergent: The first such layer's node; empty where there is none.
        disturbance_db: How near the probed outputs are to the shipped ones.
        faithful_db: What that should be at least.
        reference: What the artifact was compared with.
        error: Why nothing could be compared; empty where it could.
    """

    rows: tuple[LayerError, ...]
    skipped: tuple[tuple[str, str], ...]
    samples: int
    threshold_db: float
    first_divergent: str
    disturbance_db: float | None
    faithful_db: float
    reference: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One set of samples that the build used: what for, how many, digest of its content."""

    use: str
    samples: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was measured and tried while a bundle was built.

    Attributes:
        bundle_sha256: The bundle that this is about.
        source: What was built from.
        why: Why this precision, in a sentence.
        scored_on: The runtime that scored, or the stand-in by name.
        interval_method: How the interval of the drop was made.
        drop_unit: ``points`` or ``percent``.
        host: The machine that built.
        runtime: The runtime that ran the artifact there.
        float_bytes: Size of the float model file.
        timing: Latency of the artifact.
        float_timing: The same of the float model.
        turns: Both, timed in turns where host and target agree; None elsewhere.
        rss_bytes: Peak memory of the process that ran the artifact on the host.
        model_rss_bytes: What the artifact added to it.
        attempts: What was tried, in order.
        layers: The error of each layer; None where an older build wrote none.
        data: The samples that the build used.
        versions: (package, version) of what built it.
    """

    bundle_sha256: str
    source: str
    why: str
    scored_on: str
    interval_method: str
    drop_unit: str
    host: str
    runtime: str
    float_bytes: int | None
    timing: Timing
    float_timing: Timing | None
    turns: Turns | None
    rss_bytes: int | None
    model_rss_bytes: int | None
    attempts: tuple[Tried, ...]
    layers: LayerErrors | None
    data: tuple[Dataset, ...]
    versions: tuple[tuple[str, str], ...]


def read_findings(evidence: Mapping[str, object]) -> Findings:
    """Return the evidence of a bundle as values.

    Raises:
        BundleError: A field is absent or of the wrong type.
    """
    try:
        return _findings(Fields(dict(evidence), "evidence"))
    except WireError as error:
        raise BundleError(
            error.what, expected=error.expected, got=error.got, next_step="build the bundle again"
        ) from error


def _findings(fields: Fields) -> Findings:
    host, runtime = fields.fields("host"), fields.fields("runtime")
    comparison, float_model = fields.fields("comparison"), fields.fields_or_none("float")
    layers, turns = fields.fields_or_none("layers"), fields.fields_or_none("against_float")
    return Findings(
        bundle_sha256=fields.text("bundle_sha256"),
        source=fields.text("source", default=""),
        why=fields.text("why", default="", cap=LONG_TEXT),
        scored_on=fields.text("scored_on"),
        interval_method=comparison.text("method", default=""),
        drop_unit=fields.text("drop_unit", default="points or percent"),
        host=f"{host.text('system')} {host.text('machine')}, Python {host.text('python')}",
        runtime=f"{runtime.text('name')} {runtime.text('version')}",
        float_bytes=float_model.integer("bytes") if float_model else None,
        timing=_timing(fields.fields("latency")),
        float_timing=_timing(float_model.fields("latency")) if float_model else None,
        turns=_turns(turns) if turns else None,
        rss_bytes=fields.integer_or_none("rss_bytes"),
        model_rss_bytes=fields.integer_or_none("model_rss_bytes"),
        attempts=tuple(_tried(item) for item in fields.items("attempts")),
        layers=_layers(layers) if layers else None,
        data=tuple(
            Dataset(use=item.text("use"), samples=item.integer("samples"), digest=item.text("digest"))
            for item in fields.items("data")
        ),
        versions=fields.pairs("versions"),
    )


def _timing(fields: Fields) -> Timing:
    return Timing(
        us=fields.number_or_none("us"),
        kind=fields.text("is"),
        p99_us=fields.number_or_none("p99_us"),
        load_us=fields.number_or_none("load_us"),
        cold_us=fields.number_or_none("cold_us"),
        cost_table=fields.text("cost_table", default=""),
        times_us=fields.numbers("times_us"),
    )


def _turns(fields: Fields) -> Turns:
    return Turns(
        us=fields.numbers("us"),
        float_us=fields.numbers("float_us"),
        ratio=fields.number("ratio"),
        slower=fields.flag("slower"),
    )


def _tried(fields: Fields) -> Tried:
    measured = fields.fields_or_none("measured")
    return Tried(
        precision=fields.text("precision"),
        note=fields.text("note", default="", cap=LONG_TEXT),
        held=fields.flag("held"),
        error=fields.text("error", default="", cap=LONG_TEXT),
        drop=measured.number_or_none("drop") if measured else None,
        size=measured.integer_or_none("bytes") if measured else None,
        latency_us=measured.number_or_none("latency_us") if measured else None,
        bounds=tuple(
            JudgedBound(
                kind=item.text("kind"),
                limit=item.number("limit"),
                value=item.number_or_none("value"),
                held=item.flag("held"),
            )
            for item in fields.items("bounds")
        ),
    )


def _layers(fields: Fields) -> LayerErrors:
    return LayerErrors(
        rows=tuple(
            LayerError(
                node=item.text("node"),
                op=item.text("op"),
                fused=item.texts("fused"),
                sqnr_db=item.number("sqnr_db"),
                max_error=item.number_or_none("max_error"),
                peak=item.number("peak"),
            )
            for item in fields.items("rows")
        ),
        skipped=tuple((item.text("node"), item.text("reason")) for item in fields.items("skipped")),
        samples=fields.integer("samples"),
        threshold_db=fields.number("threshold_db"),
        first_divergent=fields.text("first_divergent"),
        disturbance_db=fields.number_or_none("disturbance_db"),
        faithful_db=fields.number("faithful_db"),
        reference=fields.text("reference"),
        error=fields.text("error", cap=LONG_TEXT),
    )
