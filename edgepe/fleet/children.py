"""Child processes that never outlive their parent.

Rules kept here:
1. A child's standard input is a pipe that only its parent holds; when it closes, for whatever reason, the child ends.
2. A child that ends by itself is started again, after a pause that grows to 30 s.
3. Stopping asks first (the pipe closes), insists after five seconds, and returns when the process is gone.
"""

from __future__ import annotations

import subprocess
import time

__all__ = ["Child"]

STOP_WITHIN_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STABLE_AFTER_S = 60.0


class Child:
    """One child process, started again when it ends.

    Args:
        command: Program and arguments.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._pause_s = FIRST_PAUSE_S

    @property
    def pid(self) -> int:
        """The process id, 0 if it has not been started."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start the process."""
        self._started_s = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 - the command is our own interpreter and module
            self._command, stdin=subprocess.PIPE, start_new_session=True
        )

    def revive(self) -> bool:
        """Start the process again if it has ended and its pause is over; return whether it was started."""
        if self._process is None or self._process.poll() is None:
            return False
        lived_s = time.monotonic() - self._started_s
        if lived_s < self._pause_s:
            return False
        self._pause_s = FIRST_PAUSE_S if lived_s > STABLE_AFTER_S else min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._let_go(self._process)
        self.start()
        return True

    def stop(self) -> None:
        """End the process. May be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        self._let_go(process)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _let_go(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()
