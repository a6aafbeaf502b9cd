"""A real worker process: its control socket, its two listeners, its drain."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from device_agent.wire.control import (
    ControlMessage,
    Drain,
    Drained,
    Failed,
    FrameReader,
    Ready,
    Serve,
    Stats,
    StatsRequest,
    Stop,
    encode_frame,
)
from tests.tiny_models import dense, write_slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

X = np.array([[1, 2, 3, 4]], np.float32)
INFER = "/v2/models/dense/infer"


def body_of(x: np.ndarray) -> bytes:
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return json.dumps({"id": "7", "inputs": [tensor]}).encode()


class Supervisor:
    """The other end of a worker: what the agent's supervisor does, no more."""

    def __init__(self, slot: Path, unix_path: Path, *more: str) -> None:
        ours, theirs = socket.socketpair()
        tcp = socket.create_server(("127.0.0.1", 0))
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(unix_path))
        unix.listen()
        self.listeners = (tcp, unix)
        self.port = tcp.getsockname()[1]
        self.unix_path = unix_path
        fds = (theirs.fileno(), tcp.fileno(), unix.fileno())
        arguments = ["--slot", slot, "--control", fds[0], "--http", fds[1], "--unix", fds[2], *more]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "device_agent.runtime.worker", *map(str, arguments)], pass_fds=fds
        )
        theirs.close()
        ours.settimeout(60)
        self.control = ours
        self._reader = FrameReader()
        self._messages: list[ControlMessage] = []

    def say(self, message: ControlMessage) -> None:
        self.control.sendall(encode_frame(message))

    def hear(self) -> ControlMessage:
        while not self._messages:
            data = self.control.recv(65536)
            assert data, "the worker closed its control socket"
            self._messages += self._reader.feed(data)
        return self._messages.pop(0)

    def serve(self) -> Ready:
        ready = self.hear()
        assert isinstance(ready, Ready), ready
        self.say(Serve())
        return ready

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def connect_unix(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(str(self.unix_path))
        return connection

    def close(self) -> None:
        self.control.close()
        for listener in self.listeners:
            listener.close()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()


@contextmanager
def supervised(slot: Path, tmp_path: Path, *more: str) -> Iterator[Supervisor]:
    supervisor = Supervisor(slot, tmp_path / "s", *more)
    try:
        yield supervisor
    finally:
        supervisor.close()


@pytest.fixture(params=["onnx", "tflite"])
def slot(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_slot(tmp_path / "slot", model_format=request.param)
    return tmp_path / "slot"


@pytest.fixture
def onnx_slot(tmp_path: Path) -> Path:
    write_slot(tmp_path / "slot")
    return tmp_path / "slot"


def post(connection: http.client.HTTPConnection, body: bytes, path: str = INFER) -> tuple[int, dict[str, Any]]:
    connection.request("POST", path, body)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, dict[str, Any]]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_a_worker_serves_its_model_on_both_sockets_and_reports_it(slot: Path, tmp_path: Path) -> None:
    with supervised(slot, tmp_path) as supervisor:
        ready = supervisor.serve()
        assert ready.pid == supervisor.process.pid
        assert ready.rss_bytes > 0
        for connection in (supervisor.connect(), supervisor.connect_unix()):
            assert get(connection, "/v2/health/ready") == (200, {"ready": True})
            status, answer = post(connection, body_of(X))
            assert status == 200
            assert (answer["model_name"], answer["model_version"], answer["id"]) == ("dense", "1", "7")
            assert answer["parameters"] == {"label": ("sit", "walk", "run")[int(dense(X).argmax())]}
            (output,) = answer["outputs"]
            assert (output["name"], output["datatype"], output["shape"]) == ("y", "FP32", [1, 3])
            assert np.allclose(output["data"], dense(X)[0])
            connection.close()
        supervisor.say(StatsRequest())
        stats = supervisor.hear()
        assert isinstance(stats, Stats)
        assert (stats.inferences, stats.errors, stats.latency.count) == (2, 0, 2)
        assert dict(stats.output_counts) == {answer["parameters"]["label"]: 2}
        supervisor.say(StatsRequest())
        again = supervisor.hear()
        assert isinstance(again, Stats)
        assert again.inferences == again.latency.count == 0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"{", "not JSON", id="not-json"),
        pytest.param(b"[]", "not a JSON object", id="not-an-object"),
        pytest.param(b"{}", "no inputs", id="no-inputs"),
        pytest.param(body_of(X[:, :3]), "expected: [-1, 4]", id="shape"),
        pytest.param(body_of(X).replace(b'"x"', b'"z"'), "got: ['z']", id="name"),
        pytest.param(body_of(X).replace(b"FP32", b"FP99"), "unknown datatype", id="datatype"),
        pytest.param(body_of(X).replace(b"FP32", b"INT32"), "is not INT32", id="lossy"),
        pytest.param(body_of(X).replace(b"4.0", b"NaN"), "not JSON", id="nan"),
        pytest.param(body_of(X).replace(b"4.0", b"1e300"), "is not FP32", id="overflow"),
        pytest.param(body_of(X).replace(b"4.0", b"null"), "is not FP32", id="null"),
        pytest.param(body_of(X).replace(b", 4.0", b""), "does not fill", id="short"),
        pytest.param(body_of(X).replace(b"}]}", b'}], "outputs": [{"name": ["q"]}]}'), "does not have", id="outputs"),
    ],
)
def test_a_malformed_request_is_a_400_and_the_worker_serves_on(
    shared_worker: Supervisor, body: bytes, words: str
) -> None:
    connection = shared_worker.connect()
    status, answer = post(connection, body)
    assert status == 400
    assert words in answer["error"]
    assert post(connection, body_of(X))[0] == 200
    connection.close()


@pytest.fixture(scope="module")
def shared_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    folder = tmp_path_factory.mktemp("w")
    write_slot(folder / "slot")
    with supervised(folder / "slot", folder) as supervisor:
        supervisor.serve()
        yield supervisor


def test_a_malformed_request_is_no_error_of_the_model(shared_worker: Supervisor) -> None:
    shared_worker.say(StatsRequest())
    shared_worker.hear()
    connection = shared_worker.connect()
    assert post(connection, b"nonsense")[0] == 400
    assert post(connection, body_of(X))[0] == 200
    connection.close()
    shared_worker.say(StatsRequest())
    stats = shared_worker.hear()
    assert isinstance(stats, Stats)
    assert (stats.inferences, stats.errors) == (1, 0)


def test_what_is_not_there_is_a_404_and_a_wrong_method_a_405(shared_worker: Supervisor) -> None:
    connection = shared_worker.connect()
    assert get(connection, "/v2/models/other")[0] == 404
    assert get(connection, INFER)[0] == 405
    assert post(connection, b"", "/v2/health/live")[0] == 405
    status, metadata = get(connection, "/v2/models/dense/versions/1")
    assert status == 200
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert get(connection, "/v2/models/dense/ready") == (200, {"name": "dense", "ready": True})
    connection.close()


def test_a_batch_has_one_label_a_sample(shared_worker: Supervisor) -> None:
    connection = shared_worker.connect()
    batch = np.concatenate([X, -X])
    status, answer = post(connection, body_of(batch))
    assert status == 200
    labels = [("sit", "walk", "run")[i] for i in dense(batch).argmax(1)]
    assert answer["parameters"] == {"label.0": labels[0], "label.1": labels[1]}
    connection.close()


def test_a_request_torn_into_single_bytes_is_answered(shared_worker: Supervisor) -> None:
    body = body_of(X)
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", shared_worker.port), timeout=30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head + body:
            client.send(bytes([byte]))
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_pipelined_requests_are_answered_in_their_order(shared_worker: Supervisor) -> None:
    body = body_of(X)
    infer = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    health = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /v2/nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", shared_worker.port), timeout=30) as client:
        client.sendall(infer + health + infer + last)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    parts = [part for part in answer.split(b"HTTP/1.1 ") if part]
    assert [part[:3] for part in parts] == [b"200", b"200", b"200", b"404"]
    assert b'"live":true' in parts[1]


def test_a_body_over_the_cap_is_refused_before_it_is_read(shared_worker: Supervisor) -> None:
    with socket.create_connection(("127.0.0.1", shared_worker.port), timeout=30) as client:
        client.sendall(
            f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n".encode() + b"x" * 9000
        )
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_asks_first_is_told_to_continue(shared_worker: Supervisor) -> None:
    body = body_of(X)
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", shared_worker.port), timeout=30) as client:
        client.sendall(head)
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_drain_under_load_loses_no_request_and_no_measurement(onnx_slot: Path, tmp_path: Path) -> None:
    answered = [0, 0, 0, 0]
    failed: list[object] = []
    with supervised(onnx_slot, tmp_path) as supervisor:
        supervisor.serve()
        draining = threading.Event()

        def client(number: int) -> None:
            connection = supervisor.connect() if number % 2 else supervisor.connect_unix()
            while True:
                try:
                    status, _ = post(connection, body_of(X))
                except (OSError, http.client.HTTPException) as error:
                    failed.append(error)
                    return
                answered[number] += 1
                if status != 200:
                    failed.append(status)
                if connection.sock is None:  # the server said Connection: close; it must be draining
                    assert draining.is_set()
                    return
                time.sleep(0.002)

        clients = [threading.Thread(target=client, args=(n,)) for n in range(4)]
        for thread in clients:
            thread.start()
        time.sleep(0.3)
        draining.set()
        supervisor.say(Drain())
        stats = supervisor.hear()
        assert isinstance(supervisor.hear(), Drained)
        for thread in clients:
            thread.join(30)
        assert supervisor.process.wait(20) == 0
    assert not failed
    assert min(answered) > 0
    assert isinstance(stats, Stats)
    assert stats.inferences == stats.latency.count == sum(answered)


def test_a_switch_leaves_no_gap_for_new_connections(tmp_path: Path, onnx_slot: Path) -> None:
    """The new worker accepts on the same socket before the old one drains."""
    with supervised(onnx_slot, tmp_path) as old:
        old.serve()
        ours, theirs = socket.socketpair()
        fds = (theirs.fileno(), old.listeners[0].fileno())
        command = [sys.executable, "-m", "device_agent.runtime.worker", "--slot", onnx_slot]
        new = subprocess.Popen([*map(str, [*command, "--control", fds[0], "--http", fds[1]])], pass_fds=fds)
        theirs.close()
        ours.settimeout(60)
        (ready,) = FrameReader().feed(ours.recv(65536))
        assert isinstance(ready, Ready)
        ours.sendall(encode_frame(Serve()))
        old.say(Drain())
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            connection = old.connect()
            assert post(connection, body_of(X))[0] == 200
            connection.close()
        ours.close()
        assert new.wait(20) == 0


def test_a_recording_is_replayed_through_the_same_model(onnx_slot: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", x=np.concatenate([X, -X, X]))
    source = json.dumps({"file": str(tmp_path / "r.npz"), "rate_hz": 500, "loop": False})
    with supervised(onnx_slot, tmp_path, "--source", source) as supervisor:
        supervisor.serve()
        seen = 0
        until = time.monotonic() + 30
        while seen < 3 and time.monotonic() < until:
            supervisor.say(StatsRequest())
            stats = supervisor.hear()
            assert isinstance(stats, Stats)
            seen += stats.inferences
        assert seen == 3


@pytest.mark.parametrize(
    ("breaking", "code"),
    [
        pytest.param(lambda s: (s / "model.onnx").write_bytes(b"junk"), "digest_mismatch", id="corrupt"),
        pytest.param(lambda s: (s / "manifest.json").write_bytes(b"{}"), "bad_manifest", id="manifest"),
        pytest.param(lambda s: (s / "manifest.json").unlink(), "model_refused", id="absent"),
    ],
)
def test_a_broken_slot_is_reported_as_failed(
    onnx_slot: Path, tmp_path: Path, breaking: Callable[[Path], object], code: str
) -> None:
    breaking(onnx_slot)
    with supervised(onnx_slot, tmp_path) as supervisor:
        failed = supervisor.hear()
        assert isinstance(failed, Failed)
        assert failed.code == code
        assert supervisor.process.wait(20) == 1


def test_a_recording_that_does_not_fit_is_refused_before_ready(onnx_slot: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", x=np.zeros((5, 7), np.float32))
    with supervised(onnx_slot, tmp_path, "--source", json.dumps({"file": str(tmp_path / "r.npz")})) as supervisor:
        failed = supervisor.hear()
        assert isinstance(failed, Failed)
        assert "expected: [-1, 4]" in failed.detail


@pytest.mark.parametrize("message", [Stop(), None], ids=["stop", "supervisor-gone"])
def test_a_worker_ends_when_told_or_when_its_supervisor_is_gone(
    onnx_slot: Path, tmp_path: Path, message: Stop | None
) -> None:
    with supervised(onnx_slot, tmp_path) as supervisor:
        supervisor.serve()
        if message:
            supervisor.say(message)
        else:
            supervisor.control.close()
        assert supervisor.process.wait(20) == 0
        with pytest.raises(ProcessLookupError):
            os.kill(supervisor.process.pid, 0)
