from __future__ import annotations

import pytest

from edgepe.contract import Contract, Measured
from edgepe.errors import ContractError, DataError, UnsupportedOpError, VerifyError
from edgepe.quantize.search import Candidate, search
from edgepe.scheme import Precision

ORDER = (Precision.INT8, Precision.FP16, Precision.FP32)
RESULTS = {
    Precision.INT8: Measured(drop=3.5, bytes=100, latency_us=None),
    Precision.FP16: Measured(drop=0.2, bytes=200, latency_us=None),
    Precision.FP32: Measured(drop=0.0, bytes=400, latency_us=None),
}


def build(precision: Precision) -> Candidate[str]:
    return Candidate(artifact=precision.value, measured=RESULTS[precision])


def contract(**bounds: float) -> Contract:
    return Contract(
        metric="accuracy", max_drop=bounds.get("drop"), max_bytes=int(b) if (b := bounds.get("bytes")) else None
    )


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [({}, "int8"), ({"drop": 4}, "int8"), ({"drop": 2}, "fp16"), ({"drop": 0.1}, "fp32"), ({"bytes": 150}, "int8")],
)
def test_the_first_precision_that_holds_every_bound_ships(bounds: dict[str, float], wanted: str) -> None:
    assert search(ORDER, contract(**bounds), build).artifact == wanted


def test_nothing_is_tried_after_the_first_that_holds() -> None:
    found = search(ORDER, contract(drop=2), build)
    assert [attempt.precision for attempt in found.attempts] == [Precision.INT8, Precision.FP16]
    assert found.attempt is found.attempts[-1]


def test_a_contract_that_nothing_holds_tells_bound_excess_and_attempts() -> None:
    with pytest.raises(ContractError) as caught:
        search(ORDER, contract(bytes=50), build)
    message = str(caught.value)
    assert "max_bytes: limit 50, got 100, exceeded by 50 (int8)" in message
    assert all(precision.value in message for precision in ORDER)


def test_bounds_that_only_different_precisions_hold_are_told_as_such() -> None:
    with pytest.raises(ContractError, match="all of them by none"):
        search(ORDER, contract(drop=2, bytes=150), build)


@pytest.mark.parametrize("error", [VerifyError("the runtime crashed"), UnsupportedOpError("no", op="X", node="n")])
def test_a_precision_that_cannot_be_built_or_run_is_recorded_and_the_next_is_tried(error: Exception) -> None:
    def fragile(precision: Precision) -> Candidate[str]:
        if precision is Precision.INT8:
            raise error
        return build(precision)

    found = search(ORDER, contract(drop=2), fragile)
    assert found.artifact == "fp16"
    assert found.attempts[0].error
    assert not found.attempts[0].held


def test_when_nothing_can_be_built_the_last_reason_is_told() -> None:
    def broken(precision: Precision) -> Candidate[str]:
        raise UnsupportedOpError(f"no {precision}", op="X", node="n")

    with pytest.raises(UnsupportedOpError, match="no fp32"):
        search(ORDER, contract(), broken)


def test_wrong_input_ends_the_search() -> None:
    def wrong(_precision: Precision) -> Candidate[str]:
        raise DataError("labels do not fit")

    with pytest.raises(DataError, match="labels"):
        search(ORDER, contract(), wrong)


def test_nothing_to_try_is_refused() -> None:
    with pytest.raises(ValueError, match="no precision"):
        search((), contract(), build)
