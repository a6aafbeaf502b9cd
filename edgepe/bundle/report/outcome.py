"""What a build came to: head, contract, sizes, score, latency.

Rules kept here:
1. A measured time is shown with the machine that it was measured on, a predicted one with the word and its source.
2. A score is shown with its interval, the number of samples and what ran them.
3. What is not known is said to be unknown; nothing stands as zero that was not found to be zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgepe.bundle.report.charts import bar, bin_values, histogram, interval
from edgepe.bundle.report.markup import Html, join, tag
from edgepe.bundle.report.parts import badge, facts, kilobytes, micros, note, paragraph, section, signed, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from device_agent.wire.manifest import Manifest, MetricClaim
    from edgepe.bundle.findings import Findings, JudgedBound, Timing

__all__ = ["contract", "head", "latency", "score", "sizes"]

HELD, BROKEN, OPEN = ("Contract held", "good"), ("Contract broken", "bad"), ("No bound was set", "idle")
BOUND_NAMES = {"max_drop": "Score drop", "max_bytes": "Model file", "max_latency_us": "Latency"}


def head(manifest: Manifest, findings: Findings, *, file: str) -> Html:
    """Return the head of the page: what it is about, the verdict, and four figures."""
    text, tone = _verdict(findings)
    return tag(
        "header",
        tag("p", "edgepe build report", class_="eyebrow"),
        tag("div", tag("h1", f"{manifest.name} {manifest.version}"), badge(text, tone), class_="title"),
        tag("p", f"for {manifest.target}: {manifest.format}, {manifest.precision}", class_="lead"),
        tag("p", file, class_="note"),
        tag("div", *_tiles(manifest, findings), class_="tiles"),
    )


def contract(manifest: Manifest, findings: Findings) -> Html:
    """Return the verdict, bound by bound, and why this precision ships."""
    bounds = _bounds(findings)
    why = paragraph("Why ", tag("b", manifest.precision), f": {findings.why or 'not recorded'}.")
    if not bounds:
        return section(
            "contract", "Contract", why, note("The build was given no bound, so nothing was there to hold or break.")
        )
    heads = (("bound", ""), ("limit", "num"), ("value", "num"), ("95 % interval", "num"), ("verdict", ""))
    rows = [_bound_row(bound, manifest.metric, findings) for bound in bounds]
    more = [note(text) for text in _remarks(bounds, manifest.metric)]
    return section("contract", "Contract", why, table(heads, rows), *more)


def sizes(manifest: Manifest, findings: Findings) -> Html:
    """Return the sizes of float model, artifact and bundle."""
    size = manifest.file(manifest.model).bytes
    rows = [("model file", size, "artifact")]
    if findings.float_bytes is not None:
        rows.insert(0, (f"float {manifest.format} file", findings.float_bytes, "float"))
    most = max(*(each for _, each, _ in rows), 1)
    bars = table(
        (("file", ""), ("", "bar-cell long"), ("bytes", "num")),
        [(name, bar(each / most, tone), f"{each:,}") for name, each, tone in rows],
    )
    return section("size", "Size", bars, facts(_size_facts(manifest, findings, size)))


def score(manifest: Manifest, findings: Findings) -> Html:
    """Return the score beside the float model's, with the interval of its loss."""
    claim = manifest.metric
    if claim is None:
        return section("score", "Score", note("Nothing was scored."))
    limit = next((bound.limit for bound in _bounds(findings) if bound.kind == "max_drop"), None)
    unit = findings.drop_unit
    rows = (
        ("metric", claim.name),
        ("float model", f"{claim.float_score:.4f}"),
        ("artifact", f"{claim.score:.4f}"),
        (f"drop, {unit}", f"{signed(claim.drop)}  (95 % interval {_span(claim)})"),
        ("samples", f"{claim.samples:,}, the same for both"),
        ("scored on", claim.scored_on),
        ("interval", _method(findings.interval_method)),
    )
    return section(
        "score",
        "Score",
        interval(low=claim.low, value=claim.drop, high=claim.high, limit=limit, unit=unit),
        note(
            f"Drop in {unit} against the float model; left of zero the artifact is better. "
            "The dot is the drop, the bar its interval."
        ),
        facts(rows),
    )


def latency(findings: Findings) -> Html:
    """Return the latency of artifact and float model, measured or predicted."""
    pairs = [("artifact", findings.timing)]
    if findings.float_timing is not None:
        pairs.insert(0, ("float", findings.float_timing))
    parts = [_histograms(pairs)] if any(timing.times_us for _, timing in pairs) else [_bars(pairs)]
    heads = (("model", ""), ("latency", "num"), ("p99", "num"), ("it is", ""), ("open", "num"), ("first run", "num"))
    rows = [
        (
            name,
            micros(timing.us),
            micros(timing.p99_us) if timing.measured else "not measured",
            badge(timing.kind if timing.us is not None else "unknown", "good" if timing.measured else "warn"),
            micros(timing.load_us),
            micros(timing.cold_us),
        )
        for name, timing in pairs
    ]
    parts.extend((table(heads, rows), *_turns(findings)))
    return section("latency", "Latency", *parts, *(note(text) for text in _latency_notes(findings)))


def _verdict(findings: Findings) -> tuple[str, str]:
    bounds = _bounds(findings)
    return OPEN if not bounds else HELD if all(bound.held for bound in bounds) else BROKEN


def _bounds(findings: Findings) -> tuple[JudgedBound, ...]:
    """Return the bounds of the attempt that ships: the last that held, else the last."""
    tried = findings.attempts
    return next((each.bounds for each in reversed(tried) if each.held), tried[-1].bounds if tried else ())


def _tiles(manifest: Manifest, findings: Findings) -> Iterator[Html]:
    size, claim, timing = manifest.file(manifest.model).bytes, manifest.metric, findings.timing
    before = findings.float_bytes
    ratio = (
        f"{before / size:.2f}x smaller than float ({kilobytes(before)})"
        if before and size
        else "float size not recorded"
    )
    yield _tile("Model file", kilobytes(size), ratio)
    if claim is not None:
        yield _tile(claim.name.capitalize(), f"{claim.score:.4f}", f"float {claim.float_score:.4f}")
        yield _tile(f"Drop, {findings.drop_unit}", signed(claim.drop), f"95 % interval {_span(claim)}")
    twin = findings.float_timing
    beside = f", float {micros(twin.us)}" if twin is not None and twin.us is not None else ""
    yield _tile("Latency", micros(timing.us), f"{timing.kind}{beside}" if timing.us is not None else "no cost table")


def _tile(name: str, figure: str, remark: str) -> Html:
    return tag("div", tag("p", name, class_="name"), tag("p", figure, class_="figure"), tag("p", remark, class_="note"))


def _bound_row(bound: JudgedBound, claim: MetricClaim | None, findings: Findings) -> tuple[Html | str, ...]:
    unknown = bound.value is None
    span = {
        "max_drop": _span(claim) if claim else "unknown",
        "max_bytes": "exact",
        "max_latency_us": _latency_span(findings.timing),
    }.get(bound.kind, "unknown")
    verdict = badge("held", "good") if bound.held else badge("unknown" if unknown else "broken", "bad")
    return (
        BOUND_NAMES.get(bound.kind, bound.kind),
        _in_words(bound.kind, bound.limit, findings),
        "unknown" if bound.value is None else _in_words(bound.kind, bound.value, findings),
        span,
        verdict,
    )


def _in_words(kind: str, value: float, findings: Findings) -> str:
    if kind == "max_bytes":
        return kilobytes(value)
    if kind == "max_latency_us":
        return micros(value)
    return f"{signed(value).lstrip('+')} {findings.drop_unit}"


def _latency_span(timing: Timing) -> str:
    if not timing.times_us:
        return f"{timing.kind}, none"
    return f"{micros(min(timing.times_us))} to {micros(timing.p99_us)} (least to p99)"


def _remarks(bounds: tuple[JudgedBound, ...], claim: MetricClaim | None) -> Iterator[str]:
    yield "The value decides; the interval is told beside it."
    for bound in bounds:
        if bound.kind == "max_drop" and claim and bound.held and claim.high > bound.limit:
            yield (
                f"The drop holds its limit of {bound.limit:g} on these samples, but its interval reaches "
                f"{claim.high:.2f}: with more samples it might not."
            )


def _size_facts(manifest: Manifest, findings: Findings, size: int) -> Iterator[tuple[str, str]]:
    if findings.float_bytes and size:
        yield "ratio", f"{findings.float_bytes / size:.2f}x smaller than the float file of the same format"
    for entry in manifest.files:
        yield entry.name, f"{entry.bytes:,} bytes"
    if findings.model_rss_bytes is not None and findings.rss_bytes is not None:
        peak, own = kilobytes(findings.rss_bytes), kilobytes(findings.model_rss_bytes)
        yield "memory on the build host", f"{peak} peak of the process, {own} of it since the model was opened"
    if manifest.predicted_rss_bytes is not None:
        yield "memory on the target", f"{kilobytes(manifest.predicted_rss_bytes)}, predicted"


def _span(claim: MetricClaim) -> str:
    return f"{signed(claim.low)} to {signed(claim.high)}"


def _method(name: str) -> str:
    known = {
        "normal": "normal approximation of paired per-sample differences; of rights and wrongs by Agresti and Min",
        "bootstrap": "paired bootstrap, 1,000 resamples",
    }
    return known.get(name, name or "not recorded")


def _histograms(pairs: list[tuple[str, Timing]]) -> Html:
    timed = [(name, timing) for name, timing in pairs if timing.times_us]
    counted = bin_values(timing.times_us for _, timing in timed)
    parts: list[Html] = []
    for (name, timing), bins in zip(timed, counted, strict=True):
        marks = [(f"median {micros(timing.us)}", timing.us or 0.0)]
        if timing.p99_us is not None:
            marks.append((f"p99 {micros(timing.p99_us)}", timing.p99_us))
        label = f"latency of the {name} model: median {micros(timing.us)}, p99 {micros(timing.p99_us)}"
        beyond = f", {bins.beyond} of them beyond the right end" if bins.beyond else ""
        parts.append(tag("h3", f"{name} · {len(timing.times_us)} timed runs{beyond}"))
        parts.append(histogram(bins, name, marks, label=label))
    parts.append(tag("p", tag("span", micros(counted[0].low)), tag("span", micros(counted[0].high)), class_="ends"))
    return join(parts)


def _bars(pairs: list[tuple[str, Timing]]) -> Html:
    known = [(name, timing, timing.us) for name, timing in pairs if timing.us is not None]
    if not known:
        return note("No latency is known: this target has no cost table, and this host is not the target.")
    most = max(*(us for _, _, us in known), 1e-9)
    return table(
        (("model", ""), ("", "bar-cell long"), ("µs", "num")),
        [(f"{name}, {timing.kind}", bar(us / most, name), f"{us:,.0f}") for name, timing, us in known],
    )


def _turns(findings: Findings) -> Iterator[Html]:
    turns = findings.turns
    if turns is None:
        return
    word = badge("slower than float", "bad") if turns.slower else badge("not slower than float", "good")
    rounds = "; ".join(
        f"{micros(own)} against {micros(twin)}" for own, twin in zip(turns.us, turns.float_us, strict=False)
    )
    yield paragraph(
        word,
        f" In turns with its float twin, each round in fresh processes, it took {turns.ratio:.2f} times as long: ",
        f"{rounds}.",
    )


def _latency_notes(findings: Findings) -> Iterator[str]:
    timing = findings.timing
    if timing.measured:
        yield (
            f"Measured on the build host, which is of the target's kind: {findings.scored_on}; {findings.host}. "
            "One inference on one thread, warm."
        )
    elif timing.us is not None:
        yield (
            f"Predicted, not measured, from the target's cost table: {timing.cost_table or 'source not recorded'}. "
            "The device measures for itself before it switches."
        )
    yield f"Open and first run are times of {findings.runtime} on the build host ({findings.host}), not of the target."
