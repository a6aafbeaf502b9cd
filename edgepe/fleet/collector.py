"""A collector: one process that takes messages from the broker into the store.

Rules kept here:
1. The session is persistent and a message is acknowledged, by hand and in order, only after the commit that holds it.
   A collector killed at any moment therefore loses nothing: the broker sends again what was not acknowledged, and the
   store's key ``(device, boot, seq)`` removes what had been committed.
2. Telemetry is divided among collectors by a shared subscription where the broker is to be trusted with one; the
   retained documents (status, birth, reported) and events go to the first collector alone, which keeps their order.
3. A batch ends when the broker has nothing more at hand, or at 500 messages: small batches when it is quiet, large
   ones under load.
4. A broken message is counted, explained and acknowledged: it must not come back for ever.
5. What the store cannot take is not acknowledged: the process ends with the reason and its parent starts another.

Run as ``python -m edgepe.fleet.collector``; it ends when its standard input closes, so it never outlives its parent.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.wire.topics import Leaf, fleet_filter, shared_filter
from edgepe.errors import EdgepeError
from edgepe.fleet.arrivals import read_arrival
from edgepe.fleet.broker import BrokerAddress
from edgepe.fleet.link import Link
from edgepe.fleet.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgepe.fleet.store import Store

__all__ = ["GROUP", "Collector", "collector_command", "collector_filters", "main"]

GROUP = "ingest"
SESSION_EXPIRY_S = 24 * 60 * 60
MOST_IN_A_BATCH = 500
IDLE_POLL_S = 0.2
IGNORED_BYTES = 4096


def collector_filters(index: int, *, shared: str) -> tuple[str, ...]:
    """Return what a collector subscribes to.

    Args:
        index: 0 for the first collector, which also takes what is not telemetry.
        shared: The group of the shared subscription, or empty for a collector that takes all telemetry alone.
    """
    tele = shared_filter(shared, Leaf.TELE) if shared else fleet_filter(Leaf.TELE)
    alone = (Leaf.STATUS, Leaf.BIRTH, Leaf.REPORTED, Leaf.EVENT) if index == 0 else ()
    return (tele, *(fleet_filter(leaf) for leaf in alone))


def collector_command(
    store: Path, broker: BrokerAddress, *, index: int, shared: str, fleet: str = "fleet"
) -> tuple[str, ...]:
    """Return the command line that starts a collector; ``fleet`` keeps two fleets on one broker apart."""
    return (
        sys.executable,
        "-m",
        "edgepe.fleet.collector",
        *("--store", str(store), "--broker", broker.url, "--index", str(index), "--shared", shared, "--fleet", fleet),
    )


class Collector:
    """Moves messages from a link to a store.

    Args:
        link: With a persistent session.
        store: Where they are committed.
    """

    def __init__(self, link: Link, store: Store) -> None:
        self._link = link
        self._store = store

    def step(self, timeout_s: float) -> int:
        """Wait for messages, commit and acknowledge what came; return how many."""
        deliveries = self._link.poll(timeout_s, most=MOST_IN_A_BATCH)
        if deliveries:
            now_ms = time.time_ns() // 1_000_000
            self._store.ingest([read_arrival(one.topic, one.payload, now_ms=now_ms) for one in deliveries])
            self._link.acknowledge(deliveries)
        return len(deliveries)

    def run(self, until: Callable[[], bool]) -> None:
        """Collect until told to stop, then say goodbye to the broker; the session stays."""
        while not until():
            self.step(IDLE_POLL_S)
        self._link.close()


def main(args: Sequence[str] | None = None) -> int:
    """Run one collector until its standard input closes or it is asked to end."""
    parser = argparse.ArgumentParser(prog="python -m edgepe.fleet.collector", description=__doc__.split("\n")[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--shared", default="")
    parser.add_argument("--fleet", default="fleet")
    options = parser.parse_args(args)
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the parent, which then stops us
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_watch_parent, args=(stop,), daemon=True).start()
    try:
        store = SqliteStore(options.store)
        link = Link(
            BrokerAddress.parse(options.broker),
            client_id=f"edgepe-{options.fleet}-collector-{options.index}",
            subscriptions=collector_filters(options.index, shared=options.shared),
            session_expiry_s=SESSION_EXPIRY_S,
        )
        Collector(link, store).run(stop.is_set)
        store.close()
    except EdgepeError as error:
        sys.stderr.write(f"collector {options.index}: {error}\n")
        return error.exit_code
    return 0


def _watch_parent(stop: threading.Event) -> None:
    # Straight from the descriptor: a thread inside sys.stdin's lock would abort the interpreter's own end.
    while os.read(0, IGNORED_BYTES):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
