"""Fetch a bundle into the private slot, in a short-lived child: ``python -m device_agent.update.fetch``.

Rules kept here:
1. The signed length is the cap: it is known before the first byte is written, and no byte past it is written.
2. The hash is taken while writing; what is used afterwards is exactly what was hashed.
3. A cut connection goes on where it stopped (Range with If-Range); a changed file starts again from nothing.
4. A server slower than the minimum rate, or one that makes no progress in several tries, is given up.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import quote, urlsplit

from device_agent.errors import FetchError
from device_agent.update.job import JobResult, run_child

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Fetcher", "HttpFetcher", "Wanted", "main"]

_NICENESS = 19

_CHUNK = 64 * 1024
_HTTP_OK = 200
_HTTP_PARTIAL = 206
_HTTP_RANGE = 416


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file by its path, SHA-256 and length in bytes, and the repositories that may have it, in order."""

    repositories: tuple[str, ...]
    path: str
    sha256: str
    length: int


class Fetcher(Protocol):
    """Whatever can bring a file."""

    def fetch(self, wanted: Wanted, into: Path) -> None:
        """Bring the whole file, or raise FetchError; what is partly there may be taken up again."""
        ...


class HttpFetcher:
    """Fetch over HTTP or HTTPS.

    Args:
        timeout_s: The longest silence of a server, seconds.
        min_rate: The lowest mean rate of one connection after the first such time, bytes per second.
        tries: How many connections in a row may bring nothing.
        pause_s: The time between two connections after a failure, seconds.
    """

    def __init__(self, *, timeout_s: float = 15, min_rate: int = 1024, tries: int = 4, pause_s: float = 0.5) -> None:
        self._timeout_s = timeout_s
        self._min_rate = min_rate
        self._tries = tries
        self._pause_s = pause_s

    def fetch(self, wanted: Wanted, into: Path) -> None:
        """Bring the file from the first repository that has it.

        Raises:
            FetchError: No repository has it whole, or its digest is another one.
        """
        if not wanted.repositories:
            raise FetchError("No repository is configured.", code="no_repository", next_step="Set [repository] url.")
        failure: FetchError | None = None
        for repository in wanted.repositories:
            url = f"{repository.rstrip('/')}/{quote(wanted.path)}"
            try:
                return self._from(url, wanted, into)
            except FetchError as error:
                failure = error if failure is None or error.code == "digest_mismatch" else failure
            except OSError as error:
                raise FetchError("The download cannot be written.", code="disk", got=str(error)) from error
        if failure is not None:
            raise failure
        return None

    def _from(self, url: str, wanted: Wanted, into: Path) -> None:
        partial = _Partial(into, wanted.length)
        fruitless = 0
        resumed = bool(partial.have)
        while True:
            before = partial.have
            failure = self._once(url, partial) if partial.have < wanted.length else None
            if partial.have == wanted.length and not failure:
                if partial.matches(wanted.sha256):
                    return
                partial.restart()
                if not resumed:
                    raise FetchError(
                        "The downloaded bundle has another digest than the signed one.",
                        code="digest_mismatch",
                        expected=wanted.sha256,
                        got=f"other bytes from {url}",
                    )
                resumed = False
                continue
            resumed = resumed or bool(partial.have)
            fruitless = 0 if partial.have > before else fruitless + 1
            if fruitless >= self._tries or (failure and failure.code in ("not_found", "length_mismatch")):
                raise failure or FetchError("The server ends every answer early.", code="cut_short", got=url)
            time.sleep(self._pause_s if failure else 0)

    def _once(self, url: str, partial: _Partial) -> FetchError | None:
        try:
            self._connect(url, partial)
        except FetchError as error:
            return error
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            return FetchError("The connection to the repository broke.", code="connection", got=f"{url}: {error!r}")
        except OSError as error:
            if error.filename:
                raise
            return FetchError("The repository cannot be reached.", code="unreachable", got=f"{url}: {error}")
        return None

    def _connect(self, url: str, partial: _Partial) -> None:
        parts = urlsplit(url)
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        if parts.scheme not in kinds or not parts.hostname:
            raise FetchError("This is no address of a repository.", code="bad_url", expected="http(s)://…", got=url)
        connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=self._timeout_s)
        try:
            connection.request("GET", parts.path, headers={"Accept-Encoding": "identity", **partial.headers()})
            with connection.getresponse() as answer:
                partial.open(answer, url)
                self._copy(answer, partial)
        finally:
            connection.close()

    def _copy(self, answer: http.client.HTTPResponse, partial: _Partial) -> None:
        start, begun = partial.have, time.monotonic()
        with partial.writer() as stream:
            try:
                while chunk := answer.read1(_CHUNK):
                    partial.take(stream, chunk)
                    seconds = time.monotonic() - begun
                    if seconds > self._timeout_s and partial.have - start < self._min_rate * seconds:
                        raise FetchError(
                            "The server is too slow.", code="too_slow", expected=f"{self._min_rate} bytes/s or more"
                        )
            finally:
                stream.flush()
                os.fsync(stream.fileno())


class _Partial:
    """The part of a file that is here, its hash so far, and the ETag it came with."""

    def __init__(self, path: Path, length: int) -> None:
        self._path = path
        self._length = length
        self._etag_path = path.with_name(f"{path.name}.etag")
        self._hasher = hashlib.sha256()
        self.have = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size <= length:
            with path.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    self._hasher.update(chunk)
                    self.have += len(chunk)
        else:
            self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self._path.unlink(missing_ok=True)
        self._etag_path.unlink(missing_ok=True)
        self._hasher = hashlib.sha256()
        self.have = 0

    def matches(self, sha256: str) -> bool:
        return self._hasher.hexdigest() == sha256

    def headers(self) -> dict[str, str]:
        """Ask for the rest, if it is still the same file; without a strong ETag that cannot be known."""
        etag = self._etag_path.read_text("utf-8") if self.have and self._etag_path.exists() else ""
        if not etag:
            return {}
        return {"Range": f"bytes={self.have}-", "If-Range": etag}

    def open(self, answer: http.client.HTTPResponse, url: str) -> None:
        """Look at the head of an answer, and make ready for its body."""
        if answer.status == _HTTP_RANGE:
            self.restart()
            raise FetchError("The repository has another file now.", code="changed", got=url)
        if answer.status not in (_HTTP_OK, _HTTP_PARTIAL):
            raise FetchError(
                "The repository does not have this bundle.", code="not_found", got=f"HTTP {answer.status} for {url}"
            )
        if answer.status == _HTTP_OK or not self._continues(answer):
            self.restart()
        if answer.status == _HTTP_PARTIAL and not self.have:
            raise FetchError("The repository answers with another range.", code="changed", got=url)
        announced = answer.getheader("Content-Length")
        if announced is not None and announced.isdigit() and self.have + int(announced) != self._length:
            raise FetchError(
                "The repository offers another length than the signed one.",
                code="length_mismatch",
                expected=self._length,
                got=self.have + int(announced),
            )
        etag = answer.getheader("ETag") or ""
        if etag.startswith('"'):
            self._etag_path.write_text(etag, "utf-8")

    def _continues(self, answer: http.client.HTTPResponse) -> bool:
        return (answer.getheader("Content-Range") or "").startswith(f"bytes {self.have}-")

    def writer(self) -> BinaryIO:
        return self._path.open("ab")

    def take(self, stream: BinaryIO, chunk: bytes) -> None:
        """Write and hash one piece, never past the signed length."""
        if self.have + len(chunk) > self._length:
            self.restart()
            raise FetchError(
                "The repository sends more than the signed length.", code="length_mismatch", expected=self._length
            )
        stream.write(chunk)
        self._hasher.update(chunk)
        self.have += len(chunk)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the child: fetch, and print one JSON line."""
    parser = argparse.ArgumentParser(prog="device_agent.update.fetch", description="Fetch one bundle.")
    parser.add_argument("--repository", action="append", default=[])
    parser.add_argument("--path", required=True)
    parser.add_argument("--sha256", required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--min-rate", type=int, default=1024)
    given = parser.parse_args(arguments)
    wanted = Wanted(repositories=tuple(given.repository), path=given.path, sha256=given.sha256, length=given.length)

    def work() -> JobResult:
        HttpFetcher(min_rate=given.min_rate).fetch(wanted, given.into)
        return JobResult(passed=True, facts=(("bytes", str(wanted.length)),))

    return run_child(work, niceness=_NICENESS)


if __name__ == "__main__":
    raise SystemExit(main())
