from __future__ import annotations

import math
import re

import pytest

from edgepe.bundle.report.charts import Bins, Stem, bar, bin_values, histogram, interval, stems
from edgepe.bundle.report.markup import join, tag
from edgepe.bundle.report.parts import signed


def numbers(markup: str, name: str) -> list[float]:
    """Return the values of an attribute, without their percent signs."""
    return [float(value.rstrip("%")) for value in re.findall(rf'\b{name}="([-0-9.]+%?)"', markup)]


@pytest.mark.parametrize(("share", "width"), [(-1.0, 0.0), (0.25, 25.0), (1.0, 100.0), (7.0, 100.0)])
def test_a_bar_keeps_within_its_ends(share: float, width: float) -> None:
    assert numbers(bar(share, "artifact").text, "width") == [width]


def test_a_bar_can_carry_a_threshold() -> None:
    assert numbers(bar(0.5, "artifact", mark=0.2).text, "x1") == [20.0]


def test_higher_values_stand_higher_and_stay_on_the_chart() -> None:
    rows = [Stem(title=f"layer {value}", value=value, tone="artifact") for value in (-150.0, 5.0, 30.0, 150.0)]
    heights = numbers(stems(rows, threshold=10, label="layers").text, "cy")
    assert heights == sorted(heights, reverse=True)
    assert min(heights) >= 0
    assert max(heights) <= 192


def test_values_that_are_not_finite_are_not_drawn() -> None:
    rows = [Stem(title="a", value=math.nan, tone="bad"), Stem(title="b", value=20.0, tone="artifact")]
    markup = stems(rows, threshold=10, label="layers").text
    assert markup.count("<circle") == 1
    assert "nan" not in markup
    assert "not drawn" in interval(low=0, value=math.inf, high=math.inf, limit=None, unit="percent").text


def test_a_chart_of_nothing_is_still_a_chart() -> None:
    assert "<circle" not in stems([], threshold=10, label="layers").text


def test_a_stems_title_is_text() -> None:
    markup = stems([Stem(title="<script>", value=1.0, tone="bad")], threshold=10, label='a "b"').text
    assert "<script>" not in markup
    assert 'aria-label="a &quot;b&quot;"' in markup


def test_bins_hold_every_value_or_say_how_many_they_leave_out() -> None:
    first, second = [10.0 + n / 10 for n in range(100)], [12.0] * 99 + [5000.0]
    for values, bins in zip((first, second), bin_values([first, second]), strict=True):
        assert sum(bins.counts) + bins.beyond == len(values)
        assert (bins.low, bins.high) == (bin_values([first, second])[0].low, bin_values([first, second])[0].high)
    assert bin_values([first, second])[1].beyond == 1


def test_equal_values_have_a_bin() -> None:
    (bins,) = bin_values([[7.0] * 5])
    assert sum(bins.counts) == 5


def test_no_values_have_no_bins() -> None:
    assert bin_values([[]]) == ()


def test_a_mark_beyond_the_ends_is_drawn_at_the_end() -> None:
    bins = Bins(low=0.0, high=10.0, counts=(3, 1), beyond=2)
    markup = histogram(bins, "artifact", [("median", 5.0), ("p99", 90.0)], label="latency").text
    assert numbers(markup, "x1")[1:] == [50.0, 100.0]
    assert "p99" in markup


def test_an_interval_lies_left_to_right() -> None:
    markup = interval(low=-1.0, value=0.5, high=1.5, limit=2.0, unit="points").text
    (value,) = numbers(markup, "cx")
    assert re.search(r'class="whisker"', markup)
    assert "limit 2" in markup
    assert 0 < value < 100


def test_an_interval_of_one_point_is_drawn() -> None:
    assert "<circle" in interval(low=0.0, value=0.0, high=0.0, limit=None, unit="points").text


def test_text_is_escaped_wherever_it_stands() -> None:
    assert tag("p", "<b>", title='"&<').text == '<p title="&quot;&amp;&lt;">&lt;b&gt;</p>'
    assert join(["<i>", tag("b", "&")]).text == "&lt;i&gt;<b>&amp;</b>"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.001, "0.00"), (-0.001, "0.00"), (1.0, "+1.00"), (-2.5, "\N{MINUS SIGN}2.50")]
)
def test_a_number_near_zero_has_no_sign(value: float, shown: str) -> None:
    assert signed(value) == shown
