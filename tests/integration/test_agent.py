"""The whole agent with a real broker, a real web server and a real model."""

from __future__ import annotations

import http.client
import json
import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from device_agent.update.states import State
from device_agent.wire.messages import decode_birth, decode_event, decode_status, decode_telemetry
from tests.agent_kit import MODEL, FleetEnd, bundle_bytes, desired_for, staged, wait_for
from tests.tiny_models import BIAS, dense

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgepe.fleet.broker import EmbeddedBroker
    from tests.agent_kit import AgentHome, FaultyRepository, Stage

X = np.array([[1, 2, 3, 4]], np.float32)
WRONG = BIAS + 1


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as found:
        yield found


@pytest.fixture
def broker(stage: Stage) -> EmbeddedBroker:
    return stage.broker


@pytest.fixture
def fleet(stage: Stage) -> FleetEnd:
    return stage.fleet


@pytest.fixture
def repository(stage: Stage) -> FaultyRepository:
    return stage.repository


@pytest.fixture
def home(stage: Stage) -> AgentHome:
    return stage.home


def infer(address: str) -> np.ndarray:
    """Ask the served model once."""
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": X.ravel().tolist()}]}
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps(body))
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return np.array(answer["outputs"][0]["data"], np.float32).reshape(answer["outputs"][0]["shape"])


def want(
    home: AgentHome, fleet: FleetEnd, repository: FaultyRepository, data: bytes, *, rev: int, version: str = "2"
) -> None:
    document = desired_for(data, rev=rev, version=version)
    repository.files.setdefault(document.models[0].path, data)
    fleet.want(home.topics, fleet.sign(document))


def ended(home: AgentHome, fleet: FleetEnd, *, rev: int) -> bool:
    model = fleet.model(home.topics)
    ends = (State.COMMITTED, State.FAILED, State.ROLLED_BACK, State.REJECTED, State.CANCELLED)
    return model is not None and model.rev == rev and model.state in ends


def heard_event(home: AgentHome, fleet: FleetEnd, code: str) -> bool:
    return code in [decode_event(one).code for one in fleet.messages(home.topics.event)]


def test_an_installed_agent_serves_and_says_what_it_is(home: AgentHome, fleet: FleetEnd) -> None:
    with home.running():
        wait_for(lambda: fleet.messages(home.topics.tele), "telemetry")
        np.testing.assert_allclose(infer(home.http()), dense(X), rtol=1e-5)
        birth = decode_birth(fleet.messages(home.topics.birth)[-1])
        assert (birth.models[0].version, birth.boot, birth.rev) == ("1", 1, 0)
        assert dict(birth.runtimes)
        assert decode_status(fleet.messages(home.topics.status)[-1]).online
        wait_for(
            lambda: any(decode_telemetry(one).models for one in fleet.messages(home.topics.tele)), "measured inferences"
        )
        tele = [decode_telemetry(one) for one in fleet.messages(home.topics.tele)]
        model = next(one for one in tele if one.models).models[0]
        assert (model.name, model.version) == (MODEL, "1")
        assert model.latency.count == model.inferences
    wait_for(lambda: not decode_status(fleet.messages(home.topics.status)[-1]).online, "the goodbye")
    seqs = [decode_telemetry(one).seq for one in fleet.messages(home.topics.tele)]
    assert sorted(set(seqs)) == list(range(1, max(seqs) + 1))


def test_a_signed_update_is_committed_after_its_soak(
    home: AgentHome, fleet: FleetEnd, repository: FaultyRepository, tmp_path: Path
) -> None:
    with home.running():
        wait_for(lambda: fleet.model(home.topics), "a report")
        want(home, fleet, repository, bundle_bytes(tmp_path / "two", version="2"), rev=3)
        wait_for(lambda: ended(home, fleet, rev=3), "the end of the update")
        model = fleet.model(home.topics)
        assert model is not None
        assert model.active is not None
        assert model.previous is not None
        assert (model.state, model.active.version, model.previous.version) == (State.COMMITTED, "2", "1")
        np.testing.assert_allclose(infer(home.http()), dense(X), rtol=1e-5)
        wait_for(
            lambda: any(
                one.version == "2" for tele in fleet.messages(home.topics.tele) for one in decode_telemetry(tele).models
            ),
            "telemetry of version 2",
        )
    assert home.status()["rev"] == 3


def test_a_corrupted_download_fails_and_the_old_model_serves_on(
    home: AgentHome, fleet: FleetEnd, repository: FaultyRepository, tmp_path: Path
) -> None:
    data = bundle_bytes(tmp_path / "two", version="2")
    document = desired_for(data, rev=1, version="2")
    repository.files[document.models[0].path] = data[:-1] + bytes([data[-1] ^ 1])
    with home.running():
        wait_for(lambda: fleet.model(home.topics), "a report")
        want(home, fleet, repository, data, rev=1)
        wait_for(lambda: ended(home, fleet, rev=1), "the end of the update")
        model = fleet.model(home.topics)
        assert model is not None
        assert model.active is not None
        assert (model.state, model.code, model.active.version) == (State.FAILED, "digest_mismatch", "1")
        np.testing.assert_allclose(infer(home.http()), dense(X), rtol=1e-5)


def test_a_model_that_fails_its_golden_vectors_never_serves(
    home: AgentHome, fleet: FleetEnd, repository: FaultyRepository, tmp_path: Path
) -> None:
    with home.running():
        wait_for(lambda: fleet.model(home.topics), "a report")
        want(home, fleet, repository, bundle_bytes(tmp_path / "bad", version="2", bias=WRONG), rev=1)
        wait_for(lambda: ended(home, fleet, rev=1), "the end of the update")
        model = fleet.model(home.topics)
        assert model is not None
        assert model.active is not None
        assert (model.state, model.code, model.active.version) == (State.FAILED, "golden_failed", "1")
        np.testing.assert_allclose(infer(home.http()), dense(X), rtol=1e-5)


def test_what_is_not_signed_not_ours_old_or_over_is_not_acted_on(
    home: AgentHome, fleet: FleetEnd, repository: FaultyRepository, tmp_path: Path
) -> None:
    data = bundle_bytes(tmp_path / "two", version="2")
    stranger = FleetEnd.sign(fleet, desired_for(data, rev=5, version="2")).replace(b'"sig":"', b'"sig":"00')
    refused = (
        (stranger, "bad_signature"),
        (fleet.sign(desired_for(data, rev=6, version="2", device="pi-2")), "other_device"),
        (fleet.sign(desired_for(data, rev=7, version="2", lasts_ms=-1)), "expired"),
        (b"{" * 2000, "bad_document"),
    )
    with home.running():
        wait_for(lambda: fleet.model(home.topics), "a report")
        for payload, code in refused:
            fleet.want(home.topics, payload)
            wait_for(partial(heard_event, home, fleet, code), code)
        assert home.status()["rev"] == 0
        assert not repository.requests


def test_a_broker_that_is_away_at_the_start_is_no_error(
    home: AgentHome, broker: EmbeddedBroker, fleet: FleetEnd
) -> None:
    broker.stop()
    fleet.close()
    with home.running():
        address = home.http()
        np.testing.assert_allclose(infer(address), dense(X), rtol=1e-5)
        wait_for(lambda: "boot=1" in home.log(), "the start")
        database = home.state / "outbox.db"
        wait_for(database.exists, "the outbox")
        broker.start()
        late = FleetEnd(broker.address.host, broker.address.port)
        try:
            wait_for(lambda: len(late.messages(home.topics.tele)) > 2, "stored telemetry")
            seqs = sorted({decode_telemetry(one).seq for one in late.messages(home.topics.tele)})
            assert seqs[0] == 1
            assert seqs == list(range(1, len(seqs) + 1))
        finally:
            late.close()


def test_a_worker_that_is_killed_comes_back(home: AgentHome) -> None:
    with home.running():
        address = home.http()
        infer(address)
        worker = next(int(word[4:]) for word in home.log().split() if word.startswith("pid="))
        os.kill(worker, signal.SIGKILL)
        np.testing.assert_allclose(infer(address), dense(X), rtol=1e-5)


def test_the_end_leaves_no_child(home: AgentHome) -> None:
    with home.running() as process:
        infer(home.http())
        workers = [int(word[4:]) for word in home.log().split() if word.startswith("pid=")]
    assert process.returncode == 0
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_second_agent_on_the_same_state_is_refused(home: AgentHome) -> None:
    with home.running():
        infer(home.http())
        second = home.command("run")
    assert second.returncode == 1
    assert "Another agent runs" in second.stderr
