"""The controller: carries out what :mod:`edgepe.fleet.rollout` decides.

Rules kept here:
1. It decides nothing: it reads facts from the store, steps the roll-out, keeps the new state, then acts.
2. A desired document has a revision above every earlier one of its device and above what the device says it has seen;
   it is kept in the store before it is published.
3. At every connect all documents are published again, retained: a broker may have forgotten them.
4. One roll-out at a time; one controller per fleet (the store refuses the second one's documents).
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from device_agent.wire.errors import ExplainedError, WireError
from device_agent.wire.messages import (
    Desired,
    DesiredModel,
    State,
    decode_birth,
    decode_signed_desired,
    encode,
)
from device_agent.wire.topics import Topics
from edgepe.errors import FleetError
from edgepe.fleet.rollout import Action, Candidate, Fact, Phase, Rollout, members, plan, step
from edgepe.fleet.store import DesiredRow, EventRow, RolloutRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepe.fleet.keys import OnlineKey
    from edgepe.fleet.link import Link
    from edgepe.fleet.repository import Repository
    from edgepe.fleet.store import DeviceRow, Store

__all__ = ["Controller", "read_rollout"]

POLL_S = 0.2
PRUNE_EVERY_MS = 60_000
DOCUMENT_LIFE_MS = 365 * 24 * 60 * 60 * 1000


class Controller:
    """Brings versions to devices.

    Args:
        store: The fleet's memory, for this object alone.
        link: To the broker; polled by :meth:`run`'s thread alone.
        repository: What has been published.
        key: Signs desired documents.
    """

    def __init__(self, store: Store, link: Link, repository: Repository, key: OnlineKey) -> None:
        self._store = store
        self._link = link
        self._repository = repository
        self._key = key
        self._lock = threading.Lock()
        self._published_on = 0
        self._pruned_ms = 0

    def start_rollout(self, *, name: str, version: str, waves: str, deadline_s: int, group: str = "") -> Rollout:
        """Plan a roll-out and keep it; :meth:`tick` carries it out. May be called from any thread.

        Raises:
            UsageError: The waves or the group make no sense.
            FleetError: One is running, the group is empty, or no device can take the version.
        """
        with self._lock:
            running = self._open_rollout()
            if running is not None:
                raise FleetError(
                    f"a roll-out of {running.name} {running.version} is under way",
                    expected="one roll-out at a time",
                    got=running.phase.value,
                    next_step="wait for its end: edgepe rollout status",
                )
            now_ms = _now_ms()
            rollout = plan(
                name=name,
                version=version,
                waves=waves,
                deadline_ms=deadline_s * 1000,
                candidates=members(self._candidates(name), group),
                published=frozenset(
                    (one.version, one.target) for one in self._repository.bundles() if one.name == name
                ),
                rollout_id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}",
                now_ms=now_ms,
            )
            self._keep(rollout)
            self._note(now_ms, "", "rollout_started", rollout.phase.value, f"{name} {version}")
            return rollout

    def tick(self, timeout_s: float = POLL_S) -> None:
        """Drive the connection, then the open roll-out one step."""
        self._link.poll(timeout_s)
        with self._lock:
            if self._link.connected and self._published_on != self._link.connection:
                self._published_on = self._link.connection
                for row in self._store.desired():
                    self._publish(row)
            rollout = self._open_rollout()
            if rollout is not None:
                self._advance(rollout)
            now_ms = _now_ms()
            if now_ms - self._pruned_ms > PRUNE_EVERY_MS:
                self._store.prune(now_ms=now_ms)
                self._pruned_ms = now_ms

    def run(self, until: Callable[[], bool], complain: Callable[[str], None]) -> None:
        """Tick until told to stop; what goes wrong is said and tried again."""
        while not until():
            try:
                self.tick()
            except ExplainedError as error:
                complain(str(error))
                time.sleep(1.0)
        self._link.close()

    def _advance(self, rollout: Rollout) -> None:
        now_ms = _now_ms()
        following, actions = step(rollout, self._facts(rollout.name), now_ms)
        if following != rollout:
            self._keep(following)
            self._note_changes(rollout, following, now_ms)
        for action in actions:
            self._carry_out(following, action, now_ms)

    def _carry_out(self, rollout: Rollout, action: Action, now_ms: int) -> None:
        device = next(one for one in self._store.devices() if one.device == action.device)
        stored = next((row for row in self._store.desired() if row.device == device.device), None)
        kept = decode_signed_desired(stored.document).desired.models if stored else ()
        models = [model for model in kept if model.name != rollout.name]
        if action.version:
            models.append(self._desired_model(rollout.name, action.version, device.target))
        desired = Desired(
            rev=1 + max(stored.rev if stored else 0, self._seen_rev(device)),
            device=device.device,
            expires_ms=now_ms + DOCUMENT_LIFE_MS,
            models=tuple(models),
            deadline_ms=now_ms + rollout.deadline_ms,
        )
        row = DesiredRow(
            device=device.device, site=device.site, rev=desired.rev, document=encode(self._key.sign(desired))
        )
        self._store.put_desired(row)
        self._publish(row)

    def _publish(self, row: DesiredRow) -> None:
        self._link.publish(Topics(site=row.site, device=row.device).desired, row.document, retain=True)

    def _desired_model(self, name: str, version: str, target: str) -> DesiredModel:
        bundle = self._repository.find(name, version, target)
        if bundle is None:
            raise FleetError(f"{name} {version} for {target} has left the repository", next_step="publish it again")
        return DesiredModel(name=name, version=version, path=bundle.path, sha256=bundle.sha256, length=bundle.length)

    def _seen_rev(self, device: DeviceRow) -> int:
        """Return the newest revision that the device has told of, which another fleet may have given it."""
        reported = max((row.rev for row in self._store.device_models(device.device)), default=0)
        try:
            return max(reported, decode_birth(device.birth).rev if device.birth else 0)
        except WireError:  # a birth that an older edgepe stored and this one no longer reads
            return reported

    def _candidates(self, name: str) -> tuple[Candidate, ...]:
        active = {row.device: row.version for row in self._store.device_models() if row.model == name}
        return tuple(
            Candidate(
                device=one.device,
                site=one.site,
                target=one.target,
                online=one.online,
                active=active.get(one.device, ""),
            )
            for one in self._store.devices()
        )

    def _facts(self, name: str) -> dict[str, Fact]:
        wanted = {row.device: row for row in self._store.desired()}
        reports = {row.device: row for row in self._store.device_models() if row.model == name}
        facts = {}
        for device in wanted.keys() | reports.keys():
            row, report = wanted.get(device), reports.get(device)
            models = decode_signed_desired(row.document).desired.models if row else ()
            facts[device] = Fact(
                wanted=next((model.version for model in models if model.name == name), ""),
                rev=row.rev if row else 0,
                reported_rev=report.rev if report else 0,
                state=State(report.state) if report and report.state else State.IDLE,
                active=report.version if report else "",
                code=report.code if report else "",
                detail=report.detail if report else "",
            )
        return facts

    def _open_rollout(self) -> Rollout | None:
        return next((read_rollout(row) for row in self._store.rollouts(most=1) if row.open), None)

    def _keep(self, rollout: Rollout) -> None:
        self._store.put_rollout(RolloutRow(id=rollout.id, open=rollout.open, document=msgspec.json.encode(rollout)))

    def _note_changes(self, before: Rollout, after: Rollout, now_ms: int) -> None:
        what = f"{after.name} {after.version}"
        for old, new in zip(before.devices, after.devices, strict=True):
            if old.standing is not new.standing:
                detail = f"{what} {new.reason}".strip()
                self._note(now_ms, new.device, "rollout", new.standing.value, detail)
        if before.phase is not after.phase:
            kind = "rollout" if after.phase is Phase.REVERTING else "rollout_ended"
            self._note(now_ms, "", kind, after.phase.value, f"{what}: {after.reason}")

    def _note(self, now_ms: int, device: str, kind: str, code: str, detail: str) -> None:
        self._store.add_event(EventRow(time_ms=now_ms, device=device, kind=kind, code=code, detail=detail))


def read_rollout(row: RolloutRow) -> Rollout:
    """Return the roll-out that a row holds.

    Raises:
        FleetError: The row is damaged.
    """
    try:
        return msgspec.json.decode(row.document, type=Rollout)
    except msgspec.MsgspecError as error:
        raise FleetError(f"the stored roll-out {row.id} cannot be read", got=error) from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
