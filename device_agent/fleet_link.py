"""What the supervisor tells the fleet, and what it takes from it.

Rules kept here:
1. A broker that is away is no error: telemetry and events wait in the outbox, all else is sent at each connect.
2. At every connect: birth, status, reported. ``reported`` again when it changes, a percentage at most once a second.
3. At most twenty outbox rows are under way; one that is not acknowledged in half a minute ends the session.
4. A ``desired`` that is not newer, not ours or over its end is not even verified; one that is newer is verified in a
   child, and only the bytes that the child verified are acted on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from device_agent import __version__
from device_agent.runtime.base import installed_runtimes
from device_agent.telemetry.device import read_hardware
from device_agent.transport import Acknowledged, Connected, Disconnected, Incoming
from device_agent.update.job import Job
from device_agent.update.slots import write_durably
from device_agent.wire.canonical import digest
from device_agent.wire.errors import WireError
from device_agent.wire.messages import Birth, Reported, Status, decode_signed_desired, encode
from device_agent.wire.topics import Leaf, parse_topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from device_agent.config import AgentConfig
    from device_agent.memory import Memory
    from device_agent.telemetry.outbox import Outbox
    from device_agent.transport import Ticket, Transport
    from device_agent.update.updater import Moment
    from device_agent.wire.messages import Desired, Message, ReportedModel, SignedDesired

__all__ = ["FleetLink", "offline_status"]

LOG = logging.getLogger(__name__)

_WINDOW = 20
_UNACKNOWLEDGED_S = 30.0
_REPORT_EVERY_S = 1.0
_TRUST_TIMEOUT_S = 60.0
_EVENT_EXPIRY_S = 7 * 24 * 3600
_TELE_EXPIRY_S = 24 * 3600


def offline_status(boot: int, session: str) -> bytes:
    """Return the will of a session."""
    return encode(Status(online=False, boot=boot, session=session))


class FleetLink:
    """One device's talk with its fleet.

    Args:
        config: The settings.
        transport: The way to the broker, or None for an agent without a fleet.
        outbox: What waits.
        memory: Boot, revision, audit chain.
        models: Gives the update state of each model, now.
        on_desired: Called with a verified, newer document.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        transport: Transport | None,
        outbox: Outbox,
        memory: Memory,
        models: Callable[[], tuple[ReportedModel, ...]],
        on_desired: Callable[[Desired], None],
    ) -> None:
        self._config = config
        self._transport = transport
        self._outbox = outbox
        self._memory = memory
        self._models = models
        self._on_desired = on_desired
        self._previous = (outbox.counter("boot"), outbox.counter("seq"))
        self._seq = 0
        self._session = ""
        self._in_flight: dict[Ticket, tuple[int, float]] = {}
        self._last_row = 0
        self._told: tuple[ReportedModel, ...] | None = None
        self._told_s = 0.0
        self._waiting: SignedDesired | None = None
        self._verifying: tuple[Job, SignedDesired] | None = None
        self._refused = ""

    @property
    def connected(self) -> bool:
        """Tell whether there is a session."""
        return bool(self._session)

    @property
    def verifying(self) -> bool:
        """Tell whether a signature is being checked."""
        return self._verifying is not None

    def next_seq(self) -> int:
        """Return the number of the next telemetry message."""
        return self._seq + 1

    def send_telemetry(self, message: Message) -> None:
        """Put one telemetry message in the outbox under :meth:`next_seq`."""
        self._seq += 1
        counters = (("boot", self._memory.boot), ("seq", self._seq))
        self._outbox.put(self._config.topics.tele, encode(message), expiry_s=_TELE_EXPIRY_S, counters=counters)

    def record(self, now: Moment, kind: str, *, model: str = "", code: str = "", detail: str = "") -> None:
        """Put one audit entry in the outbox."""
        event = self._memory.event(
            self._config.device, time_ms=now.wall_ms, kind=kind, model=model, code=code, detail=detail
        )
        LOG.info("event kind=%s model=%s code=%s", kind, model, code)
        self._outbox.put(self._config.topics.event, encode(event), expiry_s=_EVENT_EXPIRY_S)

    def tick(self, now: Moment) -> None:
        """Take what came, verify, report and send what waits."""
        if self._transport is None:
            return
        for event in self._transport.events():
            if isinstance(event, Connected):
                self._connected(event.session, now)
            elif isinstance(event, Disconnected):
                self._disconnected(event.reason)
            elif isinstance(event, Incoming):
                self._incoming(event, now)
            elif isinstance(event, Acknowledged):
                row, _ = self._in_flight.pop(event.ticket, (0, 0.0))
                self._outbox.delete(row)
        self._verify(now)
        self._report(now)
        self._send(now)

    def close(self) -> None:
        """Say goodbye and end the session."""
        if self._verifying:
            self._verifying[0].stop()
        if self._transport is None:
            return
        if self.connected:
            self._retain(self._config.topics.status, offline_status(self._memory.boot, self._session))
        self._transport.close()

    def _connected(self, session: str, now: Moment) -> None:
        self._session, self._told = session, None
        self._forget_flights()
        topics, memory = self._config.topics, self._memory
        models = self._models()
        boot, seq = self._previous
        birth = Birth(
            device=self._config.device,
            site=self._config.site,
            boot=memory.boot,
            session=session,
            agent_version=__version__,
            target=self._config.target,
            hardware=read_hardware(),
            runtimes=installed_runtimes(),
            models=tuple(model.active for model in models if model.active),
            rev=memory.rev,
            previous_boot=boot or None,
            previous_seq=seq if boot else None,
            time_ms=now.wall_ms,
        )
        self._retain(topics.birth, encode(birth))
        self._retain(topics.status, encode(Status(online=True, boot=memory.boot, session=session)))
        LOG.info("connected session=%s", session)

    def _disconnected(self, reason: str) -> None:
        LOG.warning("disconnected reason=%r", reason)
        self._session = ""
        self._forget_flights()

    def _forget_flights(self) -> None:
        self._in_flight.clear()
        self._last_row = 0

    def _incoming(self, event: Incoming, now: Moment) -> None:
        try:
            if parse_topic(event.topic).leaf is not Leaf.DESIRED or not event.payload:
                return
            signed = decode_signed_desired(event.payload)
            desired = signed.desired
        except WireError as error:
            self._refuse(event.payload, "bad_document", str(error), now)
            return
        if desired.rev <= self._memory.rev:
            LOG.info("desired_ignored rev=%d reason=not_newer", desired.rev)
        elif desired.device != self._config.device:
            self._refuse(event.payload, "other_device", f"It is for {desired.device}.", now)
        elif desired.expires_ms <= now.wall_ms:
            self._refuse(event.payload, "expired", f"Revision {desired.rev} is over.", now)
        elif not self._config.keys:
            self._refuse(event.payload, "no_trust", "No [trust] keys are configured.", now)
        else:
            self._waiting = signed

    def _verify(self, now: Moment) -> None:
        if self._verifying:
            job, signed = self._verifying
            result = job.poll()
            if result is None:
                return
            self._verifying = None
            if result.passed and result.fact("payload") == digest(signed.payload):
                self._accept(signed.desired)
            else:
                self._refuse(signed.payload, result.code or "bad_signature", result.detail, now)
        if self._waiting:
            signed, self._waiting = self._waiting, None
            path = self._config.state / "desired.json"
            write_durably(path, encode(signed))
            keys = [f"--key={key}" for key in self._config.keys]
            job = Job("device_agent.update.trust", [f"--document={path}", *keys], timeout_s=_TRUST_TIMEOUT_S)
            self._verifying = (job, signed)

    def _accept(self, desired: Desired) -> None:
        if desired.rev > self._memory.rev:
            LOG.info("desired_accepted rev=%d models=%d", desired.rev, len(desired.models))
            self._on_desired(desired)
            self._memory.keep_rev(desired.rev)

    def _refuse(self, payload: bytes, code: str, detail: str, now: Moment) -> None:
        """Write a refusal down, once for the same bytes: a retained document comes again at every connect."""
        name = digest(payload)
        LOG.warning("desired_refused code=%s", code)
        if name != self._refused:
            self._refused = name
            self.record(now, "desired_refused", code=code, detail=detail[:500])

    def _report(self, now: Moment) -> None:
        if not self.connected:
            return
        models = self._models()
        if models == self._told:
            return
        stands = self._told is not None and [one.state for one in models] == [one.state for one in self._told]
        if stands and now.monotonic_s - self._told_s < _REPORT_EVERY_S:
            return
        reported = Reported(
            device=self._config.device,
            boot=self._memory.boot,
            rev=self._memory.rev,
            models=models,
            time_ms=now.wall_ms,
        )
        if self._retain(self._config.topics.reported, encode(reported)):
            self._told, self._told_s = models, now.monotonic_s

    def _send(self, now: Moment) -> None:
        if not self.connected or self._transport is None:
            return
        oldest = min((since for _, since in self._in_flight.values()), default=now.monotonic_s)
        if now.monotonic_s - oldest > _UNACKNOWLEDGED_S:
            LOG.warning("unacknowledged_too_long rows=%d", len(self._in_flight))
            self._forget_flights()
            self._session = ""
            self._transport.kick()
            return
        for row in self._outbox.waiting(after=self._last_row, limit=_WINDOW - len(self._in_flight)):
            ticket = self._transport.publish(row.topic, row.payload, retain=False, expiry_s=row.expiry_s)
            if ticket is None:
                return
            self._in_flight[ticket] = (row.id, now.monotonic_s)
            self._last_row = row.id

    def _retain(self, topic: str, payload: bytes) -> bool:
        if self._transport is None:
            return False
        return self._transport.publish(topic, payload, retain=True) is not None
