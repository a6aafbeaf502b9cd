"""``edgepe publish``: add bundles to a repository."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgepe.extras import needs_extra

__all__ = ["publish"]


@click.command(epilog="Example:  edgepe publish dist/har-2-*.edge --dir edgepe-fleet")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="BUNDLE…")
@click.option("--repository", type=click.Path(path_type=Path, file_okay=False), help="A repository's own folder.")
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False), help="A fleet's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print what was published as JSON.")
def publish(bundles: tuple[Path, ...], repository: Path | None, folder: Path | None, *, as_json: bool) -> None:
    """Check bundles and add them to a repository that devices download from."""
    if (repository is None) == (folder is None):
        raise click.UsageError("give either --repository DIR or --dir DIR")
    with needs_extra("fleet", wanted_by="edgepe publish"):
        import msgspec  # noqa: PLC0415 - an extra

        from edgepe.fleet.repository import Repository  # noqa: PLC0415 - an extra
    place = Repository(repository if repository is not None else (folder or Path()) / "repository")
    published = [place.publish(path) for path in bundles]
    if as_json:
        click.echo(json.dumps({"bundles": msgspec.to_builtins(published)}))
        return
    for one in published:
        click.echo(f"{one.path}  {one.length:,} bytes  sha256 {one.sha256[:16]}…")
