"""What lies behind the outcome: layers, operators, attempts, signature, golden vectors, provenance.

Rules kept here:
1. Every operator has its row with precision, reason code and detail; nothing that fell back is left out.
2. A layer that could not be compared is named with the reason.
3. Digests are shown whole: they are there to be compared.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edgepe.bundle.report.charts import Stem, bar, stems
from edgepe.bundle.report.markup import Html, tag
from edgepe.bundle.report.parts import (
    MANY_ROWS,
    badge,
    code,
    facts,
    folded,
    kilobytes,
    micros,
    note,
    paragraph,
    section,
    signed,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from device_agent.wire.manifest import Manifest, OpRow, TensorSpec
    from edgepe.bundle.findings import Findings, LayerError, LayerErrors, Tried

__all__ = ["attempts", "golden", "layers", "operators", "provenance", "signature"]

SCALE_DB = 60.0  # a full bar: 16-bit sound and half precision lie there
EXACT_DB = 149.0
INTEGER = "int8"
MOST_CLASSES = 20
MOST_ROWS = 20


def layers(findings: Findings) -> Html:
    """Return the error of each layer as a chart and a table."""
    title, found = "Error layer by layer", findings.layers
    if found is None:
        return section("layers", title, note("This build recorded no layers."))
    if not found.rows:
        return section("layers", title, note(f"No layer was compared: {found.error or 'none has a counterpart'}."))
    chart = stems(
        [
            Stem(title=f"{_whole(row)}: {_decibels(row.sqnr_db)}", value=row.sqnr_db, tone=_tone(row, found))
            for row in found.rows
        ],
        threshold=found.threshold_db,
        label=f"signal to error of {len(found.rows)} layers, from input to output",
    )
    lowest = sorted(found.rows, key=lambda row: row.sqnr_db)[:MOST_ROWS]
    short = [
        tag("h3", f"The {MOST_ROWS} lowest, in the order of the graph"),
        _layer_table([row for row in found.rows if row in lowest], found),
    ]
    return section(
        "layers",
        title,
        *_layer_texts(found),
        chart,
        tag("p", tag("span", "input"), tag("span", "output"), class_="ends gutter"),
        *(short if len(found.rows) > MANY_ROWS else ()),
        folded(f"All {len(found.rows)} layers", _layer_table(found.rows, found), rows=len(found.rows)),
        *_skipped(found),
    )


def operators(manifest: Manifest) -> Html:
    """Return every operator with its precision and the reason."""
    counts = Counter(row.precision for row in manifest.ops)
    summary = paragraph(", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none", ".")
    reasons = Counter(f"{row.precision}, {row.reason}" for row in manifest.ops)
    heads = (("node", "name"), ("op", ""), ("precision", ""), ("reason", ""), ("detail", "wide"))
    return section(
        "operators",
        "Operators",
        summary,
        facts((reason, str(count)) for reason, count in reasons.most_common()),
        folded(
            f"All {len(manifest.ops)} operators",
            table(heads, [_op_row(row) for row in manifest.ops]),
            rows=len(manifest.ops),
        ),
    )


def attempts(findings: Findings) -> Html:
    """Return what was tried, in order, and why each was refused or shipped."""
    heads = (
        ("tried", ""),
        ("model file", "num"),
        (f"drop, {findings.drop_unit}", "num"),
        ("latency", "num"),
        ("outcome", ""),
        ("why", "wide"),
    )
    rows = [
        (
            f"{number}. {each.precision}{f' ({each.note})' if each.note else ''}",
            "none" if each.size is None else kilobytes(each.size),
            "none" if each.drop is None else signed(each.drop),
            "unknown" if each.latency_us is None else f"{micros(each.latency_us)} {findings.timing.kind}",
            badge("ships", "good") if each.held else badge("refused", "bad"),
            _refusal(each),
        )
        for number, each in enumerate(findings.attempts, start=1)
    ]
    return section("attempts", "What was tried", table(heads, rows))


def signature(manifest: Manifest) -> Html:
    """Return inputs, outputs, preprocessing and labels."""
    heads = (("name", ""), ("", ""), ("type", ""), ("shape", ""), ("order of axes", ""))
    sides = [("input", spec) for spec in manifest.inputs] + [("output", spec) for spec in manifest.outputs]
    rows = [
        (code(spec.name), side, spec.dtype, _shape(spec.shape), spec.layout or "as exported") for side, spec in sides
    ]
    more = [(f"{spec.name}, from the raw value", _rule(spec)) for spec in manifest.inputs]
    if manifest.labels:
        more.append(("labels", ", ".join(manifest.labels)))
    return section("signature", "Inputs and outputs", table(heads, rows), facts(more), *_baseline(manifest))


def golden(manifest: Manifest, findings: Findings) -> Html:
    """Return the terms on which a device accepts the artifact."""
    terms = manifest.golden
    rows = (
        ("vectors", f"{terms.count} samples of the evaluation data, in {terms.file}"),
        ("outputs from", findings.scored_on),
        ("an element agrees within", f"{terms.atol:.4g} + {terms.rtol:.4g} x its value"),
        ("must agree", f"{terms.min_agree:.0%} of the vectors"),
    )
    return section(
        "golden", "Golden vectors", paragraph("A device runs these before it switches to the model."), facts(rows)
    )


def provenance(manifest: Manifest, findings: Findings) -> Html:
    """Return digests, versions, host and data."""
    rows: list[tuple[str, Html | str]] = [("bundle sha256", code(findings.bundle_sha256))]
    rows.extend((f"{entry.name} sha256", code(entry.sha256)) for entry in manifest.files)
    rows.append(("target profile", code(manifest.profile_digest)))
    rows.extend((f"{each.use}, {each.samples:,} samples", code(each.digest)) for each in findings.data)
    if not findings.data:
        rows.append(("calibration", code(manifest.calibration_digest)))
    rows.append(("built from", findings.source or "not recorded"))
    rows.append(("runtime on the target", f"{manifest.runtime.name}, at least {manifest.runtime.version}"))
    rows.append(("judged by", findings.scored_on))
    rows.append(("build host", findings.host))
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in findings.versions) or "not recorded"))
    return section("provenance", "Provenance", facts(rows))


def _whole(row: LayerError) -> str:
    return " + ".join((row.node, *row.fused))


def _decibels(value: float) -> str:
    return "equal" if value >= EXACT_DB else f"{value:.1f} dB".replace("-", "\N{MINUS SIGN}")


def _layer_table(rows: Sequence[LayerError], found: LayerErrors) -> Html:
    heads = (
        ("layer", "name"),
        ("op", ""),
        ("signal to error", "num"),
        ("", "bar-cell"),
        ("largest error", "num"),
        ("largest value", "num"),
    )
    cells = [
        (
            code(_whole(row)),
            row.op,
            _decibels(row.sqnr_db),
            bar(row.sqnr_db / SCALE_DB, _tone(row, found), mark=found.threshold_db / SCALE_DB),
            "not finite" if row.max_error is None else f"{row.max_error:.3g}",
            f"{row.peak:.3g}",
        )
        for row in rows
    ]
    return table(heads, cells)


def _tone(row: LayerError, found: LayerErrors) -> str:
    return "bad" if row.sqnr_db < found.threshold_db else "artifact"


def _layer_texts(found: LayerErrors) -> Iterator[Html]:
    lowest = min(found.rows, key=lambda row: row.sqnr_db)
    if found.first_divergent:
        yield paragraph(
            badge("divergent", "bad"),
            " The first layer below ",
            f"{found.threshold_db:g} dB is ",
            code(found.first_divergent),
            ".",
        )
    else:
        yield paragraph(
            badge("no divergent layer", "good"),
            " The lowest is ",
            code(_whole(lowest)),
            f" with {_decibels(lowest.sqnr_db)}.",
        )
    yield note(
        f"Power of the float output over power of the artifact's error, on {found.samples} samples, "
        f"against {found.reference}. "
        "Both run end to end, so a layer's error holds that of all layers before it. "
        f"{found.threshold_db:g} dB: the error has a tenth of the signal's power."
    )
    if found.disturbance_db is not None and found.disturbance_db < found.faithful_db:
        yield note(
            badge("mind", "warn"),
            f" Reading inner values changed how the runtime computes: the outputs agree with those that ship to "
            f"{_decibels(found.disturbance_db)} only. The figures are of that slightly different run.",
        )
    elif found.disturbance_db is not None:
        yield note(f"Reading inner values left the outputs as they ship ({_decibels(found.disturbance_db)}).")


def _skipped(found: LayerErrors) -> Iterator[Html]:
    if found.skipped:
        reasons = Counter(reason for _, reason in found.skipped)
        yield note(
            f"Not compared ({len(found.skipped)}): ",
            "; ".join(
                f"{reason} ({', '.join(node for node, why in found.skipped if why == reason)})" for reason in reasons
            ),
            ".",
        )


def _op_row(row: OpRow) -> tuple[Html | str, ...]:
    tone = "good" if row.precision == INTEGER else "idle"
    return (code(row.node), row.op, badge(row.precision, tone), code(row.reason), row.detail)


def _refusal(each: Tried) -> str:
    if each.error:
        return each.error
    if not each.bounds:
        return "no bound was set"
    return "; ".join(
        f"{bound.kind} {'held' if bound.held else 'broken'}: "
        f"{'unknown' if bound.value is None else f'{bound.value:g}'}, limit {bound.limit:g}"
        for bound in each.bounds
    )


def _rule(spec: TensorSpec) -> str:
    rule = spec.preprocess
    if rule is None:
        return "as it is"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (rule.mean or (0.0,), rule.std or (1.0,)))
    return f"{_shape(spec.raw_shape)} {rule.layout}: (x · {rule.scale:g} - [{mean}]) / [{std}]"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join("N" if size == -1 else str(size) for size in shape) or "one number"


def _baseline(manifest: Manifest) -> Iterator[Html]:
    if not manifest.baseline:
        return
    named = len(manifest.labels) == len(manifest.baseline)
    names = manifest.labels if named else tuple(f"class {index}" for index in range(len(manifest.baseline)))
    rows = list(zip(names, manifest.baseline, strict=True))
    if len(rows) > MOST_CLASSES:
        rows = sorted(rows, key=lambda row: -row[1])[:MOST_CLASSES]
    most = max(*manifest.baseline, 1e-9)
    yield tag("h3", "How often the artifact chose each class of the evaluation data")
    yield table(
        (("class", ""), ("", "bar-cell long"), ("share", "num")),
        [(name, bar(share / most, "artifact"), f"{share:.1%}") for name, share in rows],
    )
    if len(rows) < len(names):
        yield note(f"The {len(rows)} most frequent of {len(names)} classes; the manifest holds all.")
