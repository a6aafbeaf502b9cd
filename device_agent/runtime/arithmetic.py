"""Which of onnxruntime's switches give an int8 artifact on this machine the arithmetic it was scored with.

Rules kept here:
1. On x86 with VNNI or AMX the int8 sums are exact; ``session.qdqisint8allowed`` keeps int8 activations as on Arm.
2. On other x86 the int8 kernels sum two products in saturating 16 bits; ``session.x64quantprecision`` makes the
   weights uint8, whose kernels are exact. The two switches exclude each other.
3. An artifact built for x86 was made for the plain kernels and is run with them; any other is taken for Arm's: exact,
   if slower. The manifest's ``board`` says which machine it was built for; where it is silent, the target's name does.
4. Elsewhere than on x86, in another format or precision, there is nothing to switch.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from device_agent.wire.manifest import Manifest
    from device_agent.wire.messages import Hardware

__all__ = ["session_settings"]

INT8 = frozenset({"int8", "mixed"})
X86 = frozenset({"x86_64", "AMD64"})
EXACT_ISA = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


def session_settings(manifest: Manifest, hardware: Hardware) -> dict[str, str]:
    """Return the settings for ``open_runtime``.

    Args:
        manifest: The artifact's.
        hardware: The machine that runs it.
    """
    foreign = hardware.machine in X86 and not _made_for_x86(manifest)
    if manifest.format != "onnx" or manifest.precision not in INT8 or not foreign:
        return {}
    exact = EXACT_ISA.intersection(hardware.isa)
    return {"session.qdqisint8allowed": "1"} if exact else {"session.x64quantprecision": "1"}


def _made_for_x86(manifest: Manifest) -> bool:
    text = dict(manifest.extra).get("board")
    facts = json.loads(text) if text is not None else None
    machine = facts.get("machine") if isinstance(facts, dict) else None
    return machine in X86 if isinstance(machine, str) else "x86" in manifest.target
