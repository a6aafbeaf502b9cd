"""``edgepe targets``: list, show and check target profiles; works on a bare installation."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepe.target import load_target, target_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgepe.target import Target

__all__ = ["targets"]

GIB = 1 << 30


@click.group(invoke_without_command=True, epilog="Example:  edgepe targets show raspberry-pi")
@click.pass_context
def targets(ctx: click.Context) -> None:
    """List, show and check target profiles."""
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
def check_target(file: Path) -> None:
    """Check a profile of your own."""
    target = load_target(file if file.suffix == ".toml" else f"{file}.toml")
    click.echo(f"{file}: '{target.name}' is a whole profile (schema {target.schema})")


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
        ("digest", target.digest),
    )
    for label, value in rows:
        yield f"  {label:<12} {value}"


def _plain(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
