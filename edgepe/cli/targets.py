"""``edgepe targets``: list, show, check and calibrate target profiles; all but the last on a bare installation."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepe.errors import ProfileError
from edgepe.extras import needs_extra
from edgepe.target import load_target, target_names
from edgepe.target_lints import lint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgepe.target import Target

__all__ = ["targets"]

GIB = 1 << 30


@click.group(invoke_without_command=True, epilog="Example:  edgepe targets show raspberry-pi")
@click.pass_context
def targets(ctx: click.Context) -> None:
    """List, show, check and calibrate target profiles."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_targets)


@targets.command(name="list", epilog="Example:  edgepe targets list --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_targets(*, as_json: bool = False) -> None:
    """List the profiles that ship with edgepe."""
    loaded = [load_target(name) for name in target_names()]
    if as_json:
        click.echo(json.dumps({"targets": [_row(target) for target in loaded]}, indent=1))
        return
    width = max(len(target.name) for target in loaded)
    for target in loaded:
        also = f"  (also: {', '.join(target.aliases)})" if target.aliases else ""
        click.echo(
            f"{target.name:<{width}}  {target.format:<6}  {'/'.join(target.precisions):<14}  {target.title}{also}"
        )


@targets.command(name="show", epilog="Example:  edgepe targets show jetson")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_target(name: str, *, as_json: bool = False) -> None:
    """Show everything that a profile (by NAME, alias or .toml path) says."""
    target = load_target(name)
    if as_json:
        click.echo(json.dumps(asdict(target), indent=1, default=str))
        return
    for line in _lines(target):
        click.echo(line)


@targets.command(name="check", epilog="Example:  edgepe targets check my-board.toml")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_target(file: Path, *, as_json: bool = False) -> None:
    """Check a profile of your own: its schema, what it inherits, and whether its fields fit each other."""
    target = load_target(file if file.suffix == ".toml" else f"{file}.toml")
    findings = lint(target)
    broken = [finding for finding in findings if finding.level == "error"]
    if as_json:
        click.echo(json.dumps({"name": target.name, "findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        for finding in findings:
            click.echo(f"{finding.level}: {finding.key}: {finding.what} ({finding.code})")
        if not broken:
            click.echo(f"{file}: '{target.name}' is a whole profile (schema {target.schema})")
    if broken:
        raise ProfileError(
            f"{file} contradicts itself",
            expected="fields that fit each other",
            got=", ".join(finding.code for finding in broken),
            next_step="mend what is printed above; see targets/README.md",
        )


@targets.command(
    name="calibrate", epilog="Example:  edgepe targets calibrate raspberry-pi --from reports.json --out my-pi.toml"
)
@click.argument("name")
@click.option("--from", "reports", type=click.Path(path_type=Path), required=True, help="JSON with measured latencies.")
@click.option("--out", type=click.Path(path_type=Path), help="The overlay; default: NAME-calibrated.toml.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def calibrate_target(name: str, reports: Path, out: Path | None, *, as_json: bool = False) -> None:
    """Fit the cost table of a profile to latencies that devices reported.

    Writes a profile that extends NAME with the fitted table. The file with the reports is described in
    targets/README.md; refuses reports that are too few, or that make no prediction better.
    """
    target = load_target(name)
    path = out or Path(f"{target.name}-calibrated.toml")
    if target.cost is None:
        raise ProfileError(f"'{target.name}' has no cost table", expected="[cost] to start from", got="none")
    with needs_extra("compile", wanted_by="edgepe targets calibrate"):
        from edgepe.bundle.files import write_whole  # noqa: PLC0415 - a bare installation lists profiles without it
        from edgepe.graph.fit_cost import fit_cost, overlay_text  # noqa: PLC0415 - numpy, only here
        from edgepe.graph.reports import read_reports  # noqa: PLC0415 - as above
    fit = fit_cost(read_reports(reports, target=target.name), target.cost)
    base = os.path.relpath(name, path.parent) if name.endswith(".toml") else target.name
    write_whole(path, overlay_text(base, fit).encode())
    row = {key: value for key, value in asdict(fit).items() if key != "cost"} | {"out": str(path)}
    if as_json:
        click.echo(json.dumps(row | {"cost": asdict(fit.cost)}, indent=1))
        return
    click.echo(
        f"{path}: {fit.cost.source}; predictions were off by {fit.error_before:.1%}, now by {fit.error_after:.1%} on "
        "reports left out of the fit"
    )


def _row(target: Target) -> dict[str, object]:
    return {
        "name": target.name,
        "aliases": list(target.aliases),
        "title": target.title,
        "format": target.format,
        "precisions": [str(precision) for precision in target.precisions],
        "runtime": {"name": target.runtime.name, "version": target.runtime.version},
    }


def _lines(target: Target) -> Iterator[str]:
    yield f"{target.name}: {target.title}"
    rows = (
        ("also called", ", ".join(target.aliases) or "-"),
        (
            "artifact",
            f"{target.format}, opset ≤{target.opset_max}, IR ≤{target.ir_max}, {target.io_layout} at the edges",
        ),
        ("runtime", f"{target.runtime.name} ≥{target.runtime.version}, Python {target.python or 'none'}"),
        ("hardware", f"{target.machine}, {target.cores} cores, {target.ram_bytes / GIB:g} GiB, {' '.join(target.isa)}"),
        ("precisions", " → ".join(target.precisions)),
        ("int8 rules", ", ".join(f"{key}={_plain(value)}" for key, value in asdict(target.rules).items())),
        ("cost table", target.cost.source if target.cost else "none: no latency can be predicted"),
        ("memory", target.memory.source if target.memory else "unknown: no memory can be predicted"),
        ("digest", target.digest),
    )
    for label, value in rows:
        yield f"  {label:<12} {value}"


def _plain(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
