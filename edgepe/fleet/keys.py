"""The fleet's online key: it signs what devices shall run.

Rules kept here:
1. Ed25519; the private key is one PEM file, readable by its owner alone, written whole or not at all.
2. A signature covers the canonical bytes of ``signed``; its key id is the SHA-256 of the raw public key.
3. A key file that others can read is refused, not repaired.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from device_agent.wire.canonical import digest
from device_agent.wire.messages import Signature, SignedDesired
from edgepe.errors import FleetError
from edgepe.fleet.files import PRIVATE, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from device_agent.wire.messages import Desired

__all__ = ["OnlineKey"]

FILE = "online.pem"


class OnlineKey:
    """A signing key in memory."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public_hex = raw.hex()
        self.keyid = digest(raw)

    @classmethod
    def open(cls, folder: Path) -> OnlineKey:
        """Read the key of a fleet, or make it on first use.

        Raises:
            FleetError: The file is no Ed25519 key, or others may read it.
        """
        path = folder / FILE
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            private = Ed25519PrivateKey.generate()
            write_atomically(
                path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=PRIVATE
            )
        return cls(_read(path))

    def sign(self, desired: Desired) -> SignedDesired:
        """Return the document with this key's signature."""
        unsigned = SignedDesired.of(desired)
        signature = Signature(keyid=self.keyid, sig=self._private.sign(unsigned.payload).hex())
        return replace(unsigned, signatures=(signature,))


def _read(path: Path) -> Ed25519PrivateKey:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077 and os.name == "posix":
        raise FleetError(
            "the fleet's signing key can be read by others",
            expected="mode 0600",
            got=f"mode {mode:04o} on {path}",
            next_step="if nobody has read it: chmod 600; else remove it and give devices the new public key",
        )
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FleetError("the fleet's signing key cannot be read", expected="an Ed25519 PEM", got=error) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise FleetError("the fleet's signing key is of another kind", expected="Ed25519", got=type(private).__name__)
    return private
