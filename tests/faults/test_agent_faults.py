"""What a box lives through: a broker that goes, a supervisor that is killed, garbage on its topics."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from device_agent.update.states import State
from device_agent.wire.messages import decode_birth, decode_status, decode_telemetry
from tests.agent_kit import FleetEnd, bundle_bytes, desired_for, staged, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.agent_kit import AgentHome, Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as found:
        yield found


def workers_of(home: AgentHome) -> list[int]:
    return [int(word[4:]) for word in home.log().split() if word.startswith("pid=")]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_supervisor_leaves_no_worker_and_the_next_boot_says_what_was_lost(stage: Stage) -> None:
    home, fleet = stage.home, stage.fleet
    with home.running() as process:
        wait_for(lambda: fleet.messages(home.topics.tele), "telemetry")
        process.kill()
        process.wait()
    wait_for(lambda: not any(map(alive, workers_of(home))), "the end of every worker")
    wait_for(lambda: not decode_status(fleet.messages(home.topics.status)[-1]).online, "the will")
    with home.running():
        wait_for(lambda: decode_birth(fleet.messages(home.topics.birth)[-1]).boot == 2, "the next birth")
        birth = decode_birth(fleet.messages(home.topics.birth)[-1])
        assert birth.previous_boot == 1
        assert (birth.previous_seq or 0) >= 1


def test_a_broker_that_restarts_loses_no_batch(stage: Stage) -> None:
    home, fleet, broker = stage.home, stage.fleet, stage.broker
    with home.running():
        wait_for(lambda: fleet.messages(home.topics.tele), "telemetry")
        broker.stop()
        fleet.close()
        wait_for(lambda: "disconnected" in home.log(), "the loss of the session")
        broker.start()
        late = FleetEnd(broker.address.host, broker.address.port)
        try:
            wait_for(lambda: len(late.messages(home.topics.tele)) > 2, "telemetry after the restart")
            wait_for(lambda: late.messages(home.topics.birth), "the birth again")
            wait_for(lambda: late.messages(home.topics.reported), "the report again")
        finally:
            late.close()
    old = {decode_telemetry(one).seq for one in fleet.messages(home.topics.tele)}
    new = {decode_telemetry(one).seq for one in late.messages(home.topics.tele)}
    seen = old | new
    assert seen >= set(range(1, max(new) + 1))


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\xff" * 100, id="no text"),
        pytest.param(b"[" * 50_000, id="deep"),
        pytest.param(b"x" * 900_000, id="long"),
        pytest.param(json.dumps({"signed": {}, "signatures": []}).encode(), id="empty"),
    ],
)
def test_garbage_as_desired_is_refused_and_the_next_good_document_is_obeyed(
    stage: Stage, tmp_path: Path, payload: bytes
) -> None:
    home, fleet = stage.home, stage.fleet
    data = bundle_bytes(tmp_path / "two", version="2")
    document = desired_for(data, rev=1, version="2")
    stage.repository.files[document.models[0].path] = data
    with home.running():
        wait_for(lambda: fleet.model(home.topics), "a report")
        fleet.want(home.topics, payload)
        wait_for(lambda: fleet.messages(home.topics.event), "the refusal")
        fleet.want(home.topics, fleet.sign(document))

        def committed() -> bool:
            model = fleet.model(home.topics)
            return model is not None and model.rev == 1 and model.state is State.COMMITTED

        wait_for(committed, "the update")


def test_an_update_cut_off_by_a_kill_is_taken_up_and_reported(stage: Stage, tmp_path: Path) -> None:
    home, fleet = stage.home, stage.fleet
    data = bundle_bytes(tmp_path / "two", version="2")
    document = desired_for(data, rev=4, version="2")
    stage.repository.files[document.models[0].path] = data
    with home.running() as process:
        wait_for(lambda: fleet.model(home.topics), "a report")
        fleet.want(home.topics, fleet.sign(document))
        wait_for(lambda: "state=DOWNLOADING" in home.log(), "the download")
        process.kill()
        process.wait()
    with home.running():

        def committed() -> bool:
            model = fleet.model(home.topics)
            return model is not None and model.state is State.COMMITTED and model.rev == 4

        wait_for(committed, "the update")
