"""The states of an update and every step between them. Pure: no clock, no disk.

::

    IDLE → ACCEPTED → PREFLIGHT → DOWNLOADING → VERIFYING → STAGED → PROBING → SWITCHING → SOAKING → COMMITTED
    PREFLIGHT may end REJECTED; DOWNLOADING to PROBING may end FAILED; SWITCHING and SOAKING may end ROLLED_BACK;
    all under way may end CANCELLED (by the operator) or TIMED_OUT (by the host's clock).

Rules kept here:
1. COMMITTED is the only success.
2. A step that the table lacks is an error, never a guess.
3. An interrupted update is taken up again a few times, then it ends: before the switch as FAILED, after it as
   ROLLED_BACK. So a loop of kills or boots ends with the old model serving.
"""

from __future__ import annotations

from enum import Enum
from itertools import pairwise

from device_agent.errors import UpdateError
from device_agent.wire.messages import State

__all__ = [
    "MAX_ATTEMPTS",
    "TERMINAL",
    "TRANSITIONS",
    "UNDER_WAY",
    "Signal",
    "State",
    "advance",
    "is_terminal",
    "resume",
]

MAX_ATTEMPTS = 4
"""How often one update is started, the first time included."""


class Signal(str, Enum):
    """What happened to an update."""

    ACCEPT = "accept"
    PASS = "pass"  # noqa: S105 - the word for a check that passed
    REFUSE = "refuse"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"


TERMINAL = frozenset(
    {State.COMMITTED, State.REJECTED, State.FAILED, State.ROLLED_BACK, State.CANCELLED, State.TIMED_OUT}
)
"""The ends; a new ``desired`` starts again from each."""

_ROAD = (
    State.ACCEPTED,
    State.PREFLIGHT,
    State.DOWNLOADING,
    State.VERIFYING,
    State.STAGED,
    State.PROBING,
    State.SWITCHING,
    State.SOAKING,
    State.COMMITTED,
)
UNDER_WAY = _ROAD[:-1]
"""The states in which something is being done, in order."""

_SWITCHED = (State.SWITCHING, State.SOAKING)


def _table() -> dict[tuple[State, Signal], State]:
    table = {(state, Signal.ACCEPT): State.ACCEPTED for state in (State.IDLE, *TERMINAL)}
    table |= {(state, Signal.PASS): following for state, following in pairwise(_ROAD)}
    table |= {(state, Signal.CANCEL): State.CANCELLED for state in UNDER_WAY}
    table |= {(state, Signal.EXPIRE): State.TIMED_OUT for state in UNDER_WAY}
    table |= {(state, Signal.REFUSE): State.REJECTED for state in (State.ACCEPTED, State.PREFLIGHT)}
    table |= {(state, Signal.FAIL): State.FAILED for state in UNDER_WAY}
    table |= {(state, Signal.FAIL): State.ROLLED_BACK for state in _SWITCHED}
    return table


TRANSITIONS: dict[tuple[State, Signal], State] = _table()
"""Every legal step."""


def is_terminal(state: State) -> bool:
    """Tell whether an update in this state is over."""
    return state in TERMINAL


def advance(state: State, signal: Signal) -> State:
    """Return the state after a signal.

    >>> advance(State.SOAKING, Signal.FAIL).value
    'ROLLED_BACK'

    Raises:
        UpdateError: The table has no such step.
    """
    try:
        return TRANSITIONS[state, signal]
    except KeyError as error:
        legal = sorted(known.value for at, known in TRANSITIONS if at is state)
        raise UpdateError(
            f"An update in {state.value} cannot take this step.", code="illegal_step", expected=legal, got=signal.value
        ) from error


def resume(state: State, attempt: int) -> tuple[State, int]:
    """Return where an update that was cut off goes on, and the number of that attempt.

    Before the switch everything is done again from ACCEPTED (the download goes on where it stopped); a switch and a
    soak are done again as such.

    >>> resume(State.VERIFYING, 1)
    (<State.ACCEPTED: 'ACCEPTED'>, 2)
    >>> resume(State.SOAKING, MAX_ATTEMPTS)[0].value
    'ROLLED_BACK'
    """
    if state is State.IDLE or is_terminal(state):
        return state, attempt
    if attempt >= MAX_ATTEMPTS:
        return advance(state, Signal.FAIL), attempt
    return (state if state in _SWITCHED else State.ACCEPTED), attempt + 1
