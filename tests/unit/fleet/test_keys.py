from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_agent.errors import TrustError
from device_agent.update.trust import verify
from device_agent.wire.messages import Desired, decode_signed_desired, encode
from edgepe.errors import FleetError
from edgepe.fleet.keys import OnlineKey

if TYPE_CHECKING:
    from pathlib import Path

DESIRED = Desired(rev=1, device="a", expires_ms=10**13, models=())


def test_a_device_trusts_what_the_fleet_signed_and_nothing_else(tmp_path: Path) -> None:
    ours, other = OnlineKey.open(tmp_path / "ours"), OnlineKey.open(tmp_path / "other")
    document = decode_signed_desired(encode(ours.sign(DESIRED)))
    assert document.desired == DESIRED
    assert verify(document, [ours.public_hex]) == ours.keyid
    with pytest.raises(TrustError):
        verify(document, [other.public_hex])


def test_a_key_is_made_once_and_private(tmp_path: Path) -> None:
    first = OnlineKey.open(tmp_path)
    assert OnlineKey.open(tmp_path).public_hex == first.public_hex
    assert [oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == ["0o600"]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    OnlineKey.open(tmp_path)
    (tmp_path / "online.pem").chmod(0o644)
    with pytest.raises(FleetError, match="can be read by others"):
        OnlineKey.open(tmp_path)


def test_a_file_that_is_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "online.pem"
    path.touch(mode=0o600)
    path.write_bytes(b"no key")
    with pytest.raises(FleetError, match="cannot be read"):
        OnlineKey.open(tmp_path)
    path.write_bytes(X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(FleetError, match="another kind"):
        OnlineKey.open(tmp_path)
