from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from device_agent.wire.messages import (
    ActiveModel,
    Event,
    Message,
    Reported,
    ReportedModel,
    State,
    Status,
    encode,
)
from edgepe.errors import FleetError
from edgepe.fleet.arrivals import read_arrival
from edgepe.fleet.store import DesiredRow, EventRow, RolloutRow, SqliteStore
from edgepe.fleet.store.schema import SCHEMA_VERSION
from tests.fleet_agents import SITE, birth, telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MINUTE_MS = 60_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "fleet.db")) as opened:
        yield opened


def arrive(store: SqliteStore, leaf: str, *messages: Message, device: str = "a") -> None:
    topic = f"ep1/{SITE}/{device}/{leaf}"
    store.ingest([read_arrival(topic, encode(message), now_ms=index) for index, message in enumerate(messages)])


def status(*, online: bool, session: str) -> Status:
    return Status(online=online, boot=1, session=session)


def reported(rev: int, state: State, *, active: str = "") -> Reported:
    model = ActiveModel(name="har", version=active, sha256="0" * 64, target="pi") if active else None
    return Reported(
        device="a",
        boot=1,
        rev=rev,
        models=(ReportedModel(name="har", rev=rev, state=state, active=model),),
        time_ms=1,
    )


def test_a_store_of_a_newer_schema_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(FleetError, match=f"schema {SCHEMA_VERSION + 1} in fleet.db"):
        SqliteStore(path)


def test_a_file_that_is_no_store_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 30)
    with pytest.raises(FleetError, match="cannot be used"):
        SqliteStore(path)


def test_what_was_stored_is_there_when_opened_again(tmp_path: Path) -> None:
    for expected in (1, 2):
        with closing(SqliteStore(tmp_path / "fleet.db")) as store:
            arrive(store, "tele", telemetry("a", expected))
            assert store.counts().messages == expected


def test_an_old_will_does_not_show_a_newer_session_as_dead(store: SqliteStore) -> None:
    arrive(store, "status", status(online=True, session="s2"), status(online=False, session="s1"))
    assert store.devices()[0].online
    arrive(store, "status", status(online=False, session="s2"))
    assert not store.devices()[0].online


def test_a_birth_alone_does_not_bring_a_dead_device_to_life(store: SqliteStore) -> None:
    arrive(store, "status", status(online=False, session="a-1"))
    arrive(store, "birth", birth("a"))
    (device,) = store.devices()
    assert (device.online, device.target) == (False, "generic-x86-64")


def test_an_older_report_does_not_hide_a_newer_one(store: SqliteStore) -> None:
    arrive(store, "reported", reported(2, State.COMMITTED, active="2"), reported(1, State.COMMITTED, active="1"))
    (row,) = store.device_models()
    assert (row.rev, row.version) == (2, "2")


def test_counts_begin_anew_with_a_new_version(store: SqliteStore) -> None:
    arrive(store, "tele", telemetry("a", 1, latencies_ns=(1, 2, 3)), telemetry("a", 2, latencies_ns=(4,)))
    assert store.device_models()[0].inferences == 4
    arrive(store, "tele", telemetry("a", 3, latencies_ns=(5,), version="2"))
    (row,) = store.device_models()
    assert (row.version, row.inferences, row.latency.max) == ("2", 1, 5)


def test_a_late_batch_is_counted_but_not_shown_as_the_present(store: SqliteStore) -> None:
    arrive(store, "tele", telemetry("a", 5, latencies_ns=(500,)), telemetry("a", 4, latencies_ns=(400,)))
    (row,) = store.device_models()
    assert (row.inferences, row.latency.max) == (2, 500)


def test_a_repeated_event_is_kept_once_and_poison_is_explained(store: SqliteStore) -> None:
    event = Event(device="a", boot=1, number=1, time_ms=1, kind="desired_refused", code="bad_signature")
    arrive(store, "event", event, event)
    store.ingest([read_arrival(f"ep1/{SITE}/a/tele", b"\xff", now_ms=9)])
    assert [(one.kind, one.device) for one in store.events(most=9)] == [
        ("message_refused", ""),
        ("desired_refused", "a"),
    ]
    assert [one.kind for one in store.events(most=9, device="a")] == ["desired_refused"]
    assert store.counts().poison == 1


def test_rollups_keep_time_version_and_target_apart(store: SqliteStore) -> None:
    arrive(store, "birth", birth("a", target="pi"))
    arrive(store, "tele", *(telemetry("a", seq, latencies_ns=(seq,)) for seq in (1, 30, 90)))
    arrive(store, "tele", telemetry("b", 1, latencies_ns=(7,)), device="b")
    rows = store.rollups(step_ms=MINUTE_MS, since_ms=0)
    assert [(row.start_ms // MINUTE_MS, row.target, row.inferences) for row in rows] == [
        (16, "", 1),
        (16, "pi", 1),
        (17, "pi", 1),
        (18, "pi", 1),
    ]
    assert len(store.rollups(step_ms=MINUTE_MS, since_ms=0, model="har", version="1")) == 4
    assert store.rollups(step_ms=MINUTE_MS, since_ms=0, version="2") == ()


def test_pruning_drops_old_fine_steps_and_keeps_minutes(store: SqliteStore) -> None:
    arrive(store, "tele", telemetry("a", 1, latencies_ns=(1,)))
    store.prune(now_ms=10**12)
    assert store.rollups(step_ms=10_000, since_ms=0) == ()
    assert len(store.rollups(step_ms=MINUTE_MS, since_ms=0)) == 1


def test_a_desired_document_is_replaced_by_a_newer_one_only(store: SqliteStore) -> None:
    first = DesiredRow(device="a", site=SITE, rev=2, document=b"two")
    store.put_desired(first)
    with pytest.raises(FleetError, match="not newer"):
        store.put_desired(DesiredRow(device="a", site=SITE, rev=2, document=b"other"))
    assert store.desired() == (first,)


def test_a_rollout_keeps_its_place_when_it_changes(store: SqliteStore) -> None:
    for name in ("one", "two"):
        store.put_rollout(RolloutRow(id=name, open=True, document=b"{}"))
    store.put_rollout(RolloutRow(id="one", open=False, document=b"{}"))
    assert [(row.id, row.open) for row in store.rollouts(most=5)] == [("two", True), ("one", False)]


def test_a_change_by_somebody_else_shows(store: SqliteStore, tmp_path: Path) -> None:
    before = store.changes()
    assert store.changes() == before
    with closing(SqliteStore(tmp_path / "fleet.db")) as other:
        other.add_event(EventRow(time_ms=1, device="", kind="x", code="", detail=""))
    assert store.changes() != before


def test_a_batch_is_committed_whole_or_not_at_all(store: SqliteStore) -> None:
    good = read_arrival(f"ep1/{SITE}/a/tele", encode(telemetry("a", 1)), now_ms=1)
    store._connection.execute(
        "CREATE TEMP TRIGGER broken BEFORE INSERT ON tele WHEN new.seq = 2 BEGIN SELECT raise(ABORT, 'disk'); END"
    )
    bad = read_arrival(f"ep1/{SITE}/a/tele", encode(telemetry("a", 2)), now_ms=1)
    with pytest.raises(FleetError, match="nothing that was acknowledged is lost"):
        store.ingest([good, bad])
    assert store.counts().messages == 0
    assert store.devices() == ()
