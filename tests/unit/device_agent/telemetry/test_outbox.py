"""The outbox survives a restart and keeps its cap."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from device_agent.errors import UpdateError
from device_agent.telemetry.outbox import Outbox

if TYPE_CHECKING:
    from pathlib import Path


def test_rows_wait_in_order_until_they_are_acknowledged(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", cap_bytes=1000)
    for number in range(3):
        outbox.put("t", bytes([number]), expiry_s=9)
    first, second, third = outbox.waiting()
    assert [row.payload for row in (first, second, third)] == [b"\0", b"\1", b"\2"]
    outbox.delete(second.id)
    assert [row.id for row in outbox.waiting()] == [first.id, third.id]
    assert [row.id for row in outbox.waiting(after=first.id, limit=1)] == [third.id]
    assert outbox.waiting_bytes == 2
    outbox.close()


def test_rows_and_counters_survive_a_restart(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", cap_bytes=1000)
    outbox.put("t", b"abc", expiry_s=9, counters=(("seq", 4),))
    outbox.close()
    again = Outbox(tmp_path / "o.db", cap_bytes=1000)
    assert (len(again), again.waiting_bytes, again.counter("seq"), again.counter("none")) == (1, 3, 4, 0)
    again.close()


def test_past_the_cap_the_oldest_go_first_and_are_counted(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", cap_bytes=100)
    for number in range(25):
        outbox.put("t", bytes([number]) * 10, expiry_s=9)
    assert [row.payload[0] for row in outbox.waiting()] == list(range(15, 25))
    assert (outbox.waiting_bytes, outbox.dropped) == (100, 15)
    outbox.close()


def test_an_id_is_never_given_twice(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", cap_bytes=100)
    outbox.put("t", b"a", expiry_s=9)
    (row,) = outbox.waiting()
    outbox.delete(row.id)
    outbox.delete(row.id)
    outbox.put("t", b"b", expiry_s=9)
    assert outbox.waiting()[0].id > row.id
    outbox.close()


def test_a_broken_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "o.db").write_bytes(b"no database" * 100)
    with pytest.raises(UpdateError) as caught:
        Outbox(tmp_path / "o.db", cap_bytes=100)
    assert isinstance(caught.value.__cause__, sqlite3.Error)
