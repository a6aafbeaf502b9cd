"""``edgepe verify``: run a bundle again and compare it with its evidence."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepe.errors import VerifyError
from edgepe.extras import needs_extra

if TYPE_CHECKING:
    from edgepe.stages.check import Check
    from edgepe.stages.emulate import Emulation
    from edgepe.verify.emulate import Agreement

__all__ = ["verify"]


@click.command(epilog="Example:  edgepe verify dist/model-1-raspberry-pi-5.edge --data test.npz --emulate")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help=".npz with raw samples and labels to score on.")
@click.option("--emulate", is_flag=True, help="Also run it on emulated Arm; wants 'make emulator'.")
@click.option("--samples", type=click.IntRange(1, 200), default=200, show_default=True, help="Samples to emulate.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(bundle: Path, data: Path | None, samples: int, *, emulate: bool, as_json: bool) -> None:
    """Check the bytes of BUNDLE, run its golden vectors, and score it on --data.

    With --emulate the same is run on emulated Arm, by the target's own runtime, and compared with the stand-in.
    """
    with needs_extra("compile", wanted_by="edgepe verify"):
        from edgepe.cli.show import print_json  # noqa: PLC0415 - rich, only where it is used
        from edgepe.stages.check import check_bundle  # noqa: PLC0415 - numpy and a runtime
        from edgepe.stages.emulate import emulate_bundle  # noqa: PLC0415 - numpy and a runtime
    check = check_bundle(bundle, data)
    emulation = emulate_bundle(bundle, data, samples=samples) if emulate else None
    if as_json:
        print_json(_json(check) | ({"emulated": _emulated_json(emulation)} if emulation else {}))
    else:
        _tell(check)
        if emulation is not None:
            _tell_emulation(emulation)
    _judge(bundle, check, emulation)


def _judge(bundle: Path, check: Check, emulation: Emulation | None) -> None:
    if not check.passed:
        raise VerifyError(
            f"{bundle.name} is not what it says",
            expected=f"{check.manifest.golden.min_agree:.0%} of the golden vectors, evidence of this very file",
            got=f"{check.golden_agree:.0%}, evidence {check.evidence}",
            next_step="build or download it again",
        )
    if emulation is not None and not emulation.held:
        raise VerifyError(
            f"what {bundle.name} says does not hold on emulated Arm",
            expected=f"{emulation.golden.needed:.0%} of the samples as on the stand-in, and no worse a score",
            got="; ".join(_differences(emulation)),
            next_step="do not ship it; build with --precision fp16 or fp32, and report the model",
        )


def _tell(check: Check) -> None:
    click.echo(f"files        whole, evidence {check.evidence}")
    click.echo(f"ran on       {check.scored_on}")
    click.echo(f"golden       {check.golden_agree:.0%} agree, largest difference {check.golden_error:g}")
    if check.score is not None and check.manifest.metric is not None:
        name = check.manifest.metric.name
        click.echo(f"score        {name} {check.score:.4f} on {check.samples} samples, claimed {check.claimed:.4f}")


def _tell_emulation(emulation: Emulation) -> None:
    click.echo(f"emulated     {emulation.ran_on}")
    for difference in _differences(emulation):
        click.echo(f"             {difference}")


def _differences(emulation: Emulation) -> list[str]:
    rows = [f"golden: {_agreement(emulation.golden)}"]
    if emulation.outputs is not None:
        rows.append(f"stand-in: {_agreement(emulation.outputs)}")
    if emulation.score is not None:
        score = emulation.score
        rows.append(f"{score.metric}: {score.score:.4f} on Arm, {score.float_score:.4f} on the stand-in")
    return rows


def _agreement(found: Agreement) -> str:
    exact = f"{found.exact:.0%} to the bit"
    return f"{found.agree:.1%} of {found.samples} agree ({exact}), largest difference {found.max_error:g}"


def _emulated_json(emulation: Emulation) -> dict[str, object]:
    score = emulation.score
    return {
        "held": emulation.held,
        "ran_on": emulation.ran_on,
        "stand_in": emulation.stand_in,
        "golden": asdict(emulation.golden),
        "outputs": asdict(emulation.outputs) if emulation.outputs else None,
        "score": score.score if score else None,
        "stand_in_score": score.float_score if score else None,
        "metric": score.metric if score else None,
        "drop": score.drop if score else None,
        "drop_interval": [score.low, score.high] if score else None,
        "samples": emulation.outputs.samples if emulation.outputs else emulation.golden.samples,
    }


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
