"""Connections: one thread that reads, one that runs the model; sockets come from outside.

Rules kept here:
1. A connection has one owner at a time: the I/O thread while it is armed in epoll (one-shot), else whoever took its
   event or its request off the queue. Only the owner touches it.
2. The model's thread is never blocked by a client: what a socket does not take at once is left to the I/O thread.
3. At most ``MAX_WAITING`` requests wait for the model; one more is answered 503 with Retry-After at once.
4. Draining loses no request: nothing more is accepted, each answer says ``Connection: close``, a connection that stays
   silent for the grace time is closed, the rest ends when its answer is out.
5. A server-side close sends FIN, then reads until the client's: closing with bytes unread would reset the
   connection and could destroy the answer on its way.
"""

from __future__ import annotations

import logging
import queue
import select
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from device_agent.serve.http import Refusal, RequestParser, error_response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from device_agent.serve.http import Request, Response

__all__ = ["Application", "HttpServer"]

LOG = logging.getLogger(__name__)

MAX_CONNECTIONS = 256
MAX_WAITING = 16
READ_BYTES = 256 * 1024
TICK_S = 0.25
REQUEST_TIMEOUT_S = 30.0
IDLE_TIMEOUT_S = 300.0
LINGER_S = 2.0

READ = select.EPOLLIN | select.EPOLLONESHOT
WRITE = select.EPOLLOUT | select.EPOLLONESHOT
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BUSY = error_response(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests wait for the model", (("Retry-After", "1"),))


class Application(Protocol):
    """What answers requests."""

    def answer_now(self, request: Request) -> Response | None:
        """Answer what needs no model at once; ``None`` where the model is needed. Must not block."""

    def answer(self, request: Request) -> Response:
        """Answer with the model; called from one thread."""


@dataclass(slots=True, eq=False)
class Connection:
    """One client: its socket, its unparsed and its unsent bytes.

    Attributes:
        since: When silence, a request, an answer or the wait for the client's FIN began; monotonic seconds.
    """

    socket: socket.socket
    since: float
    parser: RequestParser = field(default_factory=RequestParser)
    unsent: bytearray = field(default_factory=bytearray)
    owned_by_io: bool = True
    ending: bool = False
    fin_sent: bool = False

    def deadline(self, drain_grace_s: float | None) -> float:
        """Return when the I/O thread may give it up."""
        if self.fin_sent:
            return self.since + LINGER_S
        if self.unsent or not self.parser.idle:
            return self.since + REQUEST_TIMEOUT_S
        return self.since + (IDLE_TIMEOUT_S if drain_grace_s is None else drain_grace_s)


class HttpServer:
    """Serves an application on listening sockets until drained.

    Args:
        listeners: Listening TCP or Unix sockets; they are made non-blocking and closed at the end.
        application: What answers.
    """

    def __init__(self, listeners: Sequence[socket.socket], application: Application) -> None:
        self._application = application
        self._epoll = select.epoll()
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._connections: dict[int, Connection] = {}
        self._ownership = threading.Lock()
        self._jobs: queue.Queue[tuple[Connection, Request] | None] = queue.Queue()
        self._drain_grace_s: float | None = None
        self._over = False
        self._threads = [
            threading.Thread(target=self._io_loop, name="http-io", daemon=True),
            threading.Thread(target=self._run_loop, name="http-run", daemon=True),
        ]

    def start(self) -> None:
        """Begin to accept."""
        for fd, listener in self._listeners.items():
            listener.setblocking(False)
            self._epoll.register(fd, select.EPOLLIN)
        for thread in self._threads:
            thread.start()

    def drain(self, *, grace_s: float, timeout_s: float) -> int:
        """Stop accepting, answer what is there, close (rule 4).

        Args:
            grace_s: How long a silent connection may still send a request.
            timeout_s: After this the rest is cut off.

        Returns:
            How many connections had to be cut off.
        """
        self._drain_grace_s = grace_s
        io, run = self._threads
        deadline = time.monotonic() + timeout_s
        io.join(timeout_s)
        self._over = True
        io.join()
        self._stop_listening()
        cut_off = len(self._connections)
        self._jobs.put(None)
        run.join(max(TICK_S, deadline - time.monotonic()))
        if not run.is_alive():  # else it owns a connection still; both end with the process
            for connection in list(self._connections.values()):
                self._close(connection)
            self._epoll.close()
        return cut_off

    # --- the I/O thread ---

    def _io_loop(self) -> None:
        while not self._over and (self._drain_grace_s is None or self._connections or self._listeners):
            if self._drain_grace_s is not None:
                self._stop_listening()
            for fd, _ in self._epoll.poll(TICK_S):
                if fd in self._listeners:
                    self._accept(self._listeners[fd])
                elif fd in self._connections:
                    self._ready(self._connections[fd])
            self._sweep(time.monotonic())

    def _stop_listening(self) -> None:
        for fd, listener in self._listeners.items():
            self._epoll.unregister(fd)
            listener.close()
        self._listeners.clear()

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # another worker was faster, or the client has left: both are ordinary
            return
        client.setblocking(False)
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(client, time.monotonic())
        self._connections[client.fileno()] = connection
        self._epoll.register(client.fileno(), READ)
        if len(self._connections) > MAX_CONNECTIONS:
            self._say(connection, BUSY, keep_alive=False)
            self._hand_to_io(connection)

    def _ready(self, connection: Connection) -> None:
        with self._ownership:
            connection.owned_by_io = False
        if connection.unsent:
            self._flush(connection)
        elif not self._read(connection):
            self._close(connection)
            return
        self._advance(connection)

    def _read(self, connection: Connection) -> bool:
        """Read once; ``False`` where the client has left."""
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if connection.parser.idle:
            connection.since = time.monotonic()
        if not connection.ending:
            connection.parser.feed(data)
        return bool(data)

    def _sweep(self, now: float) -> None:
        for connection in list(self._connections.values()):
            with self._ownership:
                if connection.owned_by_io and now >= connection.deadline(self._drain_grace_s):
                    self._close(connection)

    # --- the owner, whichever thread it is ---

    def _advance(self, connection: Connection) -> None:
        """Answer what is whole; then pass the connection to the model's thread or back to the I/O thread."""
        while not connection.unsent and not connection.ending:
            request = connection.parser.next_request()
            if request is None:
                if connection.parser.wants_continue():
                    self._send(connection, CONTINUE)
                break
            if isinstance(request, Refusal):
                self._say(connection, error_response(request.status, request.reason), keep_alive=False)
                break
            response = self._application.answer_now(request)
            if response is None:
                if self._jobs.qsize() < MAX_WAITING:
                    self._jobs.put((connection, request))
                    return
                response = BUSY
            self._say(connection, response, keep_alive=request.keep_alive)
        self._hand_to_io(connection)

    def _say(self, connection: Connection, response: Response, *, keep_alive: bool) -> None:
        connection.since = time.monotonic()
        connection.ending = not keep_alive or self._drain_grace_s is not None
        self._send(connection, response.encode(connection="close" if connection.ending else "keep-alive"))

    def _send(self, connection: Connection, data: bytes) -> None:
        connection.unsent += data
        self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        try:
            sent = connection.socket.send(connection.unsent)
        except BlockingIOError:
            return
        except OSError:  # the client has left; the next read tells
            connection.ending, sent = True, len(connection.unsent)
        del connection.unsent[:sent]

    def _hand_to_io(self, connection: Connection) -> None:
        if connection.ending and not connection.unsent and not connection.fin_sent:
            connection.fin_sent, connection.since = True, time.monotonic()
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_WR)
        with self._ownership:
            connection.owned_by_io = True
            self._epoll.modify(connection.socket.fileno(), WRITE if connection.unsent else READ)

    def _close(self, connection: Connection) -> None:
        # Out of the table first: the moment the socket is closed its number may belong to another client.
        self._connections.pop(connection.socket.fileno(), None)
        connection.socket.close()

    # --- the model's thread ---

    def _run_loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            connection, request = job
            self._say(connection, self._answer(request), keep_alive=request.keep_alive)
            self._advance(connection)

    def _answer(self, request: Request) -> Response:
        try:
            return self._application.answer(request)
        except Exception:  # a thread's edge: one request's bug must not end the service
            LOG.exception("%s %s failed", request.method, request.path)
            return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the agent's log")
