from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from device_agent.wire.messages import State
from edgepe.errors import FleetError, UsageError
from edgepe.fleet.rollout import Action, Candidate, Fact, Phase, Rollout, Standing, members, parse_waves, plan, step

PUBLISHED = frozenset({("1", "pi"), ("2", "pi"), ("2", "jetson")})


def candidate(device: str, *, target: str = "pi", online: bool = True, active: str = "1") -> Candidate:
    return Candidate(device=device, site="lab", target=target, online=online, active=active)


def planned(*candidates: Candidate, waves: str = "1,100%") -> Rollout:
    return plan(
        name="har",
        version="2",
        waves=waves,
        deadline_ms=1000,
        candidates=candidates,
        published=PUBLISHED,
        rollout_id="r",
        now_ms=0,
    )


def committed(rev: int = 1) -> Fact:
    return Fact(wanted="2", rev=rev, reported_rev=rev, state=State.COMMITTED, active="2")


@pytest.mark.parametrize(
    ("waves", "devices", "ends"),
    [
        pytest.param("1,5%,25%,100%", 100, (1, 5, 25, 100), id="the default"),
        pytest.param("1,5%,25%,100%", 3, (1, 3), id="small fleets have fewer waves"),
        pytest.param("1,2,3", 3, (1, 2, 3), id="device by device"),
        pytest.param("50", 3, (3,), id="more than there are"),
        pytest.param("100%", 1, (1,), id="one device"),
    ],
)
def test_waves_say_how_many_devices_have_been_asked(waves: str, devices: int, ends: tuple[int, ...]) -> None:
    assert planned(*(candidate(f"d{index}") for index in range(devices)), waves=waves).waves == ends


@pytest.mark.parametrize("waves", ["", "0", "1,,3", "101%", "half", "-1", "1.5", "٣%x"])
def test_a_wave_that_makes_no_sense_is_refused(waves: str) -> None:
    with pytest.raises(UsageError, match="a wave is not understood"):
        parse_waves(waves)


def test_waves_that_leave_devices_out_are_refused() -> None:
    with pytest.raises(UsageError, match="does not reach every device"):
        planned(candidate("a"), candidate("b"), waves="1")


@pytest.mark.parametrize(
    ("group", "devices"),
    [
        pytest.param("", ["a", "b"], id="the whole fleet"),
        pytest.param("device=b", ["b"], id="one device"),
        pytest.param("target=pi", ["a"], id="one kind of board"),
        pytest.param("site=lab", ["a", "b"], id="one site"),
    ],
)
def test_a_group_is_chosen_by_device_site_or_target(group: str, devices: list[str]) -> None:
    chosen = members([candidate("a"), candidate("b", target="jetson")], group)
    assert [one.device for one in chosen] == devices


@pytest.mark.parametrize("group", ["colour=red", "device", "=a"])
def test_a_group_that_makes_no_sense_is_refused(group: str) -> None:
    with pytest.raises(UsageError, match="a group is not understood"):
        members([candidate("a")], group)


def test_a_group_without_devices_names_those_there_are() -> None:
    with pytest.raises(FleetError, match="expected: one of jetson, pi"):
        members([candidate("a"), candidate("b", target="jetson")], "target=phone")


def test_devices_that_cannot_take_part_are_left_out_with_a_reason() -> None:
    rollout = planned(
        candidate("a"), candidate("b", online=False), candidate("c", active="2"), candidate("d", target="phone")
    )
    assert [one.device for one in rollout.devices] == ["a"]
    assert dict(rollout.skipped) == {
        "b": "offline",
        "c": "runs it already",
        "d": "no bundle for its target phone",
    }


def test_a_rollout_that_no_device_can_take_is_refused_with_every_reason() -> None:
    with pytest.raises(FleetError, match="a: offline"):
        planned(candidate("a", online=False))


def test_a_version_that_the_repository_lacks_is_not_gone_back_to() -> None:
    rollout = planned(candidate("a"), candidate("b", target="jetson"))
    assert [one.previous for one in rollout.devices] == ["1", ""]


def test_the_next_wave_waits_for_the_one_before() -> None:
    rollout, actions = step(planned(candidate("a"), candidate("b")), {}, 0)
    assert actions == (Action(device="a", version="2"),)
    rollout, actions = step(rollout, {"a": replace(committed(), state=State.SOAKING)}, 10)
    assert actions == ()
    rollout, actions = step(rollout, {"a": committed()}, 20)
    assert actions == (Action(device="b", version="2"),)
    rollout, actions = step(rollout, {"a": committed(), "b": committed()}, 30)
    assert (rollout.phase, rollout.ended_ms, actions) == (Phase.COMPLETED, 30, ())


def test_a_report_about_an_earlier_document_is_no_answer() -> None:
    rollout, _ = step(planned(candidate("a")), {}, 0)
    stale = Fact(wanted="2", rev=5, reported_rev=4, state=State.FAILED, active="1")
    rollout, actions = step(rollout, {"a": stale}, 10)
    assert (rollout.devices[0].standing, actions) == (Standing.ASKED, ())


def test_an_action_is_repeated_until_it_shows() -> None:
    rollout, first = step(planned(candidate("a")), {}, 0)
    again, second = step(rollout, {}, 10)
    assert (again, second) == (rollout, first)


def test_a_late_roll_back_of_a_committed_device_turns_everything_back() -> None:
    rollout, _ = step(planned(candidate("a"), candidate("b")), {}, 0)
    rollout, _ = step(rollout, {"a": committed()}, 10)
    worse = replace(committed(), state=State.ROLLED_BACK, active="1", code="error_rate")
    rollout, actions = step(rollout, {"a": worse, "b": Fact(wanted="2", rev=1)}, 20)
    assert rollout.phase is Phase.REVERTING
    assert rollout.devices[0].code == "error_rate"
    assert set(actions) == {Action(device="a", version="1"), Action(device="b", version="1")}


def test_a_device_that_never_confirms_the_way_back_is_left_with_its_document() -> None:
    rollout, _ = step(planned(candidate("a")), {}, 0)
    silent = {"a": Fact(wanted="2", rev=1)}
    rollout, _ = step(rollout, silent, 1001)
    assert rollout.devices[0].code == "timed_out"
    back = {"a": Fact(wanted="1", rev=2)}
    rollout, _ = step(rollout, back, 1500)
    assert rollout.phase is Phase.REVERTING
    rollout, actions = step(rollout, back, 3000)
    assert (rollout.phase, rollout.devices[0].standing, actions) == (Phase.FAILED, Standing.UNCONFIRMED, ())


def test_a_rollout_survives_its_own_document() -> None:
    rollout, _ = step(planned(candidate("a"), candidate("b", online=False)), {}, 0)
    assert msgspec.json.decode(msgspec.json.encode(rollout), type=Rollout) == rollout
