"""A collector may die at any moment: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import subprocess
import threading
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from edgepe.fleet.arrivals import read_arrival
from edgepe.fleet.collector import GROUP, Collector, collector_command, collector_filters
from edgepe.fleet.link import Link
from edgepe.fleet.store import SqliteStore
from tests.brokers import BROKERS, embedded, mosquitto, until
from tests.fleet_agents import SimulatedAgent, telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgepe.fleet.broker import BrokerAddress

BATCHES = 1000
LIVES = 4


@pytest.fixture(params=BROKERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[BrokerAddress, str]]:
    """Give a broker, and the shared group that it may be asked for."""
    external = request.param == "mosquitto"
    with (mosquitto if external else embedded)(tmp_path) as address:
        yield address, GROUP if external else ""


@contextmanager
def collecting(command: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def has_at_least(store: SqliteStore, messages: int) -> bool:
    return store.counts().messages >= messages


def rolled_up(store: SqliteStore) -> int:
    return sum(row.latency.count for row in store.rollups(step_ms=60_000, since_ms=0))


def test_a_collector_killed_again_and_again_loses_and_doubles_nothing(
    place: tuple[BrokerAddress, str], tmp_path: Path
) -> None:
    address, shared = place
    path = tmp_path / "fleet.db"
    command = collector_command(path, address, index=0, shared=shared)
    with closing(SqliteStore(path)) as store, SimulatedAgent(address, "alpha") as agent:

        def talk() -> None:
            for seq in range(1, BATCHES + 1):
                agent.send(telemetry("alpha", seq, latencies_ns=(seq,)))

        talker = threading.Thread(target=talk)
        for life in range(LIVES):
            with collecting(command) as process:
                if life == 0:
                    until(store.devices)  # the session is there: from now on the broker keeps what it cannot deliver
                    talker.start()
                wanted = BATCHES * (life + 1) // (LIVES + 2)
                until(partial(has_at_least, store, wanted))
                process.kill()
        with collecting(command):
            talker.join()
            until(lambda: store.counts().messages == BATCHES)
        counts = store.counts()
        assert (counts.messages, counts.lost, counts.poison) == (BATCHES, 0, 0)
        assert rolled_up(store) == BATCHES
        assert store.device_models()[0].inferences == BATCHES


def test_death_between_commit_and_acknowledgement_is_seen_as_duplicates(
    place: tuple[BrokerAddress, str], tmp_path: Path
) -> None:
    address, shared = place

    def connect() -> Link:
        filters = collector_filters(1, shared=shared)
        return Link(address, client_id="edgepe-collector-1", subscriptions=filters, session_expiry_s=600)

    with closing(SqliteStore(tmp_path / "fleet.db")) as store, SimulatedAgent(address, "alpha") as agent:
        first = connect()
        until(lambda: first.poll(0.05) == [] and first.connected)
        for _ in range(5):  # until the broker knows the subscription
            first.poll(0.05)
        sent = 5
        for seq in range(1, sent + 1):
            agent.send(telemetry("alpha", seq, latencies_ns=(seq,)))
        taken = 0
        while taken < sent:
            deliveries = first.poll(0.2)
            store.ingest([read_arrival(one.topic, one.payload, now_ms=1) for one in deliveries])
            taken += len(deliveries)
        first._client._sock_close()
        second = connect()
        collector = Collector(second, store)
        until(lambda: collector.step(0.05) + store.counts().duplicates >= sent)
        counts = store.counts()
        assert (counts.messages, counts.duplicates, counts.lost) == (sent, sent, 0)
        assert rolled_up(store) == sent
        second.close()


def test_a_store_that_cannot_be_opened_ends_the_collector_with_a_reason(tmp_path: Path) -> None:
    with embedded(tmp_path) as address:
        path = tmp_path / "fleet.db"
        path.write_bytes(b"something else" * 100)
        command = collector_command(path, address, index=0, shared="")
        ended = subprocess.run(command, input=b"", capture_output=True, check=False, timeout=30)
        assert ended.returncode == 1
        assert b"store cannot be used" in ended.stderr
