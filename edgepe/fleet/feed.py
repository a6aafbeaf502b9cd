"""The live stream: one watcher of the store, any number of listeners.

Rules kept here:
1. The fleet's state is read once per change and at most once a second, however many pages are open; with no page
   open it is not read at all.
2. A listener gets the present state at once, then each newer one; a slow one skips states, it never queues them.
3. Comments every 15 s keep proxies from closing a quiet stream, and every stream ends when the server stops.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from device_agent.wire.errors import ExplainedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from edgepe.fleet.shapes import FleetJson

__all__ = ["Feed"]

LOOK_EVERY_S = 0.25
SHOW_EVERY_S = 1.0
COMMENT_AFTER_S = 15.0


class Feed:
    """Builds updates and hands them out.

    Args:
        changes: Returns a number that differs after a change of the store.
        build: Reads the fleet's state.
        stopping: Whether the server is about to stop.
    """

    def __init__(
        self, *, changes: Callable[[], int], build: Callable[[], FleetJson], stopping: Callable[[], bool]
    ) -> None:
        self._changes = changes
        self._build = build
        self._stopping = stopping
        self._listeners = 0
        self._number = 0
        self._seen = -1
        self._update = b""
        self._news = asyncio.Condition()

    async def run(self) -> None:
        """Watch the store until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._listeners == 0:
                continue
            try:
                seen = await asyncio.to_thread(self._changes)
                if seen != self._seen:
                    await self._refresh(seen)
                    await asyncio.sleep(SHOW_EVERY_S - LOOK_EVERY_S)
            except ExplainedError:  # the store is away; /api/status says so to whoever asks
                await asyncio.sleep(SHOW_EVERY_S)

    async def listen(self) -> AsyncIterator[bytes]:
        """Yield server-sent events until the server stops."""
        self._listeners += 1
        try:
            await self._refresh(await asyncio.to_thread(self._changes))
            shown, quiet_s = 0, 0.0
            while not self._stopping():
                if shown != self._number:
                    shown, quiet_s = self._number, 0.0
                    yield self._update
                elif quiet_s >= COMMENT_AFTER_S:
                    quiet_s = 0.0
                    yield b": still here\n\n"
                quiet_s += await self._wait()
        finally:
            self._listeners -= 1

    async def _wait(self) -> float:
        """Wait for news for a moment; return how long at most."""
        try:
            async with asyncio.timeout(LOOK_EVERY_S), self._news:
                await self._news.wait()
        except TimeoutError:
            pass
        return LOOK_EVERY_S

    async def _refresh(self, seen: int) -> None:
        update = await asyncio.to_thread(self._build)
        text = json.dumps(update, separators=(",", ":"), allow_nan=False)
        async with self._news:
            self._seen = seen
            self._number += 1
            self._update = f"id: {self._number}\nevent: fleet\ndata: {text}\n\n".encode()
            self._news.notify_all()
