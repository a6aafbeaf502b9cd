"""The HTTP interface: :mod:`edgepe.fleet.shapes` over Starlette. A thin shell around views and controller.

Rules kept here:
1. Reading needs no login on loopback; changing anything needs the fleet's token in ``X-Edgepe-Token`` and a JSON body,
   which no page of another site can send.
2. Every refusal is JSON that explains itself: 400 wrong input, 403 no token, 404 not there, 409 not now.
3. Store and controller work in threads, so that a slow disk never holds up the streams.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec
from anyio.to_thread import run_sync
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from device_agent.wire.errors import ExplainedError
from edgepe.errors import UsageError
from edgepe.fleet.defaults import DEADLINE_S, WAVES
from edgepe.fleet.shapes import TOKEN_HEADER, ErrorJson
from edgepe.fleet.views import MOST_EVENTS, rollout_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from edgepe.fleet.controller import Controller
    from edgepe.fleet.feed import Feed
    from edgepe.fleet.views import Views

__all__ = ["Api", "explain"]

MOST_BODY_BYTES = 64 * 1024
MOST_MINUTES = 24 * 60
MOST_DEADLINE_S = 7 * 24 * 60 * 60
DEFAULT_MINUTES = 15

_T = TypeVar("_T")


class RolloutRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of ``POST /api/rollouts``."""

    name: str
    version: str
    waves: str = WAVES
    deadline_s: int = DEADLINE_S
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The routes under ``/api``.

    Attributes:
        views: Answers reading.
        controller: Starts roll-outs.
        feed: The live stream.
        token: What a caller must know to change anything.
    """

    views: Views
    controller: Controller
    feed: Feed
    token: str

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/api/status", self.status),
            Route("/api/devices", self.devices),
            Route("/api/devices/{device}", self.device),
            Route("/api/models", self.models),
            Route("/api/latency", self.latency),
            Route("/api/rollouts", self.rollouts, methods=["GET"]),
            Route("/api/rollouts", self.start_rollout, methods=["POST"]),
            Route("/api/events", self.events),
            Route("/api/stream", self.stream),
        ]

    async def status(self, _request: Request) -> Response:
        """Answer ``GET /api/status``."""
        return await _answer(self.views.status)

    async def devices(self, _request: Request) -> Response:
        """Answer ``GET /api/devices``."""
        return await _answer(lambda: {"devices": self.views.devices()})

    async def device(self, request: Request) -> Response:
        """Answer ``GET /api/devices/{device}``."""
        name: str = request.path_params["device"]
        try:
            return await _answer(lambda: self.views.device(name))
        except ExplainedError as error:
            return explain(error, status=404)

    async def models(self, _request: Request) -> Response:
        """Answer ``GET /api/models``."""
        return await _answer(lambda: {"models": self.views.models()})

    async def latency(self, request: Request) -> Response:
        """Answer ``GET /api/latency``."""
        query = request.query_params
        model, version = query.get("model", ""), query.get("version", "")
        minutes = _number(query.get("minutes"), "minutes", default=DEFAULT_MINUTES, most=MOST_MINUTES)
        return await _answer(lambda: self.views.latency(model=model, version=version, minutes=minutes))

    async def rollouts(self, _request: Request) -> Response:
        """Answer ``GET /api/rollouts``."""
        return await _answer(lambda: {"rollouts": self.views.rollouts()})

    async def events(self, request: Request) -> Response:
        """Answer ``GET /api/events``."""
        limit = _number(request.query_params.get("limit"), "limit", default=MOST_EVENTS, most=MOST_EVENTS)
        return await _answer(lambda: {"events": self.views.events(most=limit)})

    async def stream(self, _request: Request) -> Response:
        """Answer ``GET /api/stream`` with events until the page leaves."""
        return StreamingResponse(
            self.feed.listen(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def start_rollout(self, request: Request) -> Response:
        """Answer ``POST /api/rollouts``."""
        if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            refusal = UsageError(
                "this needs the fleet's token",
                expected=f"the header {TOKEN_HEADER}",
                got="another or none",
                next_step="it stands in fleet.json, for its owner to read; edgepe rollout start sends it",
            )
            return explain(refusal, status=403)
        wanted = await _read_rollout_request(request)
        try:
            rollout = await run_sync(
                lambda: self.controller.start_rollout(
                    name=wanted.name,
                    version=wanted.version,
                    waves=wanted.waves,
                    deadline_s=wanted.deadline_s,
                    group=wanted.group,
                )
            )
        except UsageError:
            raise
        except ExplainedError as error:
            return explain(error, status=409)
        return JSONResponse(rollout_json(rollout, {}, {}), status_code=201)


def explain(error: ExplainedError, *, status: int) -> Response:
    """Return an error as JSON that explains itself."""
    texts = (None if fact is None else str(fact) for fact in (error.expected, error.got))
    expected, got = texts
    body = ErrorJson(error=error.what, expected=expected, got=got, next_step=error.next_step)
    return JSONResponse(body, status_code=status)


async def _answer(read: Callable[[], _T]) -> Response:
    return JSONResponse(await run_sync(read))


async def _read_rollout_request(request: Request) -> RolloutRequest:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    length = request.headers.get("content-length", "")
    if media != "application/json" or not length.isdecimal() or int(length) > MOST_BODY_BYTES:
        raise UsageError(
            "the request has no body that can be read",
            expected=f"application/json with a Content-Length of at most {MOST_BODY_BYTES}",
            got=f"{media or 'no content type'}, length {length or 'unknown'}",
        )
    try:
        wanted = msgspec.json.decode(await request.body(), type=RolloutRequest)
    except msgspec.MsgspecError as error:
        raise UsageError("the request does not say which roll-out", expected="name and version", got=error) from error
    if not 0 < wanted.deadline_s <= MOST_DEADLINE_S:
        raise UsageError("the deadline is out of bounds", expected=f"1 to {MOST_DEADLINE_S} s", got=wanted.deadline_s)
    return wanted


def _number(text: str | None, name: str, *, default: int, most: int) -> int:
    if text is None:
        return default
    if not text.isdecimal() or not 0 < int(text) <= most:
        raise UsageError(f"{name} is out of bounds", expected=f"1 to {most}", got=ascii(text)[1:40])
    return int(text)
