from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from edgepe.quantize.mixed import RUNS, Group, Outcome, fewest_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

Choice = tuple[Group, ...]
groups = st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 1000)), min_size=0, max_size=12).map(
    lambda rows: [Group(nodes=(f"n{i}",), noise=noise, bytes=size) for i, (noise, size) in enumerate(rows)]
)


def keeping(allowed: float, everything: list[Group], tried: list[Choice]) -> Callable[[Choice], Outcome]:
    """Return a trial in which noise adds up and a limit is held."""

    def attempt(chosen: Choice) -> Outcome:
        tried.append(chosen)
        left = sum(group.noise for group in everything) - sum(group.noise for group in chosen)
        return Outcome.HELD if left <= allowed else Outcome.TOO_LOSSY

    return attempt


@given(groups, st.floats(0.0, 3.0))
@settings(max_examples=200)
def test_a_choice_that_comes_back_held_and_the_runs_are_bounded(everything: list[Group], allowed: float) -> None:
    tried: list[Choice] = []
    attempt = keeping(allowed, everything, tried)
    chosen = fewest_bytes(everything, attempt)
    assert len(tried) <= RUNS
    assert all(0 < len(choice) < len(everything) for choice in tried)
    if chosen is not None:
        assert chosen in tried
        assert attempt(chosen) is Outcome.HELD


def test_what_was_given_back_without_need_is_taken_again() -> None:
    light = Group(nodes=("light",), noise=0.10, bytes=1)
    heavy = Group(nodes=("heavy",), noise=1.0, bytes=100)
    rest = Group(nodes=("rest",), noise=0.001, bytes=50)
    chosen = fewest_bytes([light, heavy, rest], keeping(0.2, [light, heavy, rest], []))
    assert chosen == (heavy,)


def test_a_file_that_grows_too_large_turns_the_search_round() -> None:
    everything = [Group(nodes=(f"n{i}",), noise=1.0, bytes=10) for i in range(8)]
    tried: list[Choice] = []

    def attempt(chosen: Choice) -> Outcome:
        tried.append(chosen)
        return Outcome.TOO_LARGE

    assert fewest_bytes(everything, attempt) is None
    assert [len(choice) for choice in tried] == [4, 2, 1]
