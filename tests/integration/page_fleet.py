"""Devices that speak the real protocol to a real broker: what the page's tests look at."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from device_agent.wire.histogram import LogHistogram
from device_agent.wire.messages import (
    ActiveModel,
    Birth,
    Event,
    Hardware,
    Message,
    ModelTelemetry,
    Reported,
    ReportedModel,
    State,
    Status,
    Telemetry,
    encode,
)
from device_agent.wire.topics import Leaf, Topics
from edgepe.bundle import write_bundle
from edgepe.fleet.shapes import TOKEN_HEADER
from tests.tiny_models import write_slot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edgepe.fleet.up import Fleet

__all__ = ["MODEL", "Teller", "connected", "now_ms", "publish", "start_rollout"]

MODEL = "watch"
SITE = "plant"
BOOT = 1
DIGEST = "0" * 64
RETAINED = (Leaf.STATUS, Leaf.BIRTH, Leaf.REPORTED)


def now_ms() -> int:
    """Return milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@contextmanager
def connected(broker_url: str) -> Iterator[paho.Client]:
    """Yield a connection that any number of tellers share."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect("127.0.0.1", urlsplit(broker_url).port or 0)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def publish(fleet: Fleet, folder: Path, *, version: str, targets: tuple[str, ...]) -> None:
    """Publish a real bundle of the model for each target."""
    manifest = write_slot(folder / "slot")
    files = {file.name: (folder / "slot" / file.name).read_bytes() for file in manifest.files}
    for target in targets:
        path = folder / f"{MODEL}-{version}-{target}.edge"
        write_bundle(path, replace(manifest, name=MODEL, version=version, target=target), files)
        fleet.repository.publish(path)


def start_rollout(fleet: Fleet, *, version: str, waves: str) -> None:
    """Ask the fleet's API for a roll-out."""
    answer = httpx.post(
        f"{fleet.page_url}api/rollouts",
        json={"name": MODEL, "version": version, "waves": waves},
        headers={TOKEN_HEADER: fleet.address.token},
    )
    answer.raise_for_status()


@dataclass(kw_only=True)
class Teller:
    """Speaks for one device, message by message, as its agent would."""

    client: paho.Client
    device: str
    target: str = "raspberry-pi-5"
    hardware: str = "Raspberry Pi 5 Model B Rev 1.0"
    version: str = "1"
    rev: int = 1
    _seq: int = field(default=0)
    _events: int = field(default=0)

    def connect(self) -> None:
        """Send status and birth."""
        hardware = Hardware(
            machine="aarch64", model=self.hardware, cores=4, ram_bytes=8 << 30, isa=("asimd", "asimddp", "fphp")
        )
        birth = Birth(
            device=self.device,
            site=SITE,
            boot=BOOT,
            session="s1",
            agent_version="0.1.0",
            target=self.target,
            hardware=hardware,
            runtimes=(("onnxruntime", "1.31.1"),),
            models=(self._active(),),
            rev=self.rev,
            previous_boot=None,
            previous_seq=None,
            time_ms=now_ms(),
        )
        self._send((Leaf.STATUS, Status(online=True, boot=BOOT, session="s1")), (Leaf.BIRTH, birth))

    def disconnect(self) -> None:
        """Send the will."""
        self._send((Leaf.STATUS, Status(online=False, boot=BOOT, session="s1")))

    def report(self, state: State, *, percent: int = 0, code: str = "", detail: str = "") -> None:
        """Send where the update of the model stands."""
        model = ReportedModel(
            name=MODEL,
            rev=self.rev,
            state=state,
            attempt=1,
            percent=percent,
            code=code,
            detail=detail,
            active=self._active(),
        )
        reported = Reported(device=self.device, boot=BOOT, rev=self.rev, models=(model,), time_ms=now_ms())
        self._send((Leaf.REPORTED, reported))

    def measure(self, latencies_us: Sequence[float], *, rss_bytes: int, start_ms: int, seconds: int = 10) -> None:
        """Send one batch of telemetry with the latency of each inference."""
        latency = LogHistogram()
        latency.add_many(round(us * 1000) for us in latencies_us)
        model = ModelTelemetry(
            name=MODEL,
            version=self.version,
            inferences=len(latencies_us),
            errors=0,
            rss_bytes=rss_bytes,
            latency=latency,
        )
        self._seq += 1
        batch = Telemetry(
            device=self.device,
            boot=BOOT,
            seq=self._seq,
            start_ms=start_ms,
            duration_ms=seconds * 1000,
            rss_bytes=22 << 20,
            cpu_percent_x100=310,
            temperature_mc=51_200,
            dropped=0,
            models=(model,),
        )
        self._send((Leaf.TELE, batch))

    def tell(self, kind: str, *, code: str, detail: str) -> None:
        """Send an event."""
        self._events += 1
        event = Event(
            device=self.device,
            boot=BOOT,
            number=self._events,
            time_ms=now_ms(),
            kind=kind,
            model=MODEL,
            code=code,
            detail=detail,
        )
        self._send((Leaf.EVENT, event))

    def _active(self) -> ActiveModel:
        return ActiveModel(name=MODEL, version=self.version, sha256=DIGEST, target=self.target)

    def _send(self, *messages: tuple[Leaf, Message]) -> None:
        topics = Topics(site=SITE, device=self.device)
        for leaf, message in messages:
            topic = getattr(topics, leaf.value)
            self.client.publish(topic, encode(message), qos=1, retain=leaf in RETAINED).wait_for_publish(10)
