"""Verify the signatures of a ``desired`` document, in a short-lived child: ``python -m device_agent.update.trust``.

Rules kept here:
1. ``cryptography`` is imported in this child alone: the supervisor stays small.
2. A document is trusted when one configured key has a valid Ed25519 signature (RFC 8032) over its canonical bytes.
3. A key is known by its id, the SHA-256 of its raw 32 bytes; a signature by an unknown key says nothing.
4. The digest of what was verified is handed back, so that the caller acts on those bytes and no others.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.errors import TrustError
from device_agent.update.job import JobResult, run_child
from device_agent.wire.canonical import digest
from device_agent.wire.errors import WireError
from device_agent.wire.messages import SignedDesired, decode_signed_desired

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "verify"]

_NICENESS = 10


def verify(document: SignedDesired, keys: Sequence[str]) -> str:
    """Return the id of the key whose signature holds.

    Args:
        document: What was received.
        keys: The trusted Ed25519 public keys, 64 hexadecimal digits each.

    Raises:
        TrustError: No trusted key signed exactly these bytes.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only this child may load it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above

    trusted = {digest(bytes.fromhex(key)): bytes.fromhex(key) for key in keys}
    for signature in document.signatures:
        raw = trusted.get(signature.keyid)
        if raw is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(raw).verify(bytes.fromhex(signature.sig), document.payload)
        except (InvalidSignature, ValueError):
            continue
        return signature.keyid
    raise TrustError(
        "No trusted key signed this document.",
        code="bad_signature",
        expected=sorted(trusted),
        got=[signature.keyid for signature in document.signatures],
        next_step="Compare [trust] keys of agent.toml with the fleet's public key.",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the child: verify one file, and print one JSON line."""
    parser = argparse.ArgumentParser(prog="device_agent.update.trust", description="Verify one desired document.")
    parser.add_argument("--document", type=Path, required=True)
    parser.add_argument("--key", action="append", default=[])
    given = parser.parse_args(arguments)

    def work() -> JobResult:
        try:
            document = decode_signed_desired(given.document.read_bytes())
        except (OSError, WireError) as error:
            raise TrustError("The document cannot be read.", code="bad_document", got=str(error)) from error
        keyid = verify(document, given.key)
        return JobResult(passed=True, facts=(("keyid", keyid), ("payload", digest(document.payload))))

    return run_child(work, niceness=_NICENESS)


if __name__ == "__main__":
    raise SystemExit(main())
