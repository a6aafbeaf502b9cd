"""The table of an update's states."""

from __future__ import annotations

import pytest

from device_agent.errors import UpdateError
from device_agent.update.states import (
    MAX_ATTEMPTS,
    TERMINAL,
    TRANSITIONS,
    UNDER_WAY,
    Signal,
    State,
    advance,
    is_terminal,
    resume,
)


def test_every_state_is_idle_under_way_or_an_end() -> None:
    assert {State.IDLE} | set(UNDER_WAY) | TERMINAL == set(State)
    assert not set(UNDER_WAY) & TERMINAL


def test_passing_every_check_leads_to_committed() -> None:
    state = advance(State.IDLE, Signal.ACCEPT)
    road = [state]
    while not is_terminal(state):
        state = advance(state, Signal.PASS)
        road.append(state)
    assert road == [*UNDER_WAY, State.COMMITTED]


@pytest.mark.parametrize("state", UNDER_WAY)
def test_every_state_under_way_can_be_cancelled_timed_out_and_failed(state: State) -> None:
    assert advance(state, Signal.CANCEL) is State.CANCELLED
    assert advance(state, Signal.EXPIRE) is State.TIMED_OUT
    switched = state in (State.SWITCHING, State.SOAKING)
    assert advance(state, Signal.FAIL) is (State.ROLLED_BACK if switched else State.FAILED)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_an_end_is_left_only_by_a_new_request(state: State) -> None:
    assert {signal for at, signal in TRANSITIONS if at is state} == {Signal.ACCEPT}


def test_only_a_soak_leads_to_committed() -> None:
    assert [key for key, state in TRANSITIONS.items() if state is State.COMMITTED] == [(State.SOAKING, Signal.PASS)]


def test_a_step_that_is_not_in_the_table_is_an_error() -> None:
    with pytest.raises(UpdateError) as caught:
        advance(State.PROBING, Signal.REFUSE)
    assert caught.value.code == "illegal_step"


@pytest.mark.parametrize("state", UNDER_WAY)
def test_a_loop_of_kills_ends_in_a_terminal_state(state: State) -> None:
    attempt, seen = 1, state
    for _ in range(MAX_ATTEMPTS + 1):
        seen, attempt = resume(seen, attempt)
    assert seen in (State.FAILED, State.ROLLED_BACK)
    assert attempt == MAX_ATTEMPTS


@pytest.mark.parametrize("state", [State.IDLE, *sorted(TERMINAL)])
def test_what_is_not_under_way_is_not_taken_up(state: State) -> None:
    assert resume(state, 3) == (state, 3)
