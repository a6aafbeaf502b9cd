"""The sockets that an agent serves on: opened once by the supervisor, inherited by each worker.

Rules kept here:
1. A listener outlives every worker: while models change, connections wait in its queue.
2. An address that somebody else holds is an error that names it; a Unix socket that nobody answers is replaced.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from device_agent.errors import AgentError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Listeners", "open_listeners"]

_BACKLOG = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """What is open: a TCP socket, a Unix socket, or none."""

    http: socket.socket | None = None
    unix: socket.socket | None = None
    unix_path: Path | None = None

    @property
    def address(self) -> str:
        """Return ``host:port`` of the TCP socket, or an empty text."""
        if self.http is None:
            return ""
        host, port = self.http.getsockname()[:2]
        return f"{host}:{port}"

    def close(self) -> None:
        """Close both, and remove the Unix socket's name."""
        for listener in (self.http, self.unix):
            if listener:
                listener.close()
        if self.unix_path:
            self.unix_path.unlink(missing_ok=True)


def open_listeners(http: tuple[str, int] | None, unix: Path | None) -> Listeners:
    """Open what is configured.

    Raises:
        AgentError: An address is in use or not ours.
    """
    tcp = None
    try:
        tcp = _listen_tcp(*http) if http else None
        return Listeners(http=tcp, unix=_listen_unix(unix) if unix else None, unix_path=unix)
    except OSError as error:
        if tcp:
            tcp.close()
        raise AgentError(
            "The address to serve on cannot be had.",
            code="port_in_use",
            expected="a free address",
            got=f"{http or unix}: {error.strerror or error}",
            next_step="Change [serve] of agent.toml, or end the program that holds it.",
        ) from error


def _listen_tcp(host: str, port: int) -> socket.socket:
    """Open a listening TCP socket that a worker can inherit."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(found[0], socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[4])
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_unix(path: Path) -> socket.socket:
    """Open a listening Unix socket; one that nobody answers any more is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX) as knock, contextlib.suppress(ConnectionRefusedError):
                knock.connect(str(path))
                raise FileExistsError(f"{path} is in use")
            path.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
