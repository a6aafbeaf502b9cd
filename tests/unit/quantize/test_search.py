from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from edgepe.contract import Contract, Measured
from edgepe.errors import ContractError, DataError, UnsupportedOpError, VerifyError
from edgepe.quantize.mixed import Group
from edgepe.quantize.recipe import Activations, Recipe, Remedy
from edgepe.quantize.search import Candidate, search
from edgepe.scheme import Precision

INT8, MIXED, FP16, FP32 = Precision.INT8, Precision.MIXED, Precision.FP16, Precision.FP32
ORDER = (INT8, FP16, FP32)
RESULTS = {
    INT8: Measured(drop=3.5, bytes=100, latency_us=None),
    FP16: Measured(drop=0.2, bytes=200, latency_us=None),
    FP32: Measured(drop=0.0, bytes=400, latency_us=None),
}


@dataclass
class Simulated:
    """A workshop whose artifacts lose and weigh what their recipe says."""

    results: dict[Precision, Measured] = field(default_factory=lambda: dict(RESULTS))
    errors: dict[Precision, Exception] = field(default_factory=dict)
    parts: tuple[Group, ...] = ()
    cures: dict[tuple[Remedy, ...], float] = field(default_factory=dict)
    kinds: tuple[Activations, ...] = (Activations.STATIC,)
    dynamic_drop: float = 0.0

    def candidate(self, recipe: Recipe) -> Candidate[str]:
        if recipe.precision in self.errors:
            raise self.errors[recipe.precision]
        plain = self.results[INT8 if recipe.precision is MIXED else recipe.precision]
        back = [part for part in self.parts if set(part.nodes) <= set(recipe.float_nodes)]
        drop = (plain.drop or 0.0) - 100 * sum(part.noise for part in back) - self.cures.get(recipe.remedies, 0.0)
        drop = self.dynamic_drop if recipe.activations is Activations.DYNAMIC else drop
        size = plain.bytes + sum(part.bytes for part in back)
        return Candidate(artifact=str(recipe), measured=replace(plain, drop=drop, bytes=size))

    def activations(self) -> tuple[Activations, ...]:
        return self.kinds

    def remedies(self, recipe: Recipe) -> tuple[tuple[tuple[Remedy, ...], float], ...]:
        assert recipe.precision is INT8
        return tuple((remedies, 0.5 if gain > 0 else 1.2) for remedies, gain in self.cures.items())

    def groups(self, recipe: Recipe) -> tuple[Group, ...]:
        assert recipe.precision is INT8
        return self.parts


def contract(**bounds: float) -> Contract:
    return Contract(
        metric="accuracy", max_drop=bounds.get("drop"), max_bytes=int(b) if (b := bounds.get("bytes")) else None
    )


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [({}, "int8"), ({"drop": 4}, "int8"), ({"drop": 2}, "fp16"), ({"drop": 0.1}, "fp32"), ({"bytes": 150}, "int8")],
)
def test_the_first_precision_that_holds_every_bound_ships(bounds: dict[str, float], wanted: str) -> None:
    assert search(ORDER, contract(**bounds), Simulated()).artifact == wanted


def test_nothing_is_tried_after_the_first_that_holds() -> None:
    found = search(ORDER, contract(drop=2), Simulated())
    assert [attempt.precision for attempt in found.attempts] == [INT8, FP16]
    assert found.attempt is found.attempts[-1]


def test_a_contract_that_nothing_holds_tells_bound_excess_and_attempts() -> None:
    with pytest.raises(ContractError) as caught:
        search(ORDER, contract(bytes=50), Simulated())
    message = str(caught.value)
    assert "max_bytes: limit 50, got 100, exceeded by 50 (int8)" in message
    assert all(precision.value in message for precision in ORDER)


def test_bounds_that_only_different_precisions_hold_are_told_as_such() -> None:
    with pytest.raises(ContractError, match="all of them by none"):
        search(ORDER, contract(drop=2, bytes=150), Simulated())


@pytest.mark.parametrize("error", [VerifyError("the runtime crashed"), UnsupportedOpError("no", op="X", node="n")])
def test_a_precision_that_cannot_be_built_or_run_is_recorded_and_the_next_is_tried(error: Exception) -> None:
    found = search(ORDER, contract(drop=2), Simulated(errors={INT8: error}))
    assert found.artifact == "fp16"
    assert found.attempts[0].error
    assert not found.attempts[0].held


def test_when_nothing_can_be_built_the_last_reason_is_told() -> None:
    errors = {precision: UnsupportedOpError(f"no {precision}", op="X", node="n") for precision in ORDER}
    with pytest.raises(UnsupportedOpError, match="no fp32"):
        search(ORDER, contract(), Simulated(errors=dict(errors)))


def test_wrong_input_ends_the_search() -> None:
    with pytest.raises(DataError, match="labels"):
        search(ORDER, contract(), Simulated(errors={INT8: DataError("labels do not fit")}))


def test_nothing_to_try_is_refused() -> None:
    with pytest.raises(ValueError, match="no precision"):
        search((), contract(), Simulated())


def slow_int8(slowdown: float) -> Simulated:
    return Simulated(results=RESULTS | {INT8: replace(RESULTS[INT8], slowdown=slowdown)})


def test_int8_that_is_slower_than_float_is_held_back_and_told() -> None:
    found = search(ORDER, contract(drop=4), slow_int8(1.3))
    assert found.artifact == "fp16"
    assert found.attempts[0].held
    assert found.attempts[0].slower
    assert "takes 1.30 times as long as float" in str(found.attempts[0])


def test_a_difference_within_the_noise_is_not_slower() -> None:
    assert search(ORDER, contract(drop=4), slow_int8(1.04)).artifact == "int8"


def test_slower_int8_ships_where_a_byte_bound_leaves_no_other() -> None:
    found = search(ORDER, contract(bytes=150), slow_int8(1.3))
    assert found.artifact == "int8"
    assert found.attempt.slower
    assert [attempt.held for attempt in found.attempts] == [False, False, True]


def test_slower_int8_ships_where_it_was_asked_for() -> None:
    assert search((INT8,), contract(), slow_int8(1.3)).artifact == "int8"


PARTS = (
    Group(nodes=("a",), noise=0.001, bytes=10),
    Group(nodes=("b",), noise=0.030, bytes=20),
    Group(nodes=("c", "d"), noise=0.002, bytes=40),
    Group(nodes=("e",), noise=0.002, bytes=80),
)


def test_the_sensitive_operator_goes_back_to_float() -> None:
    found = search((INT8, FP32), contract(drop=1), Simulated(parts=PARTS))
    assert found.attempt.precision is MIXED
    assert found.attempt.recipe.float_nodes == ("b",)
    assert found.attempt.measured is not None
    assert found.attempt.measured.bytes == 120


def test_mixed_precision_is_not_tried_where_int8_was_asked_for() -> None:
    with pytest.raises(ContractError):
        search((INT8,), contract(drop=1), Simulated(parts=PARTS))


def test_mixed_precision_that_cannot_hold_leaves_the_rest_of_the_order() -> None:
    found = search((INT8, FP32), contract(drop=0.01), Simulated(parts=PARTS))
    assert found.artifact == "fp32"
    assert [attempt.precision for attempt in found.attempts[:2]] == [INT8, MIXED]
    assert {attempt.precision for attempt in found.attempts[1:-1]} == {MIXED}


def test_bytes_that_break_are_no_reason_to_mix() -> None:
    with pytest.raises(ContractError):
        search((INT8, FP32), contract(drop=1, bytes=90), Simulated(parts=PARTS))


def test_a_remedy_that_is_enough_ships_before_anything_goes_back_to_float() -> None:
    cures = {(Remedy.BIAS,): 1.0, (Remedy.EQUALIZE, Remedy.BIAS): 3.0}
    found = search((INT8, FP32), contract(drop=1), Simulated(parts=PARTS, cures=cures))
    assert found.artifact == "int8 (equalize; bias)"
    assert len(found.attempts) == 3


def test_a_remedy_that_does_not_help_is_recorded_and_not_tried() -> None:
    found = search((INT8, FP32), contract(drop=1), Simulated(parts=PARTS, cures={(Remedy.EQUALIZE,): 0.0}))
    refused = found.attempts[1]
    assert refused.recipe.remedies == (Remedy.EQUALIZE,)
    assert refused.measured is None
    assert "1.20 times the error of plain int8" in refused.error


def test_mixed_precision_builds_on_the_best_remedy() -> None:
    found = search((INT8, FP32), contract(drop=1), Simulated(parts=PARTS, cures={(Remedy.BIAS,): 1.0}))
    assert found.attempt.recipe == Recipe(precision=MIXED, float_nodes=("b",), remedies=(Remedy.BIAS,))


def test_static_and_dynamic_int8_are_tried_in_the_workshop_s_order() -> None:
    kinds = (Activations.STATIC, Activations.DYNAMIC)
    found = search(ORDER, contract(drop=1), Simulated(kinds=kinds))
    assert found.artifact == "int8 (dynamic)"
    assert len(found.attempts) == 2
