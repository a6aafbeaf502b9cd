"""Charts as inline SVG: small pure functions from numbers to markup.

Rules kept here:
1. Widths are percentages, heights and letters pixels: a chart fills a phone or a page and its text keeps its size.
2. Colours come from classes of the style sheet, so that one chart serves light, dark and paper.
3. Each chart says in its ``aria-label`` what it shows, and each mark has a ``title``; no number stands in colour alone.
4. A value that is not finite is not drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepe.bundle.report.markup import Html, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Bins", "Stem", "bar", "bin_values", "histogram", "interval", "stems"]

PLOT = 168  # height of a stem chart, px
TOP = 12
GRID_DB = 20
HIGHEST_DB = 80
LOWEST_TOP_DB = 40
BINS = 48
WITHIN = 0.95  # share of the values that the bins hold at least: a tail would press the rest into one bin
HISTOGRAM = 62  # height of a histogram, px
RULER = 34  # height of an interval chart's middle line, px
EDGE = 0.5
SPARSE = 50  # more stems than these have smaller heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Stem:
    """One value of a stem chart.

    Attributes:
        title: What a reader is told who points at it.
        value: Its height.
        tone: Class of its colour.
    """

    title: str
    value: float
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """Values counted in bins of one width.

    Attributes:
        low: Left end of the first bin.
        high: Right end of the last.
        counts: How many values each bin holds.
        beyond: How many values lie right of ``high``.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    beyond: int

    def share(self, value: float) -> float:
        """Return where a value lies between the ends, in percent."""
        return 100.0 * (value - self.low) / (self.high - self.low)


def bar(share: float, tone: str, *, mark: float | None = None) -> Html:
    """Return a horizontal bar.

    Args:
        share: Its length, 0 to 1; kept within.
        tone: Class of its colour.
        mark: Where a threshold stands, 0 to 1.
    """
    parts = [tag("rect", class_=tone, width=_percent(share), height="100%", rx=2)]
    if mark is not None:
        parts.append(tag("line", class_="threshold", x1=_percent(mark), x2=_percent(mark), y1=0, y2="100%"))
    return tag("svg", *parts, class_="bar", aria_hidden="true")


def stems(rows: Sequence[Stem], *, threshold: float, label: str) -> Html:
    """Return a chart with one stem a row, in their order, over a scale in dB.

    Args:
        rows: What to draw; values beyond the scale are drawn at its end.
        threshold: Where the dashed line stands.
        label: What the chart shows.
    """
    finite = [row.value for row in rows if math.isfinite(row.value)]
    highest = max(LOWEST_TOP_DB, min(HIGHEST_DB, GRID_DB * math.ceil(max(finite, default=0.0) / GRID_DB)))
    parts: list[Html] = []
    for level in range(0, highest + 1, GRID_DB):
        y = _height(level, highest)
        parts.append(tag("line", class_="grid", x1=0, x2="100%", y1=y, y2=y))
        parts.append(tag("text", f"{level} dB", x=-8, y=y + 4, text_anchor="end"))
    y = _height(threshold, highest)
    parts.append(tag("line", class_="threshold", x1=0, x2="100%", y1=y, y2=y))
    parts.extend(
        _stem(row, (index + EDGE) / len(rows), highest, 4 if len(rows) <= SPARSE else 2.5)
        for index, row in enumerate(rows)
        if math.isfinite(row.value)
    )
    words = f"\N{EN DASH} \N{EN DASH} divergent below {threshold:g} dB"
    parts.append(tag("text", words, class_="threshold-text", x="100%", y=TOP, text_anchor="end"))
    return tag("svg", *parts, class_="chart gutter", height=PLOT + 2 * TOP, role="img", aria_label=label)


def bin_values(series: Iterable[Sequence[float]], *, bins: int = BINS) -> tuple[Bins, ...]:
    """Count several series of values in the same bins; the largest twentieth of each may lie beyond their end."""
    sets = [sorted(values) for values in series if values]
    if not sets:
        return ()
    low = min(values[0] for values in sets)
    high = max(values[math.ceil(WITHIN * len(values)) - 1] for values in sets)
    margin = max(0.02 * (high - low), 1e-9 + 1e-3 * abs(high))
    low, high = low - margin, high + margin
    return tuple(_bins(values, low, high, bins) for values in sets)


def histogram(bins: Bins, tone: str, marks: Sequence[tuple[str, float]], *, label: str) -> Html:
    """Return a histogram with named marks.

    Args:
        bins: What to draw.
        tone: Class of the bars' colour.
        marks: (name, value) of each mark; one beyond the ends is drawn at the end.
        label: What the chart shows.
    """
    most = max(*bins.counts, 1)
    width = 100.0 / len(bins.counts)
    parts = [
        tag(
            "rect",
            class_=tone,
            x=f"{index * width + 0.08:.2f}%",
            width=f"{width - 0.16:.2f}%",
            y=TOP + 8 + HISTOGRAM * (1 - count / most),
            height=HISTOGRAM * count / most,
        )
        for index, count in enumerate(bins.counts)
        if count
    ]
    base = TOP + 8 + HISTOGRAM
    parts.append(tag("line", class_="axis", x1=0, x2="100%", y1=base, y2=base))
    for name, value in marks:
        share = min(100.0, max(0.0, bins.share(value)))
        anchor = "start" if share < 12 else "end" if share > 60 else "middle"  # noqa: PLR2004 - where letters still fit
        parts.append(tag("line", class_="mark", x1=f"{share:.2f}%", x2=f"{share:.2f}%", y1=TOP + 4, y2=base))
        parts.append(tag("text", name, x=f"{share:.2f}%", y=TOP, text_anchor=anchor))
    return tag("svg", *parts, class_="chart", height=base + 2, role="img", aria_label=label)


def interval(*, low: float, value: float, high: float, limit: float | None, unit: str) -> Html:
    """Return a line with an interval, its value, zero, and the limit where there is one.

    A value left of zero is a gain. Returns nothing to see where the interval is not finite.
    """
    known = [0.0, low, value, high, *([] if limit is None else [limit])]
    if not all(math.isfinite(each) for each in known):
        return tag("p", "The interval is not finite and is not drawn.", class_="note")
    least, most = min(known), max(known)
    margin = 0.08 * (most - least) or 1.0
    least, most = least - margin, most + margin

    def at(each: float) -> str:
        return _percent((each - least) / (most - least))

    parts = [tag("line", class_="axis", x1=0, x2="100%", y1=RULER, y2=RULER), _tick(at(0.0), "0", below=True)]
    if limit is not None:
        rest = _percent(1 - (limit - least) / (most - least))
        parts.append(tag("rect", class_="beyond", x=at(limit), y=RULER - 14, width=rest, height=28))
        parts.append(_tick(at(limit), f"limit {limit:g}", below=False, tone="threshold"))
    parts.append(tag("line", class_="whisker", x1=at(low), x2=at(high), y1=RULER, y2=RULER))
    parts.append(tag("circle", tag("title", f"drop {value:.2f} {unit}"), class_="dot", cx=at(value), cy=RULER, r=6))
    label = f"drop {value:.2f} {unit}, interval {low:.2f} to {high:.2f}" + (
        f", limit {limit:g}" if limit is not None else ""
    )
    return tag("svg", *parts, class_="chart", height=2 * RULER, role="img", aria_label=label)


def _stem(row: Stem, share: float, highest: int, radius: float) -> Html:
    x, y = _percent(share), _height(row.value, highest)
    return tag(
        "g",
        tag("title", row.title),
        tag("line", class_="stem", x1=x, x2=x, y1=_height(0, highest), y2=y),
        tag("circle", cx=x, cy=y, r=radius),
        class_=row.tone,
    )


def _tick(x: str, text: str, *, below: bool, tone: str = "grid") -> Html:
    y = RULER + 28 if below else RULER - 18
    line = tag("line", class_=tone, x1=x, x2=x, y1=RULER - 14, y2=RULER + 14)
    return tag("g", line, tag("text", text, x=x, y=y, text_anchor="middle"))


def _bins(values: Sequence[float], low: float, high: float, bins: int) -> Bins:
    counts = [0] * bins
    for value in values:
        if value <= high:
            counts[min(bins - 1, int(bins * (value - low) / (high - low)))] += 1
    return Bins(low=low, high=high, counts=tuple(counts), beyond=len(values) - sum(counts))


def _height(value: float, highest: float) -> float:
    return TOP + PLOT * (1 - min(1.0, max(0.0, value / highest)))


def _percent(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"
