"""Real brokers for tests: the embedded one and mosquitto, each on a free port of loopback."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from edgepe.fleet.broker import LOOPBACK, BrokerAddress, EmbeddedBroker, answers, free_port
from tests.conftest import find_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["BROKERS", "WITHIN_S", "embedded", "mosquitto", "until"]

WITHIN_S = 20.0
BROKERS = ["embedded", pytest.param("mosquitto", marks=pytest.mark.needs("mosquitto"))]
# The queue limit that mosquitto sets by default drops messages without a word.
CONFIGURATION = "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"


def until(question: Callable[[], object]) -> None:
    """Ask until the answer is true; fail the test if it never is."""
    deadline = time.monotonic() + WITHIN_S
    while not question():
        if time.monotonic() > deadline:
            pytest.fail("it did not come true in time")
        time.sleep(0.05)


@contextmanager
def embedded(folder: Path) -> Iterator[BrokerAddress]:
    """Run the embedded broker."""
    broker = EmbeddedBroker(folder)
    broker.start()
    yield broker.address
    broker.stop()


@contextmanager
def mosquitto(folder: Path) -> Iterator[BrokerAddress]:
    """Run mosquitto."""
    address = BrokerAddress(host=LOOPBACK, port=free_port())
    configuration = folder / "mosquitto.conf"
    configuration.write_text(CONFIGURATION.format(port=address.port))
    program = find_program("mosquitto") or pytest.fail("mosquitto is not there")
    with subprocess.Popen([program, "-c", str(configuration)], stderr=subprocess.DEVNULL) as process:
        until(lambda: answers(address))
        yield address
        process.terminate()
