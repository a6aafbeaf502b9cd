"""Whatever devices do, a roll-out keeps its promises: waves bound what is in flight, a failure stops it, it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.wire.messages import State
from edgepe.fleet.rollout import AT_REST, Candidate, Fact, Phase, Rollout, Standing, plan, step

DEADLINE_MS = 1000
PACES = st.integers(1, 6)
ENDS = (State.COMMITTED, State.COMMITTED, State.COMMITTED, State.FAILED, State.ROLLED_BACK, State.REJECTED, None)


@dataclass
class Device:
    """A device in memory: answers each document after some ticks, with an end of its own; None is silence."""

    pace: int
    end: State | None
    active: str
    fact: Fact = field(default_factory=Fact)
    ticks: int = 0
    asked: list[str] = field(default_factory=list)

    def ask(self, version: str) -> None:
        self.asked.append(version)
        self.ticks = 0
        self.fact = Fact(wanted=version, rev=self.fact.rev + 1, reported_rev=self.fact.reported_rev, active=self.active)

    def tick(self) -> None:
        self.ticks += 1
        if self.fact.reported_rev == self.fact.rev or self.ticks < self.pace or self.end is None:
            return
        goes_back = self.fact.wanted in ("1", "")
        state = State.COMMITTED if goes_back else self.end
        if state is State.COMMITTED:
            self.active = self.fact.wanted or self.active
        self.fact = Fact(
            wanted=self.fact.wanted, rev=self.fact.rev, reported_rev=self.fact.rev, state=state, active=self.active
        )


def planned(devices: dict[str, Device], waves: str) -> Rollout:
    return plan(
        name="har",
        version="2",
        waves=waves,
        deadline_ms=DEADLINE_MS,
        candidates=[
            Candidate(device=name, site="lab", target="pi", online=True, active=one.active)
            for name, one in devices.items()
        ],
        published=frozenset({("2", "pi"), ("1", "pi")}),
        rollout_id="r",
        now_ms=0,
    )


fleets = st.lists(
    st.builds(Device, pace=PACES, end=st.sampled_from(ENDS), active=st.sampled_from(["1", "1", ""])),
    min_size=1,
    max_size=12,
).map(lambda devices: {f"d{index:02}": one for index, one in enumerate(devices)})
waves_texts = st.sampled_from(["100%", "1,100%", "1,5%,25%,100%", "2,50%,100%", "1,2,3,100%"])


@given(devices=fleets, waves=waves_texts, lost=st.sets(st.integers(0, 200), max_size=40))
@settings(deadline=None)
def test_a_rollout_ends_and_keeps_within_its_waves(devices: dict[str, Device], waves: str, lost: set[int]) -> None:
    rollout = planned(devices, waves)
    sizes = [end - before for before, end in zip((0, *rollout.waves), rollout.waves, strict=False)]
    asked_at_failure: set[str] | None = None
    now_ms = 0
    for tick in range(400):
        facts = {name: one.fact for name, one in devices.items()}
        rollout, actions = step(rollout, facts, now_ms)
        assert step(rollout, facts, now_ms) == (rollout, actions), "deciding twice changed something"
        if tick not in lost:  # a controller that died before it acted decides the same again
            for action in actions:
                devices[action.device].ask(action.version)
        in_flight = sum(one.standing is Standing.ASKED for one in rollout.devices)
        assert in_flight <= sizes[rollout.wave]
        asked = {name for name, one in devices.items() if "2" in one.asked}
        if rollout.phase is not Phase.RUNNING:
            asked_at_failure = asked_at_failure or asked
            assert asked <= asked_at_failure, "a device was asked after the failure"
        if not rollout.open:
            break
        for one in devices.values():
            one.tick()
        now_ms += 100
    assert not rollout.open, "it never ended"
    assert step(rollout, {}, now_ms) == (rollout, ())
    judge(rollout, devices)


def judge(rollout: Rollout, devices: dict[str, Device]) -> None:
    standings = {one.device: one.standing for one in rollout.devices}
    if rollout.phase is Phase.COMPLETED:
        assert set(standings.values()) == {Standing.COMMITTED}
        assert {one.active for one in devices.values()} == {"2"}
        return
    assert rollout.phase is Phase.FAILED
    assert rollout.reason
    for name, device in devices.items():
        match standings[name]:
            case Standing.WAITING:
                assert "2" not in device.asked
            case Standing.REVERTED:
                assert device.active != "2"
                assert device.fact.state in AT_REST
            case other:
                assert other is Standing.UNCONFIRMED
                assert device.fact.wanted != "2", "its document still names the new version"
