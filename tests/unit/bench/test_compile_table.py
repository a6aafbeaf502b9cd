"""The benchmark's table and its result file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench.compile.result import Build, Result, Row, read_result, write_result
from tests.bench.compile.table import goals, markdown, with_section

PEER = Row(
    net="net",
    seed=1,
    target="board",
    tool="nncf",
    bytes=100,
    samples=50,
    cpu_s=2.0,
    rss_bytes=300,
    float_score=0.9,
    drop=0.5,
    speed=1.5,
)
OURS = replace(PEER, tool="edgepe", bytes=90, cpu_s=1.0, rss_bytes=200, drop=0.1, behind_best=-0.4, behind_low=-0.9)
BUILD = Build(net="net", seed=1, target="board", precision="int8", low=-0.5, high=0.5, test_drop=0.2)


def result(*rows: Row, builds: tuple[Build, ...] = (BUILD,)) -> Result:
    return Result(host="host", software="tools", repeats=3, load=1.0, rows=rows, builds=builds)


def test_a_result_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_result(path, result(OURS, PEER))
    assert read_result(path) == result(OURS, PEER)


@pytest.mark.parametrize(
    "spoil",
    [lambda d: d.update(schema=0), lambda d: d["rows"][0].pop("bytes"), lambda d: d["builds"][0].update(more=1)],
)
def test_a_result_of_another_schema_is_refused(tmp_path: Path, spoil: Callable[[dict[str, Any]], object]) -> None:
    path = tmp_path / "result.json"
    write_result(path, result(OURS, PEER))
    data = json.loads(path.read_text())
    spoil(data)
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"schema|fields"):
        read_result(path)


def test_the_best_figure_of_a_group_is_bold_and_a_goal_that_is_held_lists_no_case() -> None:
    text = markdown(result(OURS, PEER))
    assert "**90**" in text
    assert "**100**" not in text
    assert "- bytes ≤ the smallest peer's: 1 of 1\n" in text


@pytest.mark.parametrize(
    ("worse", "words"),
    [
        ({"bytes": 101}, "bytes ≤ the smallest peer's: 0 of 1 (net-1 for board)"),
        ({"behind_low": 0.1}, "score ≥ the best peer's (paired, within the interval): 0 of 1"),
        ({"cpu_s": 3.0}, "processor time ≤ the fastest peer's: 0 of 1"),
        ({"all_cpu_s": 0.5}, "processor time with start ≤ the fastest peer's: 0 of 1"),
        ({"rss_bytes": 400}, "peak memory ≤ the leanest peer's: 0 of 1"),
        ({"speed": 0.9}, "faster than the float file where it is measured: 0 of 1"),
    ],
)
def test_a_missed_goal_names_its_case(worse: dict[str, Any], words: str) -> None:
    assert any(words in line for line in goals(result(replace(OURS, **worse), PEER)))


def test_a_tool_that_fails_is_a_row_with_its_reason() -> None:
    failed = replace(PEER, tool="olive", error="no such |\n operator")
    text = markdown(result(OURS, PEER, failed))
    assert "fails: no such / operator" in text
    assert "cases in which a peer fails: 1 (olive on net-1 for board)" in text


def test_a_net_of_which_only_time_counts_has_no_drop() -> None:
    text = markdown(result(replace(OURS, samples=0), replace(PEER, samples=0), builds=()))
    assert "not scored" in text
    assert "mean drop: none" in text


def test_our_own_failure_misses_the_goals() -> None:
    assert "0 of 1" in goals(result(replace(OURS, error="broken"), PEER))[0]


def test_a_claim_that_does_not_hold_on_unseen_data_is_counted() -> None:
    (line,) = (
        line for line in goals(result(OURS, PEER, builds=(BUILD, replace(BUILD, test_drop=0.6)))) if "claimed" in line
    )
    assert "1 of 2" in line


def test_the_generated_section_replaces_itself_and_keeps_the_rest() -> None:
    once = with_section("# Title\n\nWords.\n", "first")
    assert with_section(once, "second") == once.replace("first", "second")
    assert once.startswith("# Title\n\nWords.\n")
