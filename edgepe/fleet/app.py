"""The whole web application: page, repository and API on one port.

Rules kept here:
1. The page may load nothing but what this server serves (Content-Security-Policy ``self``), and nobody may frame it.
2. Only requests that name this machine are answered, so that a foreign name pointed at loopback reaches nothing.
3. Bundles are plain files with Range, ETag and If-Range; a published file never changes, so it may be cached.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from device_agent.wire.errors import ExplainedError
from edgepe.errors import UsageError
from edgepe.fleet.api import explain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from edgepe.fleet.api import Api

__all__ = ["WEB", "make_app"]

WEB = Path(__file__).parent / "web"
HOSTS = ["127.0.0.1", "localhost"]
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SafeHeaders:
    """Adds the headers of rule 1 to every answer; a page that was changed by an upgrade is asked for anew."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if not scope["path"].startswith("/repository/targets/"):
                    headers["Cache-Control"] = "no-cache"
            await send(message)

        await self._app(scope, receive, send_with_headers)


def make_app(api: Api, repository: Path) -> Starlette:
    """Return the application.

    Args:
        api: The routes under ``/api``.
        repository: The folder of published bundles.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        watcher = asyncio.create_task(api.feed.run())
        yield
        watcher.cancel()

    return Starlette(
        routes=[
            *api.routes(),
            Mount("/repository", StaticFiles(directory=repository, check_dir=False)),
            Mount("/", StaticFiles(directory=WEB, html=True, check_dir=False)),
        ],
        middleware=[Middleware(SafeHeaders), Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)],
        exception_handlers={UsageError: _wrong_input, ExplainedError: _failed, HTTPException: _refused},
        lifespan=lifespan,
    )


async def _wrong_input(_request: Request, error: Exception) -> Response:
    return explain(_explained(error), status=400)


async def _failed(_request: Request, error: Exception) -> Response:
    return explain(_explained(error), status=503)


async def _refused(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return explain(_explained(error), status=status)


def _explained(error: Exception) -> ExplainedError:
    if isinstance(error, ExplainedError):
        return error
    return UsageError(error.detail if isinstance(error, HTTPException) else str(error))
