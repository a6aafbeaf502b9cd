"""Fit a cost table to latencies that devices reported.

Rules kept here:
1. A latency is linear in the load: ``call + op * ops + Σ macs / speed + Σ elements / speed``; the coefficients are
   fitted by least squares of the relative errors.
2. A coefficient is positive and stays within a factor ``REACH`` of the profile's. A weak pull towards the profile keeps
   what the reports do not tell apart where it was.
3. Reports of the same load count once, by their median: a device that reports often weighs no more.
4. Too few different loads, or a fit that predicts left-out reports no better than the profile did, is refused.
5. No randomness: the same reports give the same table.

The solver is cyclic coordinate descent on the normal equations of the bounded problem, which is convex (Lawson and
Hanson 1974, "Solving Least Squares Problems", chapter 23, states it with lower bounds alone).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from edgepe.errors import DataError
from edgepe.graph.work import load_us
from edgepe.target import CostRow, CostTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgepe.graph.reports import Report

__all__ = ["FEWEST", "REACH", "Fit", "fit_cost", "overlay_text"]

FEWEST = 4
"""Different loads that a fit needs."""
REACH = 100.0
PULL = 1e-3
SWEEPS = 5000
STILL = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fitted cost table and what it is worth.

    Attributes:
        cost: The table.
        reports: Reports it was fitted to.
        loads: Different loads among them.
        devices: Devices that reported.
        error_before: Mean relative error of the profile's predictions, 0.1 is 10 %.
        error_after: The same of the fitted ones, each load predicted by a fit to all the others.
    """

    cost: CostTable
    reports: int
    loads: int
    devices: int
    error_before: float
    error_after: float


def fit_cost(reports: Sequence[Report], prior: CostTable) -> Fit:
    """Return the cost table that fits the reports best.

    Args:
        reports: What devices reported of one target.
        prior: The profile's table: its rows are those that are fitted.

    Raises:
        DataError: There are too few different loads, or the fit is no better than the profile.
    """
    points = merged(reports)
    if len(points) < FEWEST:
        raise DataError(
            "there are too few reports to fit a cost table to",
            expected=f"at least {FEWEST} different models, or operators",
            got=f"{len(points)} among {len(reports)} reports",
            next_step="run more models on the board, of different sizes and precisions",
        )
    before = mean_error(points, [prior] * len(points))
    left_out = [solve([*points[:at], *points[at + 1 :]], prior) for at in range(len(points))]
    after = mean_error(points, left_out)
    if after >= before:
        raise DataError(
            "the reports do not make predictions better",
            expected=f"an error below the profile's {before:.1%} on reports left out of the fit",
            got=f"{after:.1%}",
            next_step="report more models, or see whether the boards were busy",
        )
    devices = len({report.device for report in reports})
    return Fit(
        cost=solve(
            points, prior, source=f"fitted to {len(reports)} reports of {devices} device(s), {len(points)} loads"
        ),
        reports=len(reports),
        loads=len(points),
        devices=devices,
        error_before=before,
        error_after=after,
    )


def overlay_text(base: str, fit: Fit) -> str:
    """Return a profile, as TOML, that extends another one and replaces its cost table.

    Args:
        base: Name of the profile, or path of one beside the overlay.
        fit: The fit.
    """
    off = f"off by {fit.error_after:.0%} on reports left out, where the profile was off by {fit.error_before:.0%}"
    cost = fit.cost
    lines = [
        "# Written by `edgepe targets calibrate`: the profile below with a cost table fitted to what devices reported.",
        f"extends = {json.dumps(base)}",
        "",
        "[cost]",
        f"source = {json.dumps(f'{cost.source}; {off}')}",
        f"call_us = {cost.call_us:.6g}",
        f"op_us = {cost.op_us:.6g}",
    ]
    for row in cost.rows:
        lines += ["", f"[cost.rows.{row.precision}]"]
        lines += [f"macs_per_us = {row.macs_per_us:.6g}", f"elements_per_us = {row.elements_per_us:.6g}"]
    return "\n".join(lines) + "\n"


def merged(reports: Sequence[Report]) -> list[Report]:
    """Return one report per load, with the median latency (rule 3)."""
    groups: dict[str, list[Report]] = {}
    for report in reports:
        groups.setdefault(repr((report.load.to_json(), report.whole)), []).append(report)
    return [
        type(group[0])(
            load=group[0].load,
            latency_us=median(each.latency_us for each in group),
            device=group[0].device,
            whole=group[0].whole,
        )
        for group in groups.values()
    ]


def mean_error(points: Sequence[Report], tables: Sequence[CostTable]) -> float:
    """Return the mean relative error of predictions, one table per point."""
    errors = []
    for point, table in zip(points, tables, strict=True):
        told = load_us(point.load, table) or 0.0
        errors.append(abs(told - (0.0 if point.whole else table.call_us) - point.latency_us) / point.latency_us)
    return sum(errors) / len(errors)


def solve(points: Sequence[Report], prior: CostTable, *, source: str = "") -> CostTable:
    """Return the table of rules 1 and 2."""
    first = costs_of(prior)
    rows = np.array([features(point, prior) for point in points]) * first
    target = np.array([point.latency_us for point in points])
    scaled = rows / target[:, None]
    pull = PULL * len(points)
    normal = scaled.T @ scaled + pull * np.eye(len(first))
    factor = bounded(normal, scaled.sum(axis=0) + pull)
    call, op, *rest = (float(cost) for cost in first * factor)
    speeds = [1.0 / cost for cost in rest]
    return CostTable(
        source=source,
        call_us=call,
        op_us=op,
        rows=tuple(
            CostRow(precision=row.precision, macs_per_us=speeds[2 * at], elements_per_us=speeds[2 * at + 1])
            for at, row in enumerate(prior.rows)
        ),
    )


def bounded(normal: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the x in [1/REACH, REACH] of least x'Nx/2 - w'x, from x = 1."""
    x = np.ones(len(wanted))
    for _ in range(SWEEPS):
        before = x.copy()
        for at in range(len(x)):
            rest = wanted[at] - normal[at] @ x + normal[at, at] * x[at]
            x[at] = min(max(rest / normal[at, at], 1.0 / REACH), REACH)
        if np.abs(x - before).max() < STILL:
            break
    return x


def costs_of(table: CostTable) -> NDArray[np.float64]:
    """Return a table's coefficients: call, operator, then per row µs a multiply-accumulate and µs an element."""
    speeds = [1.0 / speed for row in table.rows for speed in (row.macs_per_us, row.elements_per_us)]
    return np.array([table.call_us, table.op_us, *speeds])


def features(report: Report, table: CostTable) -> list[float]:
    """Return what each coefficient is multiplied with; a precision without a row counts as the table's last resort."""
    known = {row.precision for row in table.rows}
    load = report.load
    found = [1.0 if report.whole else 0.0, float(load.ops)]
    for row in table.rows:
        mine = {row.precision} | (({*load.macs, *load.elements} - known) if row.precision == "fp32" else set())
        found.append(float(sum(load.macs.get(precision, 0) for precision in mine)))
        found.append(float(sum(load.elements.get(precision, 0) for precision in mine)))
    return found
