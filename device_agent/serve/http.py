"""HTTP/1.1 as bytes: requests in, responses out. No sockets here (RFC 9110, RFC 9112).

Rules kept here:
1. Strict: what the RFC calls malformed is refused and the connection closed; nothing is guessed about where a
   request ends.
2. Bounded: a head has 16 KiB, a body what the server allows; both are refused before they are stored.
3. A body comes with Content-Length; chunked bodies are refused with 501, encoded ones with 415.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_BODY_BYTES", "MAX_HEAD_BYTES", "Refusal", "Request", "RequestParser", "Response", "error_response"]

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 32 * 1024 * 1024

END_OF_HEAD = b"\r\n\r\n"
REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])")
OTHER_VERSION = re.compile(r"\S+ \S+ HTTP/\d(\.\d)?")
FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\x00]*?)[ \t]*")
LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A whole request.

    Attributes:
        method: For example ``POST``.
        path: The target without its query.
        headers: By lower-case name.
        body: As sent.
        keep_alive: Whether the client wants the connection kept.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A request that is not answered but refused; the connection ends with it."""

    status: HTTPStatus
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer in JSON."""

    status: HTTPStatus
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self, *, connection: str) -> bytes:
        """Return the bytes to send; ``connection`` is ``keep-alive`` or ``close``."""
        rows = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(self.body)}",
            f"Connection: {connection}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join(rows).encode("ascii") + END_OF_HEAD + self.body


def error_response(status: HTTPStatus, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return an answer of the Open Inference Protocol's error form."""
    return Response(status=status, body=json.dumps({"error": reason}).encode(), headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A parsed head, and how many body bytes follow it."""

    method: str
    path: str
    headers: Mapping[str, str]
    keep_alive: bool
    length: int


@dataclass(slots=True)
class RequestParser:
    """Cuts requests out of one connection's bytes.

    Attributes:
        max_body_bytes: The largest body taken.
    """

    max_body_bytes: int = MAX_BODY_BYTES
    _buffer: bytearray = field(default_factory=bytearray)
    _head: Head | None = None
    _continue_sent: bool = False

    def feed(self, data: bytes) -> None:
        """Take bytes off the wire."""
        self._buffer += data

    @property
    def idle(self) -> bool:
        """Whether no request has begun."""
        return not self._buffer and self._head is None

    def next_request(self) -> Request | Refusal | None:
        """Return the next whole request, why it is refused, or ``None`` while bytes are missing."""
        if self._head is None:
            head = self._next_head()
            if not isinstance(head, Head):
                return head
            self._head = head
        head = self._head
        if len(self._buffer) < head.length:
            return None
        body = bytes(memoryview(self._buffer)[: head.length])
        del self._buffer[: head.length]
        self._head, self._continue_sent = None, False
        return Request(method=head.method, path=head.path, headers=head.headers, body=body, keep_alive=head.keep_alive)

    def wants_continue(self) -> bool:
        """Tell, once per request, whether the client waits for ``100 Continue`` before it sends the body."""
        head = self._head
        if head is None or self._continue_sent or head.headers.get("expect", "").lower() != "100-continue":
            return False
        self._continue_sent = True
        return True

    def _next_head(self) -> Head | Refusal | None:
        while self._buffer.startswith(b"\r\n"):  # RFC 9112, section 2.2: tolerate empty lines before a request
            del self._buffer[:2]
        end = self._buffer.find(END_OF_HEAD, 0, MAX_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD_BYTES:
                return Refusal(
                    status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason=f"the head exceeds {MAX_HEAD_BYTES} bytes"
                )
            return None
        text = bytes(self._buffer[:end]).decode("latin-1")
        del self._buffer[: end + len(END_OF_HEAD)]
        return parse_head(text, self.max_body_bytes)


def parse_head(text: str, max_body_bytes: int) -> Head | Refusal:
    """Parse a head (without its final empty line)."""
    first, *rows = text.split("\r\n")
    line = REQUEST_LINE.fullmatch(first)
    if line is None:
        wrong_version = OTHER_VERSION.fullmatch(first) is not None
        status = HTTPStatus.HTTP_VERSION_NOT_SUPPORTED if wrong_version else HTTPStatus.BAD_REQUEST
        return Refusal(status=status, reason="the request line is not METHOD TARGET HTTP/1.1")
    headers = parse_fields(rows)
    if isinstance(headers, Refusal):
        return headers
    method, target, minor = line.groups()
    refusal = check_headers(headers, max_body_bytes, needs_host=minor == "1")
    if refusal is not None:
        return refusal
    options = {option.strip() for option in headers.get("connection", "").lower().split(",")}
    keep = "close" not in options and (minor == "1" or "keep-alive" in options)
    return Head(
        method=method,
        path=target.partition("?")[0],
        headers=headers,
        keep_alive=keep,
        length=int(headers.get("content-length", "0")),
    )


def parse_fields(rows: list[str]) -> dict[str, str] | Refusal:
    """Parse header fields by lower-case name; repeated ones are joined by commas, as the RFC says."""
    headers: dict[str, str] = {}
    for row in rows:
        match = FIELD.fullmatch(row)
        if match is None:
            return Refusal(status=HTTPStatus.BAD_REQUEST, reason="a header field is malformed")
        name, value = match.group(1).lower(), match.group(2)
        if name == "content-length" and headers.get(name, value) != value:
            return Refusal(status=HTTPStatus.BAD_REQUEST, reason="several Content-Length fields disagree")
        headers[name] = f"{headers[name]}, {value}" if name in headers and name != "content-length" else value
    return headers


def check_headers(headers: Mapping[str, str], max_body_bytes: int, *, needs_host: bool) -> Refusal | None:
    """Refuse what rule 1, 2 and 3 forbid."""
    length = headers.get("content-length", "0")
    rows = (
        ("transfer-encoding" in headers, HTTPStatus.NOT_IMPLEMENTED, "send the body with Content-Length, not chunked"),
        (needs_host and "host" not in headers, HTTPStatus.BAD_REQUEST, "the Host field is missing"),
        (LENGTH.fullmatch(length) is None, HTTPStatus.BAD_REQUEST, "Content-Length is not a number"),
        (
            headers.get("content-encoding", "identity").lower() != "identity",
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "send the body without Content-Encoding",
        ),
    )
    for wrong, status, reason in rows:
        if wrong:
            return Refusal(status=status, reason=reason)
    if int(length) > max_body_bytes:
        reason = f"the body has {length} bytes, {max_body_bytes} are allowed"
        return Refusal(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason=reason)
    return None
