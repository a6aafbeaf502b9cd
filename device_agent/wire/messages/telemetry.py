"""``tele``: one batch of measurements. ``(device, boot, seq)`` names it for ever; ``seq`` counts these alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from device_agent.wire.fields import Extra, Fields, merge_extra
from device_agent.wire.histogram import LogHistogram
from device_agent.wire.limits import MAX_HISTOGRAM_BYTES, MAX_MODELS, MAX_TELEMETRY_BYTES
from device_agent.wire.messages.message import VERSION, open_message
from device_agent.wire.topics import check_id

__all__ = ["ModelTelemetry", "Telemetry", "decode_telemetry"]

_COLDEST_MC = -273_150


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTelemetry:
    """What one model did in the time of the batch.

    Attributes:
        rss_bytes: Resident memory of its worker.
        latency: Nanoseconds of each whole ``run``.
        outputs: How often each class was the answer, by label: the sketch of the output.
    """

    name: str
    version: str
    inferences: int
    errors: int
    rss_bytes: int
    latency: LogHistogram = field(default_factory=LogHistogram)
    outputs: tuple[tuple[str, int], ...] = ()
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_id(self.name, what="model name")
        check_id(self.version, what="model version")

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values; the name is the key it stands under."""
        known: dict[str, object] = {
            "version": self.version,
            "inferences": self.inferences,
            "errors": self.errors,
            "rss_bytes": self.rss_bytes,
            "latency": self.latency.to_base64(),
            "outputs": dict(self.outputs),
        }
        return merge_extra(known, self.extra)

    @classmethod
    def read(cls, name: str, fields: Fields) -> ModelTelemetry:
        """Read the value from its JSON object."""
        return cls(
            name=name,
            version=fields.text("version"),
            inferences=fields.integer("inferences"),
            errors=fields.integer("errors"),
            rss_bytes=fields.integer("rss_bytes"),
            latency=LogHistogram.from_base64(fields.text("latency", cap=2 * MAX_HISTOGRAM_BYTES)),
            outputs=fields.counts("outputs"),
            extra=fields.extra(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """One batch of a device.

    Attributes:
        seq: Counts the batches of one boot, 1 the first.
        start_ms: When the batch began, milliseconds since the epoch.
        duration_ms: How long it ran.
        rss_bytes: Resident memory of the supervisor.
        cpu_percent_x100: Processor time of the supervisor, hundredths of a percent of one core.
        temperature_mc: Thousandths of a degree Celsius, or None where there is no sensor.
        dropped: Batches that this device has discarded since its first start.
    """

    device: str
    boot: int
    seq: int
    start_ms: int
    duration_ms: int
    rss_bytes: int
    cpu_percent_x100: int
    temperature_mc: int | None
    dropped: int
    models: tuple[ModelTelemetry, ...]
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_id(self.device, what="device")

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        known: dict[str, object] = {
            "v": VERSION,
            "device": self.device,
            "boot": self.boot,
            "seq": self.seq,
            "start_ms": self.start_ms,
            "duration_ms": self.duration_ms,
            "rss_bytes": self.rss_bytes,
            "cpu_percent_x100": self.cpu_percent_x100,
            "temperature_mc": self.temperature_mc,
            "dropped": self.dropped,
            "models": {model.name: model.to_json() for model in self.models},
        }
        return merge_extra(known, self.extra)


def decode_telemetry(data: bytes) -> Telemetry:
    """Read a ``tele``.

    Raises:
        WireError: The bytes are no telemetry.
    """
    fields = open_message(data, limit=MAX_TELEMETRY_BYTES, what="tele")
    models = fields.table("models", cap=MAX_MODELS)
    return Telemetry(
        device=fields.text("device"),
        boot=fields.integer("boot"),
        seq=fields.integer("seq"),
        start_ms=fields.integer("start_ms"),
        duration_ms=fields.integer("duration_ms"),
        rss_bytes=fields.integer("rss_bytes"),
        cpu_percent_x100=fields.integer("cpu_percent_x100", default=0),
        temperature_mc=fields.integer_or_none("temperature_mc", low=_COLDEST_MC),
        dropped=fields.integer("dropped", default=0),
        models=tuple(ModelTelemetry.read(name, models.fields(name)) for name in models.names()),
        extra=fields.extra(),
    )
