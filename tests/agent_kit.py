"""Real parts around a real agent: bundles of a tiny model, a repository with faults, a fleet's end of the broker."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from device_agent.wire.canonical import digest
from device_agent.wire.messages import (
    Desired,
    DesiredModel,
    Gate,
    Signature,
    SignedDesired,
    decode_reported,
    encode,
)
from device_agent.wire.topics import Topics
from edgepe.bundle.pack import pack
from edgepe.fleet.broker import EmbeddedBroker
from tests.tiny_models import BIAS, write_slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from device_agent.wire.messages import Reported, ReportedModel

MODEL = "dense"
TARGET = "generic-x86-64"
PATIENCE_S = 40.0


def wait_for(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE_S) -> None:
    """Wait until a condition holds; a test never asserts how long it took."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.02)


def bundle_bytes(folder: Path, *, version: str = "1", bias: NDArray[np.float32] = BIAS, target: str = TARGET) -> bytes:
    """Return a bundle of the dense model; a bias of one's own does not fit its golden vectors."""
    manifest = replace(write_slot(folder, bias=bias), version=version, target=target)
    return pack(manifest, {entry.name: (folder / entry.name).read_bytes() for entry in manifest.files})


class FaultyRepository:
    """A web server over a dict, with Range, ETag and the faults of the road.

    Attributes:
        files: Path → bytes.
        cut_every: Close the connection after so many bytes of a body; 0 never.
        ignore_range: Answer 200 to a Range.
        etags: Paths whose ETag changes at each answer.
        requests: (path, Range) as they came.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut_every = 0
        self.ignore_range = False
        self.restless = False
        self.stall = threading.Event()
        self.requests: list[tuple[str, str]] = []
        self.stalled = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/repository"

    def close(self) -> None:
        self.stall.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range", "")
        self.requests.append((request.path, asked))
        data = self.files.get(request.path.removeprefix("/repository/"))
        request.close_connection = True
        if data is None:
            request.send_error(404)
            return
        etag = f'"{digest(data)[:16]}{len(self.requests) if self.restless else ""}"'
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        partial = bool(asked) and not self.ignore_range and request.headers.get("If-Range") == etag
        body = data[start:] if partial else data
        request.send_response(206 if partial else 200)
        if partial:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(body)))
        request.send_header("ETag", etag)
        request.end_headers()
        request.wfile.write(body[: self.cut_every] if self.cut_every else body)
        request.wfile.flush()
        if self.stalled:
            self.stall.wait(PATIENCE_S)


class FleetEnd:
    """The fleet's side of the broker: hears everything, signs what it wants."""

    def __init__(self, host: str, port: int) -> None:
        self.heard: dict[str, list[bytes]] = {}
        self.key = Ed25519PrivateKey.generate()
        self.public = self.key.public_key().public_bytes_raw()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="fleet-end", protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_message = self._hear
        self._client.on_connect = lambda client, *_: client.subscribe("ep1/#", qos=1)
        self._client.connect(host, port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _hear(self, _client: Client, _user: object, message: MQTTMessage) -> None:
        self.heard.setdefault(message.topic, []).append(bytes(message.payload))

    def messages(self, topic: str) -> list[bytes]:
        return list(self.heard.get(topic, ()))

    def sign(self, desired: Desired) -> bytes:
        unsigned = SignedDesired.of(desired)
        signature = Signature(keyid=digest(self.public), sig=self.key.sign(unsigned.payload).hex())
        return encode(replace(unsigned, signatures=(signature,)))

    def want(self, topics: Topics, payload: bytes) -> None:
        self._client.publish(topics.desired, payload, qos=1, retain=True).wait_for_publish(5)

    def reported(self, topics: Topics) -> Reported | None:
        found = self.messages(topics.reported)
        return decode_reported(found[-1]) if found else None

    def model(self, topics: Topics) -> ReportedModel | None:
        reported = self.reported(topics)
        return reported.models[0] if reported and reported.models else None


def desired_for(
    data: bytes, *, rev: int, version: str, device: str = "pi-1", gate: Gate | None = None, lasts_ms: int = 600_000
) -> Desired:
    """Return the document that asks for a bundle."""
    path = f"targets/{MODEL}/{version}/{TARGET}.edge"
    model = DesiredModel(name=MODEL, version=version, path=path, sha256=digest(data), length=len(data))
    expires_ms = time.time_ns() // 1_000_000 + lasts_ms
    return Desired(rev=rev, device=device, expires_ms=expires_ms, models=(model,), gate=gate or Gate())


class AgentHome:
    """One agent's folder, and its process."""

    def __init__(self, folder: Path, *, device: str = "pi-1") -> None:
        self.folder = folder
        self.topics = Topics(site="lab", device=device)
        self.config = folder / "agent.toml"
        self.state = folder / "state"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def configure(self, **tables: dict[str, object]) -> None:
        rows = [f'device = "{self.topics.device}"', 'site = "lab"', 'state = "state"', f'target = "{TARGET}"']
        for name, values in tables.items():
            rows.append(f"[{name}]")
            rows += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        self.config.write_text("\n".join(rows) + "\n")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "device_agent", *arguments, "--config", str(self.config)]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)

    def install(self, data: bytes) -> subprocess.CompletedProcess[str]:
        bundle = self.folder / "given.edge"
        bundle.write_bytes(data)
        return self.command("install", str(bundle), "--json")

    def status(self) -> dict[str, object]:
        return dict(json.loads(self.command("status", "--json").stdout))

    def http(self) -> str:
        """Return ``host:port`` that the running agent serves on."""
        path = self.state / "run.json"
        wait_for(path.exists, "the agent to start")
        return str(json.loads(path.read_text())["http"])

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "agent.log").open("ab") as log:
            line = [sys.executable, "-m", "device_agent", "run", "--config", str(self.config)]
            self.process = subprocess.Popen(line, stderr=log)
        return self.process

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        process = self.start()
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A broker, the fleet's end of it, a repository, and one agent with version 1 installed."""

    broker: EmbeddedBroker
    fleet: FleetEnd
    repository: FaultyRepository
    home: AgentHome


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Set the stage: everything real, everything on loopback, everything gone afterwards."""
    (folder / "broker").mkdir()
    broker = EmbeddedBroker(folder / "broker")
    broker.start()
    fleet, repository = FleetEnd(broker.address.host, broker.address.port), FaultyRepository()
    try:
        home = AgentHome(folder / "agent")
        recording = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
        np.save(home.folder / "recording.npy", recording)
        home.configure(
            mqtt={"url": f"mqtt://{broker.address.host}:{broker.address.port}", "max_backoff_s": 0.5},
            repository={"url": repository.url},
            trust={"keys": [fleet.public.hex()]},
            serve={"http": "127.0.0.1:0"},
            telemetry={"interval_s": 0.5},
            update={"soak_s": 0.5, "probe_runs": 5},
            source={"file": "recording.npy", "rate_hz": 50},
        )
        installed = home.install(bundle_bytes(folder / "one"))
        assert installed.returncode == 0, installed.stderr
        yield Stage(broker=broker, fleet=fleet, repository=repository, home=home)
    finally:
        repository.close()
        fleet.close()
        broker.stop()
