"""Supervisor and worker talk over a socketpair: a 4-byte big-endian length, then one JSON document of at most 1 MiB.

The talk::

    worker      Ready          the model is loaded and has run once; or Failed
    supervisor  Serve          take connections and source items from now on
    supervisor  StatsRequest   → worker: Stats since the one before (counts are differences, never totals)
    supervisor  Drain          finish what is under way, take nothing new → worker: Drained
    supervisor  Stop           end; a closed socket means the same

Rules kept here:
1. A frame longer than the limit is refused before it is read.
2. Each message names its kind; a kind that is not in the table is a WireError.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from device_agent.wire.canonical import document, parse_document
from device_agent.wire.errors import WireError
from device_agent.wire.fields import Extra, Fields, merge_extra
from device_agent.wire.histogram import LogHistogram
from device_agent.wire.limits import MAX_FRAME_BYTES, MAX_HISTOGRAM_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ControlMessage",
    "Drain",
    "Drained",
    "Failed",
    "FrameReader",
    "Ready",
    "Serve",
    "Stats",
    "StatsRequest",
    "Stop",
    "decode_control",
    "encode_frame",
]

_VERSION = 1
_HEAD_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """Supervisor → worker: take connections and source items from now on."""

    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        return _kind("serve", {}, self.extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Supervisor → worker: finish what is under way, take nothing new."""

    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        return _kind("drain", {}, self.extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsRequest:
    """Supervisor → worker: send the measurements since the last request."""

    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        return _kind("stats_request", {}, self.extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Supervisor → worker: end."""

    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        return _kind("stop", {}, self.extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Worker → supervisor: the model is loaded and has run once; times in microseconds."""

    pid: int
    runtime: str
    runtime_version: str
    load_us: int
    first_run_us: int
    rss_bytes: int
    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        known: dict[str, object] = {
            "pid": self.pid,
            "runtime": self.runtime,
            "runtime_version": self.runtime_version,
            "load_us": self.load_us,
            "first_run_us": self.first_run_us,
            "rss_bytes": self.rss_bytes,
        }
        return _kind("ready", known, self.extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Worker → supervisor: what happened since the last request.

    Attributes:
        latency: Nanoseconds of each whole ``run``.
        rss_bytes: Resident memory of the worker, now.
        output_counts: How often each class was the answer, by label.
    """

    inferences: int
    errors: int
    latency: LogHistogram = field(default_factory=LogHistogram)
    rss_bytes: int
    output_counts: tuple[tuple[str, int], ...] = ()
    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        known: dict[str, object] = {
            "inferences": self.inferences,
            "errors": self.errors,
            "latency": self.latency.to_base64(),
            "rss_bytes": self.rss_bytes,
            "output_counts": dict(self.output_counts),
        }
        return _kind("stats", known, self.extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """Worker → supervisor: nothing is under way any more."""

    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        return _kind("drained", {}, self.extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Worker → supervisor: it cannot go on; ``code`` is a short word, ``detail`` a sentence."""

    code: str
    detail: str
    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values."""
        return _kind("failed", {"code": self.code, "detail": self.detail}, self.extra)


ControlMessage = Serve | Drain | StatsRequest | Stop | Ready | Stats | Drained | Failed


def _kind(kind: str, known: dict[str, object], extra: Extra) -> dict[str, object]:
    return merge_extra({"v": _VERSION, "kind": kind, **known}, extra)


def _read_ready(fields: Fields) -> Ready:
    return Ready(
        pid=fields.integer("pid"),
        runtime=fields.text("runtime"),
        runtime_version=fields.text("runtime_version"),
        load_us=fields.integer("load_us"),
        first_run_us=fields.integer("first_run_us"),
        rss_bytes=fields.integer("rss_bytes"),
        extra=fields.extra(),
    )


def _read_stats(fields: Fields) -> Stats:
    return Stats(
        inferences=fields.integer("inferences"),
        errors=fields.integer("errors"),
        latency=LogHistogram.from_base64(fields.text("latency", cap=2 * MAX_HISTOGRAM_BYTES)),
        rss_bytes=fields.integer("rss_bytes"),
        output_counts=fields.counts("output_counts"),
        extra=fields.extra(),
    )


_READERS: dict[str, Callable[[Fields], ControlMessage]] = {
    "serve": lambda fields: Serve(extra=fields.extra()),
    "drain": lambda fields: Drain(extra=fields.extra()),
    "stats_request": lambda fields: StatsRequest(extra=fields.extra()),
    "stop": lambda fields: Stop(extra=fields.extra()),
    "ready": _read_ready,
    "stats": _read_stats,
    "drained": lambda fields: Drained(extra=fields.extra()),
    "failed": lambda fields: Failed(code=fields.text("code"), detail=fields.text("detail"), extra=fields.extra()),
}


def decode_control(data: bytes) -> ControlMessage:
    """Read the payload of one frame.

    Raises:
        WireError: It is no control message.
    """
    fields = Fields(parse_document(data, limit=MAX_FRAME_BYTES, what="control message"), "control")
    fields.version(_VERSION)
    kind = fields.text("kind")
    reader = _READERS.get(kind)
    if reader is None:
        raise WireError("This control message is of an unknown kind.", expected=sorted(_READERS), got=ascii(kind)[:60])
    return reader(fields)


def encode_frame(message: ControlMessage) -> bytes:
    """Return the frame of one message.

    Raises:
        WireError: The message is longer than a frame may be.
    """
    data = document(message.to_json())
    if len(data) > MAX_FRAME_BYTES:
        raise WireError("This control message is too long.", expected=MAX_FRAME_BYTES, got=len(data))
    return len(data).to_bytes(_HEAD_BYTES, "big") + data


class FrameReader:
    """Cut a stream of bytes back into messages, however it was torn.

    >>> reader = FrameReader()
    >>> frame = encode_frame(Serve())
    >>> reader.feed(frame[:7]), reader.feed(frame[7:])
    ([], [Serve(extra=())])
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[ControlMessage]:
        """Take more bytes and return the messages that are now whole.

        Raises:
            WireError: A frame is too long or holds no control message; the stream cannot be read on.
        """
        self._buffer += data
        messages = []
        while len(self._buffer) >= _HEAD_BYTES:
            length = int.from_bytes(self._buffer[:_HEAD_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise WireError("This control frame is too long.", expected=MAX_FRAME_BYTES, got=length)
            if len(self._buffer) < _HEAD_BYTES + length:
                break
            messages.append(decode_control(bytes(self._buffer[_HEAD_BYTES : _HEAD_BYTES + length])))
            del self._buffer[: _HEAD_BYTES + length]
        return messages
