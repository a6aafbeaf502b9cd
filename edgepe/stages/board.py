"""What a bundle says of its board, so that it can be judged where the board's profile is not at hand.

Rules kept here:
1. A profile may be the user's own file, which does not travel: the manifest holds what a stand-in is chosen by.
2. A bundle that says nothing of it was built for a profile that ships with edgepe.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, cast, get_args

from edgepe.errors import BundleError
from edgepe.target import Format, Style, Target, load_target

if TYPE_CHECKING:
    from device_agent.wire.manifest import Manifest

__all__ = ["BOARD", "board_text", "target_of"]

BOARD = "board"
"""Name of the manifest's field."""


def board_text(target: Target) -> str:
    """Return the field's value: machine, its instructions and style of rules, as JSON."""
    facts = {"isa": sorted(target.isa), "machine": target.machine, "style": target.rules.style}
    return json.dumps(facts, sort_keys=True)


def target_of(manifest: Manifest) -> Target:
    """Return the board of a bundle, as far as a stand-in or an emulated processor is chosen by it.

    Raises:
        BundleError: What the bundle says of its board makes no sense.
        UnknownTargetError: It says nothing, and no profile has the name.
    """
    text = dict(manifest.extra).get(BOARD)
    if text is None:
        return load_target(manifest.target)
    facts = json.loads(text)
    machine, style = (facts.get(key) for key in ("machine", "style")) if isinstance(facts, dict) else (None, None)
    isa = facts.get("isa", []) if isinstance(facts, dict) else None
    if (
        not isinstance(isa, list)
        or not isinstance(machine, str)
        or style not in get_args(Style)
        or manifest.format not in get_args(Format)
    ):
        raise BundleError("the bundle's board makes no sense", expected="machine, isa and style", got=text)
    # A profile of edgepe's own lends the fields that no stand-in asks for.
    lender = load_target("generic-x86-64")
    return replace(
        lender,
        name=manifest.target,
        format=cast("Format", manifest.format),
        machine=machine,
        isa=tuple(str(name) for name in isa),
        runtime=manifest.runtime,
        rules=replace(lender.rules, style=cast("Style", style)),
    )
