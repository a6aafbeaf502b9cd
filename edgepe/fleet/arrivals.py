"""What came from a device: topic and payload decoded into one value, or the reason why not.

Rules kept here:
1. Anything may arrive; nothing but :class:`Poison` comes of what breaks its format, and it is counted.
2. A message that names a device other than its topic's is poison: the topic is what the broker's access rules guard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from device_agent.wire.errors import WireError
from device_agent.wire.messages import (
    Birth,
    Event,
    Reported,
    Status,
    Telemetry,
    decode_birth,
    decode_event,
    decode_reported,
    decode_status,
    decode_telemetry,
)
from device_agent.wire.topics import Leaf, parse_topic

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Arrival", "Poison", "read_arrival"]

FromDevice = Status | Birth | Reported | Telemetry | Event

_DECODERS: dict[Leaf, Callable[[bytes], FromDevice]] = {
    Leaf.STATUS: decode_status,
    Leaf.BIRTH: decode_birth,
    Leaf.REPORTED: decode_reported,
    Leaf.TELE: decode_telemetry,
    Leaf.EVENT: decode_event,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One message of a device; ``payload`` are its bytes as they came."""

    site: str
    device: str
    time_ms: int
    message: FromDevice
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """A message that breaks its format, and why."""

    topic: str
    time_ms: int
    reason: str


def read_arrival(topic: str, payload: bytes, *, now_ms: int) -> Arrival | Poison:
    """Decode one message; never raises for what a device sent."""
    try:
        return _read(topic, payload, now_ms)
    except WireError as error:
        return Poison(topic=ascii(topic)[1:120], time_ms=now_ms, reason=" ".join(str(error).split())[:400])


def _read(topic: str, payload: bytes, now_ms: int) -> Arrival:
    place = parse_topic(topic)
    decode = _DECODERS.get(place.leaf)
    if decode is None:
        raise WireError("Devices do not publish on this topic.", got=place.leaf.value)
    message = decode(payload)
    named = place.device if isinstance(message, Status) else message.device
    if named != place.device:
        raise WireError("This message names another device than its topic.", expected=place.device, got=named)
    return Arrival(site=place.site, device=place.device, time_ms=now_ms, message=message, payload=payload)
