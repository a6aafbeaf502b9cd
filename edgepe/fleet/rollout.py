"""The decisions of a roll-out: pure values and functions, no clock, no broker, no store.

Rules kept here:
1. Devices are asked wave by wave, in a fixed order; a wave begins when every device of the waves before is COMMITTED.
2. COMMITTED, reported by the device about the very document that asked it, is the only success.
3. Any other end, and silence past the deadline, is a failure: no further device is asked, and every device that was
   asked is asked back to what it ran before.
4. A roll-out always ends: each device that is asked back either confirms or is, after the deadline, left UNCONFIRMED;
   its signed document names the old version already and waits for it.
5. Deciding twice on the same facts changes nothing: an action is repeated until the facts show that it was carried out,
   so a controller may die between any two lines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from device_agent.wire.messages import State
from edgepe.errors import FleetError, UsageError
from edgepe.fleet.defaults import WAVES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "Action",
    "Candidate",
    "DeviceStep",
    "Fact",
    "Phase",
    "Rollout",
    "Standing",
    "members",
    "parse_waves",
    "plan",
    "step",
]

_HUNDRED = 100
GROUP_KEYS = ("device", "site", "target")

FAILURES = frozenset({State.REJECTED, State.FAILED, State.ROLLED_BACK, State.CANCELLED, State.TIMED_OUT})
AT_REST = FAILURES | {State.IDLE, State.COMMITTED}


class Phase(StrEnum):
    """Where a roll-out stands; the last two are ends."""

    RUNNING = "RUNNING"
    REVERTING = "REVERTING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class Standing(StrEnum):
    """Where one device stands in a roll-out."""

    WAITING = "WAITING"
    ASKED = "ASKED"
    COMMITTED = "COMMITTED"
    FAILED = "FAILED"
    REVERTING = "REVERTING"
    REVERTED = "REVERTED"
    UNCONFIRMED = "UNCONFIRMED"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStep:
    """One device of a roll-out.

    Attributes:
        wave: Counts from 0.
        previous: The version to go back to; empty if there was none, or none that the repository has.
        since_ms: When the present standing began.
        code: Why it failed, one word; kept through the way back.
        reason: The same for a person.
    """

    device: str
    site: str
    wave: int
    previous: str
    standing: Standing = Standing.WAITING
    since_ms: int = 0
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One version on its way to the fleet.

    Attributes:
        waves: How many devices have been asked at the end of each wave.
        deadline_ms: How long a device may take.
        skipped: Devices left out, with the reason.
    """

    id: str
    name: str
    version: str
    waves: tuple[int, ...]
    deadline_ms: int
    devices: tuple[DeviceStep, ...]
    skipped: tuple[tuple[str, str], ...]
    started_ms: int
    ended_ms: int | None = None
    phase: Phase = Phase.RUNNING
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether anything is still to be decided."""
        return self.phase in (Phase.RUNNING, Phase.REVERTING)

    @property
    def wave(self) -> int:
        """The wave under way, or the last one."""
        undecided = (one.wave for one in self.devices if one.standing is not Standing.COMMITTED)
        return min(undecided, default=len(self.waves) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A device that a roll-out might take: its board, and what it runs of the model (empty if nothing)."""

    device: str
    site: str
    target: str
    online: bool
    active: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What is known of a device and the model: what it was last asked for, and what it says.

    Attributes:
        wanted: The version that its newest desired document names; empty if none.
        rev: The revision of that document, 0 if there is none.
        reported_rev: The revision that the device's report is about.
        active: The version that serves.
    """

    wanted: str = ""
    rev: int = 0
    reported_rev: int = 0
    state: State = State.IDLE
    active: str = ""
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Ask a device for a version of the roll-out's model; an empty version takes the model out of its document."""

    device: str
    version: str


NOTHING_KNOWN = Fact()


def parse_waves(text: str) -> tuple[tuple[int, bool], ...]:
    """Read waves such as ``1,5%,25%,100%`` into (number, is per cent) pairs.

    Each says how many devices have been asked, in all, when the wave is over.

    Raises:
        UsageError: A wave is no number of devices and no percentage.
    """
    waves = []
    for part in text.split(","):
        number, percent = part.strip().removesuffix("%"), part.strip().endswith("%")
        if not number.isdecimal() or int(number) == 0 or (percent and int(number) > _HUNDRED):
            raise UsageError(
                "a wave is not understood",
                expected="numbers of devices or percentages, such as 1,5%,25%,100%",
                got=ascii(part)[1:-1],
                next_step=f"leave --waves out for {WAVES}",
            )
        waves.append((int(number), percent))
    return tuple(waves)


def members(candidates: Iterable[Candidate], group: str) -> tuple[Candidate, ...]:
    """Return the devices of a group, in their order.

    Args:
        candidates: The whole fleet.
        group: ``device=NAME``, ``site=NAME`` or ``target=NAME``; empty is the whole fleet.

    Raises:
        UsageError: The group is not of that form.
        FleetError: No device is in it.
    """
    fleet = tuple(candidates)
    if not group:
        return fleet
    key, equals, value = group.partition("=")
    if key not in GROUP_KEYS or not equals:
        raise UsageError(
            "a group is not understood",
            expected=" or ".join(f"{name}=NAME" for name in GROUP_KEYS),
            got=ascii(group)[1:-1],
            next_step="leave --group out for the whole fleet",
        )
    chosen = tuple(one for one in fleet if getattr(one, key) == value)
    if not chosen:
        raise FleetError(
            f"no device is in the group {group}",
            expected=f"one of {', '.join(sorted({getattr(one, key) for one in fleet})) or 'no device at all'}",
            got=value,
            next_step="see edgepe fleet devices",
        )
    return chosen


def plan(
    *,
    name: str,
    version: str,
    waves: str,
    deadline_ms: int,
    candidates: Iterable[Candidate],
    published: frozenset[tuple[str, str]],
    rollout_id: str,
    now_ms: int,
) -> Rollout:
    """Decide which devices a roll-out takes, in which order and waves; nothing is asked of any device yet.

    Args:
        name: The model.
        version: Where to.
        waves: As :func:`parse_waves` reads them; the last must reach every device.
        deadline_ms: How long a device may take.
        candidates: Every device of the fleet, in the order in which to ask.
        published: (version, target) of each bundle of this model that the repository has.
        rollout_id: The new roll-out's name.
        now_ms: Milliseconds since the epoch.

    Raises:
        UsageError: The waves make no sense.
        FleetError: No device can take the version.
    """
    wanted = parse_waves(waves)
    taken, skipped = [], []
    for one in candidates:
        obstacle = _obstacle(one, version, published)
        if obstacle:
            skipped.append((one.device, obstacle))
        else:
            taken.append(one)
    if not taken:
        raise FleetError(
            f"no device can take {name} {version}",
            expected="an online device whose target has a published bundle, not running it already",
            got="; ".join(f"{device}: {reason}" for device, reason in skipped) or "no device at all",
            next_step="see edgepe fleet devices, and publish a bundle for their targets",
        )
    ends = _wave_ends(wanted, len(taken))
    devices = tuple(
        DeviceStep(
            device=one.device,
            site=one.site,
            wave=next(wave for wave, end in enumerate(ends) if index < end),
            previous=one.active if (one.active, one.target) in published else "",
        )
        for index, one in enumerate(taken)
    )
    return Rollout(
        id=rollout_id,
        name=name,
        version=version,
        waves=ends,
        deadline_ms=deadline_ms,
        devices=devices,
        skipped=tuple(skipped),
        started_ms=now_ms,
    )


def step(rollout: Rollout, facts: Mapping[str, Fact], now_ms: int) -> tuple[Rollout, tuple[Action, ...]]:
    """Look at the facts once; return the roll-out's next state and what to ask of devices now.

    Persist the state before carrying out the actions.
    """
    if not rollout.open:
        return rollout, ()
    known = {one.device: facts.get(one.device, NOTHING_KNOWN) for one in rollout.devices}
    seen = replace(rollout, devices=tuple(_observe(rollout, one, known[one.device], now_ms) for one in rollout.devices))
    decided = _decide(seen, now_ms)
    return decided, tuple(_actions(decided, known))


def _obstacle(one: Candidate, version: str, published: frozenset[tuple[str, str]]) -> str:
    if (version, one.target) not in published:
        return f"no bundle for its target {one.target or '(unknown)'}"
    if one.active == version:
        return "runs it already"
    return "" if one.online else "offline"


def _wave_ends(waves: tuple[tuple[int, bool], ...], devices: int) -> tuple[int, ...]:
    ends: list[int] = []
    for number, percent in waves:
        end = min(devices, -(-number * devices // _HUNDRED) if percent else number)
        if end > (ends[-1] if ends else 0):
            ends.append(end)
    if ends[-1] < devices:
        raise UsageError(
            "the last wave does not reach every device",
            expected=f"100% or at least {devices}",
            got=f"{ends[-1]} of {devices}",
            next_step="end --waves with 100%",
        )
    return tuple(ends)


def _observe(rollout: Rollout, one: DeviceStep, fact: Fact, now_ms: int) -> DeviceStep:
    late = now_ms - one.since_ms > rollout.deadline_ms
    match one.standing:
        case Standing.ASKED | Standing.COMMITTED:
            answered = fact.wanted == rollout.version and fact.reported_rev >= fact.rev
            if answered and fact.state in FAILURES:
                code, said = fact.code or fact.state.value.lower(), fact.detail.partition("\n")[0]
                return _failed(one, now_ms, code, said or fact.state.value)
            if answered and fact.state is State.COMMITTED and fact.active == rollout.version:
                return _moved(one, Standing.COMMITTED, now_ms)
            if late and one.standing is Standing.ASKED:
                silence = f"not COMMITTED within {rollout.deadline_ms / 1000:g} s; last heard: {fact.state.value}"
                return _failed(one, now_ms, State.TIMED_OUT.value.lower(), silence)
        case Standing.REVERTING:
            if _is_back(rollout, one, fact):
                return _moved(one, Standing.REVERTED, now_ms)
            if late:
                return _moved(one, Standing.UNCONFIRMED, now_ms)
        case _:
            pass
    return one


def _is_back(rollout: Rollout, one: DeviceStep, fact: Fact) -> bool:
    heard = fact.wanted == one.previous and fact.reported_rev >= fact.rev and fact.state in AT_REST
    if one.previous:
        return heard and fact.active == one.previous
    return fact.wanted == "" and fact.active != rollout.version


def _decide(rollout: Rollout, now_ms: int) -> Rollout:
    if rollout.phase is Phase.RUNNING:
        failed = [one for one in rollout.devices if one.standing is Standing.FAILED]
        if failed:
            return _turn_back(rollout, failed[0], now_ms)
        if all(one.standing is Standing.COMMITTED for one in rollout.devices):
            return replace(rollout, phase=Phase.COMPLETED, ended_ms=now_ms, reason="every device is COMMITTED")
        return replace(
            rollout,
            devices=tuple(
                _moved(one, Standing.ASKED, now_ms)
                if one.wave == rollout.wave and one.standing is Standing.WAITING
                else one
                for one in rollout.devices
            ),
        )
    if any(one.standing is Standing.REVERTING for one in rollout.devices):
        return rollout
    return replace(rollout, phase=Phase.FAILED, ended_ms=now_ms)


def _turn_back(rollout: Rollout, culprit: DeviceStep, now_ms: int) -> Rollout:
    return replace(
        rollout,
        phase=Phase.REVERTING,
        reason=f"{culprit.device}: {culprit.reason}",
        devices=tuple(
            one if one.standing is Standing.WAITING else _moved(one, Standing.REVERTING, now_ms)
            for one in rollout.devices
        ),
    )


def _actions(rollout: Rollout, facts: Mapping[str, Fact]) -> Iterable[Action]:
    for one in rollout.devices:
        if one.standing is Standing.ASKED and facts[one.device].wanted != rollout.version:
            yield Action(device=one.device, version=rollout.version)
        if one.standing in (Standing.REVERTING, Standing.UNCONFIRMED) and facts[one.device].wanted != one.previous:
            yield Action(device=one.device, version=one.previous)


def _moved(one: DeviceStep, standing: Standing, now_ms: int) -> DeviceStep:
    return one if one.standing is standing else replace(one, standing=standing, since_ms=now_ms)


def _failed(one: DeviceStep, now_ms: int, code: str, reason: str) -> DeviceStep:
    return replace(one, standing=Standing.FAILED, since_ms=now_ms, code=code, reason=reason)
