"""``edgepe verify``: run a bundle again and compare it with its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepe.errors import VerifyError
from edgepe.extras import needs_extra

if TYPE_CHECKING:
    from edgepe.stages.check import Check

__all__ = ["verify"]


@click.command(epilog="Example:  edgepe verify dist/model-1-raspberry-pi-5.edge --data test.npz")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help=".npz with raw samples and labels to score on.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(bundle: Path, data: Path | None, *, as_json: bool) -> None:
    """Check the bytes of BUNDLE, run its golden vectors, and score it on --data."""
    with needs_extra("compile", wanted_by="edgepe verify"):
        from edgepe.cli.show import print_json  # noqa: PLC0415 - rich, only where it is used
        from edgepe.stages.check import check_bundle  # noqa: PLC0415 - numpy and a runtime
    check = check_bundle(bundle, data)
    if as_json:
        print_json(_json(check))
    else:
        _tell(check)
    if not check.passed:
        raise VerifyError(
            f"{bundle.name} is not what it says",
            expected=f"{check.manifest.golden.min_agree:.0%} of the golden vectors, evidence of this very file",
            got=f"{check.golden_agree:.0%}, evidence {check.evidence}",
            next_step="build or download it again",
        )


def _tell(check: Check) -> None:
    click.echo(f"files        whole, evidence {check.evidence}")
    click.echo(f"ran on       {check.scored_on}")
    click.echo(f"golden       {check.golden_agree:.0%} agree, largest difference {check.golden_error:g}")
    if check.score is not None and check.manifest.metric is not None:
        name = check.manifest.metric.name
        click.echo(f"score        {name} {check.score:.4f} on {check.samples} samples, claimed {check.claimed:.4f}")


def _json(check: Check) -> dict[str, object]:
    return {
        "passed": check.passed,
        "evidence": check.evidence,
        "scored_on": check.scored_on,
        "golden": {"agree": check.golden_agree, "max_error": check.golden_error},
        "score": check.score,
        "claimed": check.claimed,
        "samples": check.samples,
    }
