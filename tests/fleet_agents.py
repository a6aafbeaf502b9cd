"""Simulated agents: small MQTT clients that speak the real protocol over real connections.

They serve no model. What they do with a desired document is what an agent does as seen from outside: check the
signature, fetch the bundle, check its digest, report each state. :class:`Manner` says how the update ends.
"""

from __future__ import annotations

import threading
import urllib.request
from enum import Enum
from typing import TYPE_CHECKING, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from device_agent.errors import TrustError
from device_agent.update.trust import verify
from device_agent.wire.canonical import digest
from device_agent.wire.histogram import LogHistogram
from device_agent.wire.manifest import Golden, Manifest, RuntimeFloor
from device_agent.wire.messages import (
    ActiveModel,
    Birth,
    DesiredModel,
    Hardware,
    ModelTelemetry,
    Reported,
    ReportedModel,
    State,
    Status,
    Telemetry,
    decode_signed_desired,
    encode,
)
from device_agent.wire.topics import Topics
from edgepe.bundle import write_bundle
from edgepe.bundle.pack import file_entries

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from edgepe.fleet.broker import BrokerAddress

SITE = "lab"
WAIT_S = 10.0


class Manner(Enum):
    """How a simulated agent takes an update."""

    OBEDIENT = "commits"
    FRAIL = "rolls back whatever is not its first version"
    SILENT = "never answers"


def make_bundle(folder: Path, *, name: str, version: str, target: str, weights: bytes = b"weights") -> Path:
    """Write a small bundle; its model file is no model, for nobody here runs it."""
    files = {"model.onnx": weights, "golden.npz": b"golden"}
    manifest = Manifest(
        name=name,
        version=version,
        target=target,
        format="onnx",
        precision="int8",
        model="model.onnx",
        files=file_entries(files),
        inputs=(),
        outputs=(),
        runtime=RuntimeFloor(name="onnxruntime", version="1.20"),
        golden=Golden(file="golden.npz", count=1, atol=0.0, rtol=0.0, min_agree=1.0),
    )
    return write_bundle(folder / f"{name}-{version}-{target}.edge", manifest, files).path


def telemetry(
    device: str, seq: int, *, boot: int = 1, latencies_ns: Iterable[int] = (), version: str = "1", dropped: int = 0
) -> Telemetry:
    """Return one batch of the model ``har``."""
    histogram = LogHistogram()
    histogram.add_many(latencies_ns)
    model = ModelTelemetry(
        name="har", version=version, inferences=histogram.count, errors=0, rss_bytes=50_000_000, latency=histogram
    )
    return Telemetry(
        device=device,
        boot=boot,
        seq=seq,
        start_ms=1_000_000 + 1000 * seq,
        duration_ms=1000,
        rss_bytes=20_000_000,
        cpu_percent_x100=100,
        temperature_mc=45_000,
        dropped=dropped,
        models=(model,),
    )


def birth(device: str, *, target: str = "generic-x86-64", boot: int = 1, previous_seq: int | None = None) -> Birth:
    """Return the birth of a device that serves nothing."""
    return Birth(
        device=device,
        site=SITE,
        boot=boot,
        session=f"{device}-{boot}",
        agent_version="0.1.0",
        target=target,
        hardware=Hardware(machine="x86_64", model="simulated", cores=2, ram_bytes=2**30),
        runtimes=(("onnxruntime", "1.31.1"),),
        models=(),
        rev=0,
        previous_boot=None if previous_seq is None else boot - 1,
        previous_seq=previous_seq,
        time_ms=1_000_000,
    )


class SimulatedAgent:
    """One device on one connection.

    Args:
        address: The broker.
        device: Its name.
        target: Its board.
        repository: URL to fetch bundles from.
        key: The trusted public key, hexadecimal.
        manner: How it takes updates.
    """

    def __init__(
        self,
        address: BrokerAddress,
        device: str,
        *,
        target: str = "generic-x86-64",
        repository: str = "",
        key: str = "",
        manner: Manner = Manner.OBEDIENT,
    ) -> None:
        self.device, self.target, self.manner = device, target, manner
        self.active: ActiveModel | None = None
        self.revisions: list[int] = []
        self._repository, self._key = repository, key
        self._address = address
        self._topics = Topics(site=SITE, device=device)
        self._up = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=device, protocol=paho.MQTTv5)
        self._client.will_set(self._topics.status, encode(self._status(online=False)), qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        self._client.connect(self._address.host, self._address.port)
        self._client.loop_start()
        if not self._up.wait(WAIT_S):
            raise TimeoutError(self.device)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.publish(self._topics.status, encode(self._status(online=False)), qos=1, retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, message: Telemetry) -> None:
        """Publish one batch and wait until the broker has it."""
        self.send_raw("tele", encode(message))

    def send_raw(self, leaf: str, payload: bytes) -> None:
        """Publish any bytes on a topic of this device and wait until the broker has them."""
        topic = f"ep1/{SITE}/{self.device}/{leaf}"
        self._client.publish(topic, payload, qos=1).wait_for_publish(WAIT_S)

    def connected(self) -> bool:
        """Return whether the broker has this device."""
        return self._client.is_connected()

    def drop(self) -> None:
        """Lose the connection without a goodbye, so that the will speaks."""
        self._client.loop_stop()
        self._client._sock_close()

    def _status(self, *, online: bool) -> Status:
        return Status(online=online, boot=1, session=f"{self.device}-1")

    def _on_connect(self, client: paho.Client, *_: object) -> None:
        client.subscribe(self._topics.desired, qos=1)
        client.publish(self._topics.status, encode(self._status(online=True)), qos=1, retain=True)
        client.publish(self._topics.birth, encode(birth(self.device, target=self.target)), qos=1, retain=True)
        self._up.set()

    def _on_message(self, _client: paho.Client, _user: object, message: paho.MQTTMessage) -> None:
        document = decode_signed_desired(bytes(message.payload))
        desired = document.desired
        if desired.rev <= max(self.revisions, default=0) or self.manner is Manner.SILENT:
            return
        self.revisions.append(desired.rev)
        try:
            verify(document, (self._key,))
        except TrustError:
            return
        for model in desired.models:
            self._update(desired.rev, model)

    def _update(self, rev: int, model: DesiredModel) -> None:
        before = self.active
        if before is not None and before.sha256 == model.sha256:
            self._report(rev, State.COMMITTED)
            return
        self._report(rev, State.DOWNLOADING)
        with urllib.request.urlopen(f"{self._repository}/{model.path}", timeout=WAIT_S) as answer:  # noqa: S310 - ours
            content = answer.read()
        if digest(content) != model.sha256:
            self._report(rev, State.REJECTED, "digest_mismatch")
            return
        self._report(rev, State.PROBING)
        if self.manner is Manner.FRAIL and before is not None:
            self._report(rev, State.ROLLED_BACK, "golden_mismatch")
            return
        self.active = ActiveModel(name=model.name, version=model.version, sha256=model.sha256, target=self.target)
        self._report(rev, State.COMMITTED)

    def _report(self, rev: int, state: State, code: str = "") -> None:
        model = ReportedModel(name="har", rev=rev, state=state, attempt=1, code=code, active=self.active)
        reported = Reported(device=self.device, boot=1, rev=rev, models=(model,), time_ms=1_000_000)
        self._client.publish(self._topics.reported, encode(reported), qos=1, retain=True)
