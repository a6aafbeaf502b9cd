"""Bytes become requests, or a refusal; never an exception, never a guess."""

from __future__ import annotations

import itertools
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.serve.http import MAX_HEAD_BYTES, Refusal, Request, RequestParser, error_response

GOOD = b"POST /v2/models/m/infer?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


def parse(data: bytes) -> Request | Refusal | None:
    parser = RequestParser(max_body_bytes=100)
    parser.feed(data)
    return parser.next_request()


def test_a_whole_request_is_cut_out() -> None:
    request = parse(GOOD)
    assert isinstance(request, Request)
    assert (request.method, request.path, request.body) == ("POST", "/v2/models/m/infer", b"hello")
    assert request.headers["host"] == "a"
    assert request.keep_alive


@pytest.mark.parametrize(
    ("head", "keep"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", False, id="close"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n", False, id="close-in-list"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", False, id="1.0"),
        pytest.param(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True, id="1.0-keep-alive"),
        pytest.param(b"\r\n\r\nGET / HTTP/1.1\r\nhOsT:a\r\n\r\n", True, id="leading-empty-lines"),
    ],
)
def test_the_connection_is_kept_as_the_client_wants(head: bytes, *, keep: bool) -> None:
    request = parse(head)
    assert isinstance(request, Request)
    assert request.keep_alive is keep


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"nonsense\r\n\r\n", 400, id="request-line"),
        pytest.param(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="two-spaces"),
        pytest.param(b"GET / HTTP/2\r\nHost: a\r\n\r\n", 505, id="version"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no-host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, id="space-before-colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400, id="folded"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\nb\r\n\r\n", 400, id="bare-newline"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", 400, id="signed-length"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xb2\r\n\r\n", 400, id="superscript-length"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", 400, id="list-of-lengths"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, id="two-lengths"
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", 413, id="too-large"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 501, id="chunked"
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n\r\n", 415, id="gzip"),
        pytest.param(b"GET /" + b"x" * MAX_HEAD_BYTES, 431, id="endless-head"),
    ],
)
def test_what_is_malformed_is_refused(data: bytes, status: int) -> None:
    refusal = parse(data)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status


@given(st.lists(st.integers(0, 3 * len(GOOD)), max_size=8))
def test_how_the_bytes_are_torn_makes_no_difference(cuts: list[int]) -> None:
    data, parser, seen = GOOD * 3, RequestParser(), []
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        parser.feed(data[start:end])
        while (request := parser.next_request()) is not None:
            seen.append(request)
    assert seen == [parse(GOOD)] * 3
    assert parser.idle


@given(st.binary(max_size=300))
def test_no_bytes_make_the_parser_raise(data: bytes) -> None:
    parse(data)
    parse(GOOD[:40] + data)
    parse(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:" + data + b"\r\n\r\n")


def test_continue_is_asked_for_once() -> None:
    parser = RequestParser()
    parser.feed(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n")
    assert parser.next_request() is None
    assert parser.wants_continue()
    assert not parser.wants_continue()


def test_an_error_is_the_protocols_object_with_its_length() -> None:
    response = error_response(HTTPStatus.SERVICE_UNAVAILABLE, "busy", (("Retry-After", "1"),))
    head, _, body = response.encode(connection="close").partition(b"\r\n\r\n")
    assert body == b'{"error": "busy"}'
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 503 Service Unavailable",
        b"Content-Type: application/json",
        b"Content-Length: 17",
        b"Connection: close",
        b"Retry-After: 1",
    ]
