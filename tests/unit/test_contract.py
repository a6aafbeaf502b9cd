from __future__ import annotations

import pytest

from edgepe.contract import BoundKind, Contract, Measured, judge


def test_a_contract_without_bounds_is_always_held() -> None:
    verdict = judge(Contract(metric="accuracy"), Measured(drop=None, bytes=1 << 30, latency_us=None))
    assert verdict.held
    assert verdict.bounds == ()


def test_every_bound_is_named_with_limit_value_and_excess() -> None:
    contract = Contract(metric="accuracy", max_drop=1.0, max_bytes=1_000, max_latency_us=50)
    verdict = judge(contract, Measured(drop=2.5, bytes=900, latency_us=80.0))
    assert not verdict.held
    assert [bound.kind for bound in verdict.broken] == [BoundKind.DROP, BoundKind.LATENCY_US]
    assert [bound.over for bound in verdict.bounds] == [1.5, 0, 30]
    assert str(verdict.bounds[0]) == "max_drop: limit 1, got 2.5, exceeded by 1.5"
    assert str(verdict.bounds[1]) == "max_bytes: limit 1000, got 900, held"


@pytest.mark.parametrize(
    "contract",
    [Contract(metric="mse", max_drop=1.0), Contract(metric="mse", max_latency_us=1.0)],
    ids=["drop", "latency"],
)
def test_a_bound_that_cannot_be_checked_is_broken(contract: Contract) -> None:
    verdict = judge(contract, Measured(drop=None, bytes=1, latency_us=None))
    assert not verdict.held
    assert "unknown" in str(verdict.bounds[0])


def test_a_value_at_its_limit_is_held() -> None:
    assert judge(Contract(metric="accuracy", max_drop=2.0), Measured(drop=2.0, bytes=1, latency_us=None)).held
