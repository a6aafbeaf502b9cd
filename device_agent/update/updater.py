"""Drive one model's update through its states; the disk, the children and the workers obey the pure table.

Rules kept here:
1. Persist, then act. Whatever a kill interrupts, :meth:`Updater.recover` ends with exactly the old or the new model
   serving and goes on or ends by the rules of :mod:`device_agent.update.states`.
2. Nothing here waits: :meth:`Updater.step` looks, does the next small thing and returns.
3. The old model serves until the new one has passed its golden vectors in a probe and its worker is ready.
4. A model that is rolled back is denied until a newer revision names it again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from device_agent.errors import UpdateError
from device_agent.update.job import Job
from device_agent.update.record import Record, read_record, write_record
from device_agent.update.slots import Slots
from device_agent.update.states import Signal, State, advance, is_terminal, resume
from device_agent.wire.messages import ActiveModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from device_agent.update.job import JobResult
    from device_agent.update.record import Request
    from device_agent.wire.messages import ReportedModel

__all__ = ["Health", "Moment", "Serving", "UpdateSettings", "Updater"]

_THOUSAND = 1000
_DETAIL_CHARS = 1000
_PASSED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Now: ``wall_ms`` since the epoch for windows, ``monotonic_s`` for durations."""

    wall_ms: int
    monotonic_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the promoted worker of a model does since it was promoted; ``p99_us`` is None before the first inference."""

    inferences: int = 0
    errors: int = 0
    crashes: int = 0
    rss_bytes: int = 0
    p99_us: int | None = None


class Serving(Protocol):
    """The workers, as an update sees them."""

    def prepare(self, name: str, folder: Path) -> None:
        """Start a worker on a slot beside the one that serves."""
        ...

    def ready(self, name: str) -> bool:
        """Tell whether the prepared worker can serve; raise UpdateError if it never will."""
        ...

    def promote(self, name: str) -> None:
        """Let the prepared worker serve, then drain the other."""
        ...

    def serve(self, name: str, folder: Path | None) -> None:
        """Serve exactly this slot from now on, or nothing; a prepared worker is given up."""
        ...

    def health(self, name: str) -> Health:
        """Return how the promoted worker does."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSettings:
    """What an update needs to know of its device; times in seconds.

    Attributes:
        target: The profile name of the board; empty accepts every target.
        repositories: Where to fetch from if the host names none.
    """

    target: str = ""
    repositories: tuple[str, ...] = ()
    soak_s: float = 30.0
    probe_runs: int = 50
    probe_timeout_s: float = 120.0
    unpack_timeout_s: float = 120.0
    ready_timeout_s: float = 60.0
    min_rate: int = 1024
    max_bytes: int = 1 << 30
    spare_bytes: int = 16 << 20


def _ignore(_phase: str, _record: Record) -> None:
    pass


class Updater:
    """The update of one model.

    Args:
        name: The model.
        folder: ``models/<name>`` in the agent's state.
        settings: What to know of the device.
        serving: The workers.
        observe: Called with ``("entered", record)`` after a state is durable and before it acts, and with
            ``("leaving", record)`` when its work is done and the next state is not yet durable.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        settings: UpdateSettings,
        serving: Serving,
        observe: Callable[[str, Record], None] = _ignore,
    ) -> None:
        self.slots = Slots(folder)
        self._path = folder / "state.json"
        self._settings = settings
        self._serving = serving
        self._observe = observe
        self._job: Job | None = None
        self._since: float | None = None
        self._prepared = False
        self.record = read_record(self._path, name)
        self._work: dict[State, Callable[[Moment], None]] = {
            State.ACCEPTED: self._accepted,
            State.PREFLIGHT: self._preflight,
            State.DOWNLOADING: self._downloading,
            State.VERIFYING: self._verifying,
            State.STAGED: self._staged,
            State.PROBING: self._probing,
            State.SWITCHING: self._switching,
            State.SOAKING: self._soaking,
        }

    @property
    def busy(self) -> bool:
        """Tell whether an update is under way."""
        return self.record.state in self._work

    def reported(self) -> ReportedModel:
        """Return what the fleet is told."""
        return self.record.reported(active=self.slots.active_model(), previous=self.slots.other_model())

    def recover(self) -> None:
        """Make disk and record agree after a start: carry out an end that was only written, or take the update up."""
        state, attempt = resume(self.record.state, self.record.attempt)
        if is_terminal(state) and state is not self.record.state:
            self._end(state, code="interrupted", detail="The update was cut off too often.")
        elif is_terminal(state) or state is State.IDLE:
            self._undo()
        else:
            self._save(replace(self.record, state=state, attempt=attempt))

    def accept(self, request: Request) -> None:
        """Begin what a newer revision asks for.

        An update of the same digest that is under way goes on under the new revision; another one is cancelled. A
        model that serves already is committed at once.

        Raises:
            UpdateError: The disk refuses.
        """
        if self.busy and self.record.wanted().model.sha256 == request.model.sha256:
            self._save(replace(self.record, request=request))
            return
        if self.busy:
            self.cancel(detail=f"Revision {request.rev} asks for another model.")
        denied = tuple(pair for pair in self.record.denied if pair[0] != request.model.sha256)
        fresh = Record(name=self.record.name, request=request, denied=denied, attempt=1)
        active = self.slots.active_model()
        if active and active.sha256 == request.model.sha256:
            self._save(replace(fresh, state=State.COMMITTED, percent=_PASSED, detail="It served already."))
            return
        state = advance(self.record.state, Signal.ACCEPT)
        self._save(replace(fresh, state=state, slot=self.slots.spare(), old=self.slots.active() or ""))

    def refuse(self, request: Request, *, code: str, detail: str) -> None:
        """Answer a request that this device will not even begin.

        Raises:
            UpdateError: The disk refuses.
        """
        state = advance(advance(self.record.state, Signal.ACCEPT), Signal.REFUSE)
        self._save(Record(name=self.record.name, state=state, request=request, code=code, detail=detail))

    def cancel(self, *, detail: str) -> None:
        """End an update under way and serve the old model."""
        if self.busy:
            self._end(advance(self.record.state, Signal.CANCEL), code="cancelled", detail=detail)

    def close(self) -> None:
        """Stop the child that is running; the update goes on at the next start."""
        if self._job:
            self._job.stop()
            self._job = None

    def step(self, now: Moment) -> None:
        """Do the next small thing, if there is one."""
        work = self._work.get(self.record.state)
        if work is None:
            return
        try:
            work(now)
        except UpdateError as error:
            self._fail(error.code or "failed", str(error))

    def _accepted(self, _now: Moment) -> None:
        self._pass()

    def _preflight(self, now: Moment) -> None:
        request = self.record.wanted()
        denied = dict(self.record.denied).get(request.model.sha256, 0) >= request.rev
        free = shutil.disk_usage(self._path.parent).free
        needed = 3 * request.model.length + self._settings.spare_bytes
        if denied:
            self._refuse("denied", "This bundle was rolled back before.")
        elif request.model.length > self._settings.max_bytes:
            self._refuse("too_large", f"At most {self._settings.max_bytes} bytes, got {request.model.length}.")
        elif free < needed:
            self._refuse("no_space", f"The update needs {needed} bytes, {free} are free.")
        elif request.window and now.wall_ms >= request.window.end_ms:
            self._refuse("window_closed", "The window of this update is over.")
        elif not request.window or now.wall_ms >= request.window.start_ms:
            self._pass()

    def _downloading(self, _now: Moment) -> None:
        request, incoming = self.record.wanted(), self.slots.incoming
        result = self._run("device_agent.update.fetch", self._fetch_arguments, timeout_s=self._fetch_limit_s())
        if result is None:
            have = incoming.stat().st_size if incoming.exists() else 0
            self.record = replace(self.record, percent=min(_PASSED, have * _PASSED // request.model.length))
        elif result.passed:
            self.record = replace(self.record, percent=_PASSED)
            self._pass()
        else:
            self._fail(result.code, result.detail)

    def _fetch_arguments(self) -> list[str]:
        request = self.record.wanted()
        places = request.urls or self._settings.repositories
        return [
            *(f"--repository={place}" for place in places),
            f"--path={request.model.path}",
            f"--sha256={request.model.sha256}",
            f"--length={request.model.length}",
            f"--into={self.slots.incoming}",
            f"--min-rate={self._settings.min_rate}",
        ]

    def _fetch_limit_s(self) -> float:
        return 60 + 2 * self.record.wanted().model.length / self._settings.min_rate

    def _verifying(self, _now: Moment) -> None:
        result = self._run(
            "device_agent.update.unpack", self._unpack_arguments, timeout_s=self._settings.unpack_timeout_s
        )
        if result is not None and result.passed:
            self._pass()
        elif result is not None:
            self._fail(result.code, result.detail)

    def _unpack_arguments(self) -> list[str]:
        self.slots.clear(self.record.slot)
        model = self.record.wanted().model
        return [
            f"--bundle={self.slots.incoming}",
            f"--into={self.slots.folder(self.record.slot)}",
            f"--name={model.name}",
            f"--version={model.version}",
            f"--target={self._settings.target}",
            f"--sha256={model.sha256}",
            f"--length={model.length}",
        ]

    def _staged(self, _now: Moment) -> None:
        model = self.record.wanted().model
        identity = ActiveModel(
            name=model.name,
            version=model.version,
            sha256=model.sha256,
            target=model.path.rpartition("/")[2][: -len(".edge")],
        )
        self.slots.seal(self.record.slot, identity)
        self.slots.collect()
        self._pass()

    def _probing(self, _now: Moment) -> None:
        settings = self._settings
        arguments = [f"--slot={self.slots.folder(self.record.slot)}", f"--runs={settings.probe_runs}"]
        result = self._run("device_agent.runtime.probe", lambda: arguments, timeout_s=settings.probe_timeout_s)
        if result is None:
            return
        gate = self.record.wanted().gate
        if not result.passed:
            self._fail(result.code or "probe_failed", result.detail)
        elif _past(result.whole("p99_us"), gate.max_p99_us):
            self._fail("too_slow", f"p99 is {result.fact('p99_us')} us, at most {gate.max_p99_us} us are allowed.")
        elif _past(result.whole("rss_bytes"), gate.max_rss_bytes):
            self._fail(
                "too_much_memory", f"{result.fact('rss_bytes')} bytes, at most {gate.max_rss_bytes} are allowed."
            )
        else:
            self._pass()

    def _switching(self, now: Moment) -> None:
        name, folder = self.record.name, self.slots.folder(self.record.slot)
        if not self._prepared:
            self._prepared, self._since = True, now.monotonic_s
            self._serving.prepare(name, folder)
        elif self._serving.ready(name):
            self.slots.activate(self.record.slot)
            self._observe("switched", self.record)
            self._serving.promote(name)
            self._pass()
        elif now.monotonic_s - (self._since or 0) > self._settings.ready_timeout_s:
            self._fail("worker_timeout", f"The worker was not ready in {self._settings.ready_timeout_s:g} s.")

    def _soaking(self, now: Moment) -> None:
        if self._since is None:
            self._since = now.monotonic_s
        gate, health = self.record.wanted().gate, self._serving.health(self.record.name)
        soak_s = self._settings.soak_s if gate.soak_ms is None else gate.soak_ms / _THOUSAND
        runs = health.inferences + health.errors
        if health.crashes:
            self._fail("worker_crashed", f"The worker ended {health.crashes} times during the soak.")
        elif health.errors * _THOUSAND > gate.max_errors_permille * runs:
            self._fail("errors", f"{health.errors} of {runs} runs failed during the soak.")
        elif _past(health.rss_bytes, gate.max_rss_bytes):
            self._fail("too_much_memory", f"The worker holds {health.rss_bytes} bytes.")
        elif now.monotonic_s - self._since >= soak_s:
            self._pass()

    def _run(self, module: str, arguments: Callable[[], list[str]], *, timeout_s: float) -> JobResult | None:
        if self._job is None:
            self._job = Job(module, arguments(), timeout_s=timeout_s)
        result = self._job.poll()
        if result is not None:
            self._job = None
        return result

    def _pass(self) -> None:
        self._observe("leaving", self.record)
        state = advance(self.record.state, Signal.PASS)
        self._save(replace(self.record, state=state))

    def _refuse(self, code: str, detail: str) -> None:
        self._end(advance(self.record.state, Signal.REFUSE), code=code, detail=detail)

    def _fail(self, code: str, detail: str) -> None:
        self._end(advance(self.record.state, Signal.FAIL), code=code, detail=detail)

    def _end(self, state: State, *, code: str, detail: str) -> None:
        """Write the end first, then carry it out; a disk that refuses the record does not keep the old model away."""
        self._observe("leaving", self.record)
        denied = dict(self.record.denied)
        if state is State.ROLLED_BACK:
            denied[self.record.wanted().model.sha256] = self.record.rev
        ended = replace(
            self.record, state=state, code=code, detail=detail[:_DETAIL_CHARS], denied=tuple(sorted(denied.items()))
        )
        try:
            self._save(ended)
        except UpdateError:
            self._job, self.record = None, ended
        self._undo()

    def _undo(self) -> None:
        """Make the old model serve if the update ended without success, and clean up; twice is harmless."""
        self.close()
        record = self.record
        if record.state is not State.COMMITTED and record.slot:
            if self.slots.active() == record.slot:
                if record.old:
                    self.slots.activate(record.old)
                else:
                    self.slots.deactivate()
            active = self.slots.active()
            self._serving.serve(record.name, self.slots.folder(active) if active else None)
            self.slots.clear(record.slot)
        self.slots.collect()

    def _save(self, record: Record) -> None:
        self.close()
        write_record(self._path, record)
        self.record, self._since, self._prepared = record, None, False
        self._observe("entered", record)
        if record.state is State.COMMITTED:
            self.slots.collect()


def _past(value: int | None, bound: int | None) -> bool:
    return value is not None and bound is not None and value > bound
