"""However batches arrive - out of order, again, split anywhere - the store counts each exactly once."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.wire.histogram import LogHistogram
from device_agent.wire.messages import encode
from edgepe.fleet.arrivals import Arrival, Poison, read_arrival
from edgepe.fleet.store import SqliteStore
from tests.fleet_agents import SITE, birth, telemetry

BOOTS = 3


def arrival(device: str, boot: int, seq: int) -> Arrival | Poison:
    message = telemetry(device, seq, boot=boot, latencies_ns=(boot * 1000 + seq, 5_000_000 * seq))
    return read_arrival(f"ep1/{SITE}/{device}/tele", encode(message), now_ms=seq)


batches = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(2, BOOTS), st.integers(1, 8)), min_size=1, max_size=40
)


@given(sent=batches, cuts=st.sets(st.integers(1, 40)))
@settings(deadline=None, max_examples=40)
def test_accounting_is_exact(sent: list[tuple[str, int, int]], cuts: set[int]) -> None:
    first = [(device, 1, 1) for device in ("a", "b")]  # the store knows both devices from their boot 1 on
    arrivals = [arrival(*key) for key in first + sent]
    with tempfile.TemporaryDirectory() as folder, closing(SqliteStore(Path(folder) / "s.db")) as store:
        edges = sorted({0, len(arrivals)} | {cut for cut in cuts if cut < len(arrivals)})
        for begin, end in itertools.pairwise(edges):
            store.ingest(arrivals[begin:end])
        counts = store.counts()
        kept = set(first + sent)
        last: dict[tuple[str, int], int] = {}
        for device, boot, seq in kept:
            last[device, boot] = max(seq, last.get((device, boot), 0))
        assert counts.messages == len(kept)
        assert counts.duplicates == len(arrivals) - len(kept)
        assert counts.lost == sum(last.values()) - len(kept)
        expected = LogHistogram()
        for _device, boot, seq in kept:
            expected.add_many((boot * 1000 + seq, 5_000_000 * seq))
        for step_ms in (10_000, 60_000):
            merged = LogHistogram()
            for row in store.rollups(step_ms=step_ms, since_ms=0):
                merged.merge(row.latency)
            assert merged == expected


@given(last=st.integers(1, 5), declared=st.integers(0, 9), dropped=st.integers(0, 9))
@settings(deadline=None, max_examples=25)
def test_a_birth_exposes_a_lost_tail_and_declared_drops_are_no_loss(last: int, declared: int, dropped: int) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(SqliteStore(Path(folder) / "s.db")) as store:
        store.ingest([arrival("a", 1, seq) for seq in range(1, last + 1)])
        message = birth("a", boot=2, previous_seq=declared)
        store.ingest([read_arrival(f"ep1/{SITE}/a/birth", encode(message), now_ms=1)])
        after = telemetry("a", 1, boot=2, dropped=dropped)
        store.ingest([read_arrival(f"ep1/{SITE}/a/tele", encode(after), now_ms=2)])
        assert store.counts().lost == max(0, max(0, declared - last) - dropped)
