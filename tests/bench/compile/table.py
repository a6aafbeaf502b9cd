"""The result as one Markdown table, with a verdict per goal.

Rules kept here:
1. Every figure comes from the result; a goal that is missed is said to be missed.
2. A goal on scores counts as held where our loss against the best peer is not above zero by more than its interval.
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.bench.compile.result import Build, Result, Row

__all__ = ["OURS", "goals", "markdown", "with_section"]

OURS = "edgepe"
BEGIN, END = "<!-- bench-compile begins -->", "<!-- bench-compile ends -->"
HEAD = (
    "| net (float) | target | tool | bytes | drop, points [95 %] | CPU s | with start | wall s | peak MB | vs float |",
    "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
)
MEAN_DROP = 0.1  # points


def markdown(result: Result) -> str:
    """Return the section of the README."""
    lines = [preface(result), "", *HEAD]
    for group in grouped(result.rows):
        lines += [table_line(row, group) for row in group]
    return "\n".join([*lines, "", *goals(result), "", *builds_table(result.builds)])


def preface(result: Result) -> str:
    """Return where and how the figures were taken."""
    seeds = ", ".join(str(seed) for seed in sorted({row.seed for row in result.rows}))
    return (
        f"Host: {result.host}. Software: {result.software}. Seeds: {seeds}. Times are medians of {result.repeats} "
        f"{'run' if result.repeats == 1 else 'runs'} while other work shared the cores (load {result.load:.1f}): the "
        "processor time is the one to read; 'with start' adds Python and the imports. Every tool got the same stripped "
        "float file and the same calibration samples (320, or all where fewer); every artifact is scored by the same "
        "child on test samples that no tool saw. Peak memory is of the whole process. 'vs float' is the float file's "
        "time over the artifact's, where host and target agree."
    )


def grouped(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each net, seed and target together, in the order in which they came."""
    groups: dict[tuple[str, int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.net, row.seed, row.target), []).append(row)
    return list(groups.values())


def table_line(row: Row, group: list[Row]) -> str:
    """Return one line; the best figure of its group is bold."""
    head = (
        f"| {row.net}-{row.seed} ({row.float_score:.4f}, {row.float_bytes}) | {row.target} | {row.tool} {row.version} |"
    )
    if row.error:
        return f"{head} fails: {cell(row.error)} | | | | | | |"
    made = [each for each in group if not each.error]
    size = bold(str(row.bytes), best=row.bytes == min(each.bytes for each in made))
    loss = bold(f"{row.drop:+.2f}", best=row.drop == min(each.drop for each in made))
    drop = f"{loss} [{row.low:+.2f}, {row.high:+.2f}]" if row.samples else "not scored"
    cpu = bold(f"{row.cpu_s:.2f}", best=row.cpu_s == min(each.cpu_s for each in made))
    start = bold(f"{row.all_cpu_s:.2f}", best=row.all_cpu_s == min(each.all_cpu_s for each in made))
    peak = bold(f"{row.rss_bytes / 1e6:.0f}", best=row.rss_bytes == min(each.rss_bytes for each in made))
    speed = "" if row.speed is None else f"{row.speed:.2f}x"
    return f"{head} {size} | {drop} | {cpu} | {start} | {row.work_s:.2f} | {peak} | {speed} |"


def cell(text: str) -> str:
    """Return words that keep to one cell of a table."""
    return " ".join(text.replace("|", "/").split())


def bold(text: str, *, best: bool) -> str:
    """Return the text, marked where it is the best."""
    return f"**{text}**" if best else text


def goals(result: Result) -> list[str]:
    """Return one line per goal: held in how many of the cases, and which ones miss it."""
    pairs = list(ours_and_peers(result.rows))
    ours = [mine for mine, _ in pairs if not mine.error]
    judged = [mine for mine in ours if mine.samples]
    fails = [row for row in result.rows if row.error and row.tool != OURS]
    lines = [
        verdict("bytes ≤ the smallest peer's", [(m, m.bytes <= min(p.bytes for p in peers)) for m, peers in pairs]),
        verdict(
            "score ≥ the best peer's (paired, within the interval)", [(m, (m.behind_low or 0.0) <= 0) for m in judged]
        ),
        f"- mean drop: {fmean(m.drop for m in judged):+.3f} points (goal ≤ {MEAN_DROP})"
        if judged
        else "- mean drop: none",
        verdict(
            "processor time ≤ the fastest peer's", [(m, m.cpu_s <= min(p.cpu_s for p in peers)) for m, peers in pairs]
        ),
        verdict(
            "processor time with start ≤ the fastest peer's",
            [(m, m.all_cpu_s <= min(p.all_cpu_s for p in peers)) for m, peers in pairs],
        ),
        verdict(
            "peak memory ≤ the leanest peer's",
            [(m, m.rss_bytes <= min(p.rss_bytes for p in peers)) for m, peers in pairs],
        ),
        verdict(
            "faster than the float file where it is measured", [(m, m.speed >= 1) for m in ours if m.speed is not None]
        ),
        f"- cases in which a peer fails: {len(fails)}" + listed(f"{row.tool} on {case(row)}" for row in fails),
    ]
    shipped = [build for build in result.builds if not build.error]
    if shipped:
        held = sum(build.covered for build in shipped)
        lines.append(
            f"- the claimed interval holds the drop on unseen data: {held} of {len(shipped)} builds (goal 95 %)"
        )
    return lines


def ours_and_peers(rows: Sequence[Row]) -> Iterable[tuple[Row, list[Row]]]:
    """Yield our row and the peers' that made something, per group in which both exist."""
    for group in grouped(rows):
        peers = [row for row in group if row.tool != OURS and not row.error]
        for mine in group:
            if mine.tool == OURS and peers:
                yield mine, peers


def verdict(goal: str, cases: list[tuple[Row, bool]]) -> str:
    """Return a goal's line; a row of ours that failed misses every goal."""
    missed = [row for row, held in cases if row.error or not held]
    return f"- {goal}: {len(cases) - len(missed)} of {len(cases)}" + listed(case(row) for row in missed)


def listed(names: Iterable[str]) -> str:
    """Return what is missed, in brackets; nothing where nothing is."""
    text = ", ".join(names)
    return f" ({text})" if text else ""


def case(row: Row) -> str:
    """Return the name of one case."""
    return f"{row.net}-{row.seed} for {row.target}"


def builds_table(builds: Sequence[Build]) -> list[str]:
    """Return what ships, one line per build."""
    if not builds:
        return []
    lines = [
        "What `edgepe build --max-drop 1` ships (claimed on the evaluation part, checked on the test part):",
        "",
        "| net | target | ships | bytes | claimed drop [95 %] | drop on unseen data | vs float | s in all |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    return [*lines, *(build_line(build) for build in builds)]


def build_line(build: Build) -> str:
    """Return one line of what ships."""
    head = f"| {build.net}-{build.seed} | {build.target} |"
    if build.error:
        return f"{head} nothing: {cell(build.error)} | | | | | |"
    speed = "" if build.speed is None else f"{build.speed:.2f}x {build.speed_is}"
    mark = "" if build.covered else " (outside)"
    return (
        f"{head} {build.precision} | {build.bytes} | {build.drop:+.2f} [{build.low:+.2f}, {build.high:+.2f}] | "
        f"{build.test_drop:+.2f}{mark} | {speed} | {build.seconds:.1f} |"
    )


def with_section(readme: str, section: str) -> str:
    """Return a README with its generated section replaced, or added at the end."""
    block = f"{BEGIN}\n{section}\n{END}\n"
    if BEGIN not in readme:
        return f"{readme.rstrip()}\n\n{block}"
    before, rest = readme.split(BEGIN, 1)
    return before + block + rest.split(END, 1)[1].lstrip("\n")
