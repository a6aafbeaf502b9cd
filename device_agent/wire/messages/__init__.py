"""Every message between a device and the fleet, as a typed value.

Rules kept here:
1. Each message has ``to_json()``; :func:`encode` writes it; ``decode_<kind>(bytes)`` raises nothing but WireError.
2. Every message carries ``"v": 1``. Times are integer milliseconds since the epoch, latencies integer nano- or
   microseconds; no message holds a float.
3. Fields that this version does not know are kept in ``extra``.
"""

from __future__ import annotations

from device_agent.wire.messages.command import Command, Event, Reply, decode_command, decode_event, decode_reply
from device_agent.wire.messages.desired import (
    Desired,
    DesiredModel,
    Gate,
    Signature,
    SignedDesired,
    Window,
    decode_desired,
    decode_signed_desired,
)
from device_agent.wire.messages.message import VERSION, Message, encode
from device_agent.wire.messages.presence import Birth, Hardware, Status, decode_birth, decode_status
from device_agent.wire.messages.reported import ActiveModel, Reported, ReportedModel, State, decode_reported
from device_agent.wire.messages.telemetry import ModelTelemetry, Telemetry, decode_telemetry

__all__ = [
    "VERSION",
    "ActiveModel",
    "Birth",
    "Command",
    "Desired",
    "DesiredModel",
    "Event",
    "Gate",
    "Hardware",
    "Message",
    "ModelTelemetry",
    "Reply",
    "Reported",
    "ReportedModel",
    "Signature",
    "SignedDesired",
    "State",
    "Status",
    "Telemetry",
    "Window",
    "decode_birth",
    "decode_command",
    "decode_desired",
    "decode_event",
    "decode_reply",
    "decode_reported",
    "decode_signed_desired",
    "decode_status",
    "decode_telemetry",
    "encode",
]
