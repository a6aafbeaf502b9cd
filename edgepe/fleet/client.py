"""A client of a running fleet, for the command line, the demo and your own scripts.

Rules kept here:
1. It speaks the same HTTP interface as the page; nothing is read from the fleet's files but its address.
2. A refusal of the server is raised with the server's own explanation.
3. It goes straight to the address: no proxy of the environment stands between.
"""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, urlencode, urlsplit

from edgepe.errors import FleetError, UsageError
from edgepe.fleet.address import FleetAddress, read_address
from edgepe.fleet.defaults import DEADLINE_S, WAVES
from edgepe.fleet.shapes import TOKEN_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgepe.fleet.shapes import (
        DeviceDetailJson,
        DeviceJson,
        EventJson,
        FleetJson,
        LatencyJson,
        ModelJson,
        RolloutJson,
        StatusJson,
    )

__all__ = ["FleetClient"]

TIMEOUT_S = 30.0


class FleetClient:
    """Asks a running fleet.

    Args:
        address: Where it is.
    """

    def __init__(self, address: FleetAddress) -> None:
        self.address = address
        self._host = urlsplit(address.page).netloc

    @classmethod
    def of(cls, folder: Path) -> FleetClient:
        """Return a client of the fleet that runs in a folder.

        Raises:
            FleetError: None runs there.
        """
        return cls(read_address(folder))

    def status(self) -> StatusJson:
        """Return the whole fleet in one row."""
        return cast("StatusJson", self._ask("GET", "/api/status"))

    def devices(self) -> list[DeviceJson]:
        """Return a row per device and model."""
        return cast("list[DeviceJson]", self._ask("GET", "/api/devices")["devices"])

    def device(self, name: str) -> DeviceDetailJson:
        """Return all that is known of one device."""
        return cast("DeviceDetailJson", self._ask("GET", f"/api/devices/{quote(name, safe='')}"))

    def models(self) -> list[ModelJson]:
        """Return a row per version of a model."""
        return cast("list[ModelJson]", self._ask("GET", "/api/models")["models"])

    def latency(self, *, model: str = "", version: str = "", minutes: int = 15) -> LatencyJson:
        """Return latency over time; empty names select all."""
        query = urlencode({"model": model, "version": version, "minutes": minutes})
        return cast("LatencyJson", self._ask("GET", f"/api/latency?{query}"))

    def rollouts(self) -> list[RolloutJson]:
        """Return the newest roll-outs, newest first."""
        return cast("list[RolloutJson]", self._ask("GET", "/api/rollouts")["rollouts"])

    def rollout(self, rollout_id: str) -> RolloutJson:
        """Return one of the newest roll-outs.

        Raises:
            FleetError: It is not among them.
        """
        for one in self.rollouts():
            if one["id"] == rollout_id:
                return one
        raise FleetError("no such roll-out among the newest", got=rollout_id, next_step="edgepe rollout status")

    def events(self, *, limit: int = 100) -> list[EventJson]:
        """Return the newest events, newest first."""
        return cast("list[EventJson]", self._ask("GET", f"/api/events?limit={limit}")["events"])

    def start_rollout(
        self, name: str, version: str, *, waves: str = WAVES, deadline_s: int = DEADLINE_S, group: str = ""
    ) -> RolloutJson:
        """Start a roll-out and return it.

        Raises:
            UsageError: The request makes no sense.
            FleetError: Not now, or no device can take the version.
        """
        body = {"name": name, "version": version, "waves": waves, "deadline_s": deadline_s, "group": group}
        return cast("RolloutJson", self._ask("POST", "/api/rollouts", json.dumps(body)))

    def stream(self) -> Iterator[FleetJson]:
        """Yield the fleet's state, at once and after every change, until the fleet stops."""
        with closing(self._connect()) as connection:
            answer = self._request(connection, "GET", "/api/stream", None)
            while line := answer.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line[len(b"data: ") :])

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, object]:
        with closing(self._connect()) as connection:
            answer = self._request(connection, method, path, body)
            try:
                value = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._gone(error) from error
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise _refusal(answer.status, value)
        return cast("dict[str, object]", value)

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, timeout=TIMEOUT_S)

    def _request(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: str | None
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers |= {"Content-Type": "application/json", TOKEN_HEADER: self.address.token}
        try:
            connection.request(method, path, body, headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._gone(error) from error

    def _gone(self, error: Exception) -> FleetError:
        return FleetError(
            "the fleet does not answer",
            expected=f"its web server at {self.address.page}",
            got=error,
            next_step="start it again: edgepe fleet up",
        )


def _refusal(status: int, value: object) -> FleetError | UsageError:
    kind = UsageError if status == http.HTTPStatus.BAD_REQUEST else FleetError
    if not isinstance(value, dict):
        return kind(f"the fleet answered {status}")
    return kind(
        str(value.get("error", f"the fleet answered {status}")),
        expected=value.get("expected"),
        got=value.get("got"),
        next_step=cast("str | None", value.get("next_step")),
    )
