from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepe.errors import DataError, MissingFileError
from edgepe.graph.fit_cost import FEWEST, REACH, fit_cost, mean_error, overlay_text
from edgepe.graph.reports import Report, read_reports
from edgepe.graph.work import Load, load_us
from edgepe.scheme import Precision
from edgepe.target import CostRow, CostTable, load_target

INT8, FP32 = Precision.INT8, Precision.FP32
PRIOR = CostTable(
    source="arithmetic",
    call_us=15,
    op_us=3,
    rows=(
        CostRow(precision=INT8, macs_per_us=23000, elements_per_us=1200),
        CostRow(precision=FP32, macs_per_us=5800, elements_per_us=600),
    ),
)
TRUTH = CostTable(
    source="the board",
    call_us=60,
    op_us=5,
    rows=(
        CostRow(precision=INT8, macs_per_us=9000, elements_per_us=500),
        CostRow(precision=FP32, macs_per_us=4000, elements_per_us=900),
    ),
)


def seen(count: int, *, seed: int = 0, noise: float = 0.0) -> list[Report]:
    """Return what a board of ``TRUTH`` reports of random models, some int8 and some float."""
    rng = np.random.default_rng(seed)
    reports = []
    for place in range(count):
        precision = (INT8, FP32)[place % 2]
        load = Load(
            ops=int(rng.integers(5, 80)),
            macs={precision: int(10 ** rng.uniform(5, 8.5))},
            elements={precision: int(10 ** rng.uniform(3, 6))},
        )
        factor = float(np.exp(rng.normal(0, noise)))
        reports.append(Report(load=load, latency_us=(load_us(load, TRUTH) or 0) * factor, device="d", whole=True))
    return reports


def test_a_board_without_noise_is_found_exactly_enough() -> None:
    fit = fit_cost(seen(24), PRIOR)
    assert mean_error(seen(50, seed=1), [fit.cost] * 50) < 0.03  # the pull towards the profile costs some


@pytest.mark.parametrize("seed", range(5))
def test_predictions_get_better_on_reports_never_seen(seed: int) -> None:
    fit = fit_cost(seen(16, seed=seed, noise=0.1), PRIOR)
    held_out = seen(60, seed=100 + seed, noise=0.1)
    before, after = (mean_error(held_out, [table] * 60) for table in (PRIOR, fit.cost))
    assert after < 0.6 * before
    assert fit.error_after < fit.error_before


def test_what_the_reports_do_not_tell_stays_as_the_profile_has_it() -> None:
    only_int8 = [report for report in seen(24) if INT8 in report.load.macs]
    row = fit_cost(only_int8, PRIOR).cost.row(FP32)
    assert row is not None
    assert row.macs_per_us == pytest.approx(5800)


def test_operators_alone_are_fitted_without_the_call() -> None:
    ops = [
        Report(load=replace(report.load, ops=1), latency_us=0.0, device="", whole=False) for report in seen(24, seed=3)
    ]
    told = [replace(op, latency_us=(load_us(op.load, TRUTH) or 0) - TRUTH.call_us) for op in ops]
    fit = fit_cost(told, PRIOR)
    assert fit.cost.call_us == pytest.approx(PRIOR.call_us)
    assert fit.error_after < 0.1


def test_the_same_load_counts_once_however_often_it_is_reported() -> None:
    reports = seen(12, noise=0.05)
    assert fit_cost(reports + reports[:1] * 500, PRIOR).cost.rows == fit_cost(reports, PRIOR).cost.rows


def test_coefficients_stay_within_reach_of_the_profile() -> None:
    slow = [replace(report, latency_us=report.latency_us * 1e6) for report in seen(12)]
    cost = fit_cost(slow, PRIOR).cost
    assert cost.call_us <= PRIOR.call_us * REACH
    assert all(
        row.macs_per_us >= old.macs_per_us / REACH * 0.999 for row, old in zip(cost.rows, PRIOR.rows, strict=True)
    )


def test_too_few_different_loads_are_refused() -> None:
    few = seen(FEWEST - 1)
    with pytest.raises(DataError, match="too few reports"):
        fit_cost(few * 10, PRIOR)


def test_a_fit_that_is_no_better_is_refused() -> None:
    exact = [replace(report, latency_us=load_us(report.load, PRIOR) or 0) for report in seen(12)]
    with pytest.raises(DataError, match="do not make predictions better"):
        fit_cost(exact, PRIOR)


def test_an_overlay_is_a_profile(tmp_path: Path) -> None:
    fit = fit_cost(seen(24), PRIOR)
    path = tmp_path / "mine.toml"
    path.write_text(overlay_text("raspberry-pi-5", fit))
    mine = load_target(path)
    assert mine.cost is not None
    assert mine.cost.call_us == pytest.approx(fit.cost.call_us, rel=1e-5)
    assert "fitted to 24 reports" in mine.cost.source
    assert (mine.name, mine.rules) == ("raspberry-pi-5", load_target("raspberry-pi-5").rules)


def as_file(folder: Path, reports: list[Report], target: str = "raspberry-pi-5") -> Path:
    """Write reports as devices send them."""
    rows = [
        {"device": each.device, "latency_us": each.latency_us, "work": each.load.to_json(), "scope": "model"}
        for each in reports
    ]
    path = folder / "reports.json"
    path.write_text(json.dumps({"schema": 1, "target": target, "reports": rows}))
    return path


def test_reports_are_read_as_they_were_written(tmp_path: Path) -> None:
    reports = seen(5)
    assert read_reports(as_file(tmp_path, reports), target="raspberry-pi-5") == tuple(reports)


def test_a_report_may_name_the_evidence_that_tells_its_work(tmp_path: Path) -> None:
    (report,) = seen(1)
    (tmp_path / "a.evidence.json").write_text(json.dumps({"work": report.load.to_json()}))
    rows = [{"latency_us": 5, "evidence": "a.evidence.json"}]
    path = tmp_path / "reports.json"
    path.write_text(json.dumps({"schema": 1, "target": "x", "reports": rows}))
    assert read_reports(path, target="x")[0].load == report.load


WORK = {"ops": 1, "int8": {"macs": 1, "elements": 1}}


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        pytest.param("[]", "the file is wrong", id="a list"),
        pytest.param("{", "not valid JSON", id="no JSON"),
        pytest.param("[" * 100_000, "not valid JSON", id="deep"),
        pytest.param({"schema": 2}, "schema 1", id="newer"),
        pytest.param({"schema": 1, "target": "y", "reports": []}, "'target'", id="other target"),
        pytest.param({"schema": 1, "target": "x", "reports": []}, "'reports'", id="none"),
        pytest.param({"schema": 1, "target": "x", "reports": [3]}, "report 1", id="a number"),
        *(
            pytest.param({"schema": 1, "target": "x", "reports": [row]}, said, id=said)
            for row, said in [
                ({"latency_us": 0, "work": WORK}, "'latency_us'"),
                ({"latency_us": 1, "work": WORK, "scope": "layer"}, "'scope'"),
                ({"latency_us": 1}, "'work'"),
                ({"latency_us": 1, "work": {"int9": {}}}, "int9"),
                ({"latency_us": 1, "work": {"int8": 1}}, "'int8'"),
                ({"latency_us": 1, "work": {"int8": {"macs": -1}}}, "'macs'"),
                ({"latency_us": 1, "work": {"ops": 1.5}}, "'ops'"),
            ]
        ),
    ],
)
def test_a_report_that_is_wrong_is_named(tmp_path: Path, whole: object, said: str) -> None:
    path = tmp_path / "reports.json"
    path.write_text(whole if isinstance(whole, str) else json.dumps(whole))
    with pytest.raises(DataError, match=said):
        read_reports(path, target="x")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="none"):
        read_reports(tmp_path / "none.json", target="x")
