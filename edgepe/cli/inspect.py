"""``edgepe inspect``: what is in a bundle."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepe.extras import needs_extra

if TYPE_CHECKING:
    from collections.abc import Iterator

    from device_agent.wire.manifest import Manifest, TensorSpec

__all__ = ["inspect"]


@click.command(epilog="Example:  edgepe inspect dist/model-1-raspberry-pi-5.edge")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def inspect(bundle: Path, *, as_json: bool) -> None:
    """Show the files, the signature, the claims and the op table of BUNDLE."""
    from edgepe.bundle import read_bundle  # noqa: PLC0415 - only where it is used

    manifest = read_bundle(bundle).manifest
    if as_json:
        click.echo(json.dumps(manifest.to_json(), indent=1))
        return
    for label, value in _facts(manifest):
        click.echo(f"{label:<12} {value}")
    with needs_extra("compile", wanted_by="edgepe inspect"):
        from edgepe.cli.show import print_table  # noqa: PLC0415 - rich, only where it is used
    print_table(
        ("node", "op", "precision", "reason", "detail"),
        [(row.node, row.op, row.precision, row.reason, row.detail) for row in manifest.ops],
    )


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "model", f"{manifest.name} {manifest.version} for {manifest.target}: {manifest.format} {manifest.precision}"
    for entry in manifest.files:
        yield "file", f"{entry.name}  {entry.bytes} bytes  sha256 {entry.sha256}"
    for spec in manifest.inputs:
        yield "input", _signature(spec)
    for spec in manifest.outputs:
        yield "output", _signature(spec)
    if manifest.labels:
        yield "labels", ", ".join(manifest.labels)
    yield "runtime", f"{manifest.runtime.name} ≥{manifest.runtime.version}"
    claim = manifest.metric
    if claim:
        interval = f"{claim.low:+.2f} … {claim.high:+.2f}"
        yield "score", f"{claim.name} {claim.float_score:.4f} → {claim.score:.4f}, drop {claim.drop:.2f} ({interval})"
        yield "scored on", f"{claim.samples} samples, {claim.scored_on}"
    if manifest.predicted_latency_us is not None:
        yield "latency", f"{manifest.predicted_latency_us} µs predicted, one thread"
    if manifest.predicted_rss_bytes is not None:
        yield "memory", f"{manifest.predicted_rss_bytes / 1e6:.0f} MB predicted, the whole worker"
    golden = manifest.golden
    yield (
        "golden",
        f"{golden.count} vectors, atol {golden.atol:g}, rtol {golden.rtol:g}, {golden.min_agree:.0%} must agree",
    )
    yield "ops", ", ".join(f"{count} {name}" for name, count in Counter(row.precision for row in manifest.ops).items())


def _signature(spec: TensorSpec) -> str:
    sizes = " x ".join("N" if size == -1 else str(size) for size in spec.shape)
    text = f"{spec.name}  {spec.dtype}  {sizes}  {spec.layout}".rstrip()
    rule = spec.preprocess
    if rule is None:
        return text
    raw = " x ".join("N" if size == -1 else str(size) for size in spec.raw_shape)
    return (
        f"{text}  from raw {raw} {rule.layout}: (x · {rule.scale:g} - {list(rule.mean) or 0}) / {list(rule.std) or 1}"
    )
