"""The server keeps its rules whatever its clients do."""

from __future__ import annotations

import http.client
import logging
import select
import socket
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from device_agent.serve import server as server_module
from device_agent.serve.http import Request, Response
from device_agent.serve.server import MAX_WAITING, HttpServer

if TYPE_CHECKING:
    from collections.abc import Iterator

BIG = b"x" * (8 * 1024 * 1024)


class Bench:
    """A real server over an application whose model can be held still."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Semaphore(0)
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = listener.getsockname()
        self.server = HttpServer([listener], self)
        self.server.start()
        self.connections: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        self.go.set()
        for connection in self.connections:
            connection.close()
        self.server.drain(grace_s=0.0, timeout_s=20)

    def answer_now(self, request: Request) -> Response | None:
        return Response(status=HTTPStatus.OK, body=b"{}") if request.path == "/now" else None

    def answer(self, request: Request) -> Response:
        self.entered.release()
        self.go.wait(30)
        if request.path == "/fault":
            raise ZeroDivisionError
        return Response(status=HTTPStatus.OK, body=BIG if request.path == "/big" else b"{}")

    def ask(self, path: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.address[0], self.address[1], timeout=30)
        self.connections.append(connection)
        connection.request("GET", path)
        return connection


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_more_requests_than_may_wait_are_told_to_come_back(bench: Bench) -> None:
    bench.go.clear()
    running = bench.ask("/slow")
    bench.entered.acquire()
    asking = {connection.sock: connection for connection in (bench.ask("/slow") for _ in range(MAX_WAITING + 1))}
    (refused,), _, _ = select.select(list(asking), [], [], 30)
    response = asking.pop(refused).getresponse()
    assert response.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert response.headers["Retry-After"] == "1"
    assert bench.ask("/now").getresponse().status == HTTPStatus.OK
    bench.go.set()
    assert {c.getresponse().status for c in [running, *asking.values()]} == {HTTPStatus.OK}


def test_a_fault_in_one_request_leaves_the_others_served(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL):
        connection = bench.ask("/fault")
        assert connection.getresponse().status == HTTPStatus.INTERNAL_SERVER_ERROR
    assert bench.ask("/slow").getresponse().status == HTTPStatus.OK


def test_a_client_that_does_not_read_blocks_nobody_and_loses_nothing(bench: Bench) -> None:
    lazy = bench.ask("/big")
    bench.entered.acquire()
    assert bench.ask("/slow").getresponse().status == HTTPStatus.OK
    assert lazy.getresponse().read() == BIG


def test_a_client_that_leaves_early_is_forgotten(bench: Bench) -> None:
    bench.go.clear()
    leaver = bench.ask("/big")
    bench.entered.acquire()
    leaver.close()
    bench.go.set()
    assert bench.ask("/slow").getresponse().status == HTTPStatus.OK


def test_a_silent_connection_is_closed_after_the_drains_grace(bench: Bench) -> None:
    with socket.create_connection(bench.address, timeout=30) as silent:
        bench.ask("/now").getresponse().read()
        assert bench.server.drain(grace_s=0.0, timeout_s=20) == 0
        assert silent.recv(1) == b""


def test_a_drain_cuts_off_what_does_not_end_and_says_how_much(bench: Bench) -> None:
    bench.go.clear()
    bench.ask("/slow")
    bench.entered.acquire()
    threading.Timer(0.5, bench.go.set).start()
    assert bench.server.drain(grace_s=0.0, timeout_s=0.1) == 1


def test_connections_over_the_cap_are_told_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    kept = [bench.ask("/now"), bench.ask("/now")]
    assert [c.getresponse().status for c in kept] == [HTTPStatus.OK] * 2
    assert bench.ask("/now").getresponse().status == HTTPStatus.SERVICE_UNAVAILABLE


def test_a_request_that_never_ends_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 0.1)
    with socket.create_connection(bench.address, timeout=30) as slow:
        slow.sendall(b"GET /now HT")
        assert slow.recv(1) == b""
