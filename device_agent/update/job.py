"""Heavy or risky work runs in a short-lived child that prints one JSON line.

Rules kept here:
1. A child that hangs is killed at its time limit; one that dies without a line has failed.
2. A child gives way to inference by its niceness, and dies with its supervisor. Not SCHED_IDLE: on a board that is
   busy on every core it gets a third of a percent, and a signature that takes a tenth of a second takes half a minute.
3. The supervisor never waits for a child: it polls.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from device_agent.errors import AgentError, ExplainedError
from device_agent.wire.canonical import document, parse_document
from device_agent.wire.errors import WireError
from device_agent.wire.fields import Fields
from device_agent.wire.limits import MAX_FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Job", "JobResult", "decode_result", "run_child"]

_PARENT_VARIABLE = "EDGEPE_AGENT_PARENT"
_PR_SET_PDEATHSIG = 1
_WAIT_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What a child found.

    Attributes:
        code: A short word for a failure, empty when it passed.
        facts: Measurements as (name, text).
    """

    passed: bool
    code: str = ""
    detail: str = ""
    facts: tuple[tuple[str, str], ...] = ()

    def fact(self, name: str) -> str:
        """Return one fact, or an empty text."""
        return dict(self.facts).get(name, "")

    def whole(self, name: str) -> int | None:
        """Return one fact as a whole number, or None where it is absent or none."""
        try:
            return round(float(self.fact(name)))
        except (ValueError, OverflowError):
            return None

    def encode(self) -> bytes:
        """Return the line that a child prints."""
        return document({**dict(self.facts), "passed": self.passed, "code": self.code, "detail": self.detail})


def decode_result(data: bytes) -> JobResult:
    """Read the line that a child printed; numbers among the facts become text.

    Raises:
        WireError: It is no result.
    """
    value = parse_document(data, limit=MAX_FRAME_BYTES, what="result of a child")
    fields = Fields(value, "result")
    passed, code, detail = fields.flag("passed"), fields.text("code", default=""), fields.text("detail", default="")
    facts = tuple((name, _plain(text)) for name, text in fields.extra())
    return JobResult(passed=passed, code=code, detail=detail, facts=facts)


def _plain(text: str) -> str:
    value = json.loads(text)
    return value if isinstance(value, str) else text


def run_child(work: Callable[[], JobResult], *, niceness: int) -> int:
    """Do the work of a child, print its line on stdout, and return the exit code.

    Args:
        work: What to do.
        niceness: 19 for what may take long, less for what an update waits for.
    """
    _die_with_parent()
    _give_way(niceness)
    try:
        result = work()
    except AgentError as error:
        result = JobResult(passed=False, code=error.code or "failed", detail=str(error))
    except ExplainedError as error:
        result = JobResult(passed=False, code="failed", detail=str(error))
    sys.stdout.buffer.write(result.encode() + b"\n")
    sys.stdout.buffer.flush()
    return 0 if result.passed else 1


def _die_with_parent() -> None:
    """Ask Linux to end this process with its supervisor; a supervisor that is gone already ends it now."""
    parent = os.environ.pop(_PARENT_VARIABLE, "")
    if not parent or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        raise SystemExit(1)


def _give_way(niceness: int) -> None:
    """Yield the processor to inference; a system that forbids it loses nothing but that."""
    with contextlib.suppress(OSError):
        os.nice(niceness)


class Job:
    """One running child.

    Args:
        module: What ``python -m`` runs.
        arguments: Its arguments.
        timeout_s: How long it may take, seconds.
    """

    def __init__(self, module: str, arguments: Sequence[str], *, timeout_s: float) -> None:
        self._name = module.rpartition(".")[2]
        self._timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module, no shell
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, _PARENT_VARIABLE: str(os.getpid())},
        )

    @property
    def pid(self) -> int:
        """Return the process id of the child."""
        return self._process.pid

    def poll(self) -> JobResult | None:
        """Return the result once the child is over, None before."""
        if self._process.poll() is None:
            if time.monotonic() < self._end:
                return None
            self.stop()
            return JobResult(
                passed=False,
                code=f"{self._name}_timeout",
                detail=f"The {self._name} took more than {self._timeout_s:g} s.",
            )
        output = self._process.stdout.read() if self._process.stdout and not self._process.stdout.closed else b""
        self.stop()
        try:
            return decode_result(output)
        except WireError:
            status = self._process.returncode
            return JobResult(
                passed=False, code=f"{self._name}_died", detail=f"The {self._name} ended with status {status}."
            )

    def wait(self) -> JobResult:
        """Wait for the result: for the command line, never for the supervisor."""
        while (result := self.poll()) is None:
            time.sleep(_WAIT_S)
        return result

    def stop(self) -> None:
        """End the child if it is running, and reap it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
