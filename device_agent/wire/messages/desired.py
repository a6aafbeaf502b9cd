"""``desired``: what the host wants on one device. Retained, signed, level-triggered.

Rules kept here:
1. The signature covers the canonical bytes of ``signed`` as they came, unknown fields included (``payload``).
2. The document names its device, its revision and its end, so that it can be neither replayed nor moved.
3. A path is relative and clean: no ``..``, no empty level, no backslash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from device_agent.wire.canonical import canonical, parse_document
from device_agent.wire.errors import WireError
from device_agent.wire.fields import Extra, Fields, check_digest, merge_extra
from device_agent.wire.limits import MAX_DESIRED_BYTES, MAX_MODELS
from device_agent.wire.messages.message import VERSION
from device_agent.wire.topics import check_id

__all__ = [
    "Desired",
    "DesiredModel",
    "Gate",
    "Signature",
    "SignedDesired",
    "Window",
    "decode_desired",
    "decode_signed_desired",
]

_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_SIGNATURE = re.compile(r"[0-9a-f]{2,1024}")
_MAX_PATH_CHARS = 512
_THOUSAND = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredModel:
    """One model that a device shall serve: a bundle by path, version, SHA-256 and length in bytes."""

    name: str
    version: str
    path: str
    sha256: str
    length: int
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_id(self.name, what="model name")
        check_id(self.version, what="model version")
        check_digest(self.sha256)
        dots = any(level in (".", "..") for level in self.path.split("/"))
        if dots or len(self.path) > _MAX_PATH_CHARS or not _PATH.fullmatch(self.path):
            raise WireError("This is no path of a repository.", expected="a/b/c", got=ascii(self.path)[:120])

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values; the name is the key it stands under."""
        known: dict[str, object] = {
            "version": self.version,
            "path": self.path,
            "sha256": self.sha256,
            "length": self.length,
        }
        return merge_extra(known, self.extra)

    @classmethod
    def read(cls, name: str, fields: Fields) -> DesiredModel:
        """Read the value from its JSON object."""
        return cls(
            name=name,
            version=fields.text("version"),
            path=fields.text("path"),
            sha256=fields.text("sha256"),
            length=fields.integer("length", low=1),
            extra=fields.extra(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a new model must hold on the device before it is committed; None sets no bound.

    Attributes:
        max_p99_us: Latency of one run in the probe, microseconds.
        max_rss_bytes: Memory of the probe or the worker.
        max_errors_permille: Failed runs per thousand during the soak.
        soak_ms: How long the new model must serve; None leaves it to the device.
    """

    max_p99_us: int | None = None
    max_rss_bytes: int | None = None
    max_errors_permille: int = 0
    soak_ms: int | None = None
    extra: Extra = ()

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values."""
        known: dict[str, object] = {
            "max_p99_us": self.max_p99_us,
            "max_rss_bytes": self.max_rss_bytes,
            "max_errors_permille": self.max_errors_permille,
            "soak_ms": self.soak_ms,
        }
        return merge_extra(known, self.extra)

    @classmethod
    def read(cls, fields: Fields) -> Gate:
        """Read the value from its JSON object."""
        return cls(
            max_p99_us=fields.integer_or_none("max_p99_us"),
            max_rss_bytes=fields.integer_or_none("max_rss_bytes"),
            max_errors_permille=fields.integer("max_errors_permille", high=_THOUSAND, default=0),
            soak_ms=fields.integer_or_none("soak_ms"),
            extra=fields.extra(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The time in which a device may switch, milliseconds since the epoch."""

    start_ms: int
    end_ms: int
    extra: Extra = ()

    def __post_init__(self) -> None:
        if self.end_ms <= self.start_ms:
            raise WireError("A window ends after it starts.", got=f"{self.start_ms} to {self.end_ms}")

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values."""
        return merge_extra({"start_ms": self.start_ms, "end_ms": self.end_ms}, self.extra)

    @classmethod
    def read(cls, fields: Fields) -> Window:
        """Read the value from its JSON object."""
        return cls(start_ms=fields.integer("start_ms"), end_ms=fields.integer("end_ms"), extra=fields.extra())


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What one device shall serve.

    Attributes:
        rev: Counts up; a device acts on a newer one only.
        device: The one device this is for.
        expires_ms: From then on nobody acts on it; milliseconds since the epoch.
        models: One entry per model.
        urls: Repositories to fetch from, tried in order; empty leaves it to the device's configuration.
        deadline_ms: The host counts silence past it as a failure, or None.
        window: When the device may switch, or None for any time.
        gate: What the new models must hold.
    """

    rev: int
    device: str
    expires_ms: int
    models: tuple[DesiredModel, ...]
    urls: tuple[str, ...] = ()
    deadline_ms: int | None = None
    window: Window | None = None
    gate: Gate = Gate()
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_id(self.device, what="device")

    def to_json(self) -> dict[str, object]:
        """Return the document as JSON values."""
        known: dict[str, object] = {
            "v": VERSION,
            "rev": self.rev,
            "device": self.device,
            "expires_ms": self.expires_ms,
            "models": {model.name: model.to_json() for model in self.models},
            "urls": list(self.urls),
            "deadline_ms": self.deadline_ms,
            "window": self.window.to_json() if self.window else None,
            "gate": self.gate.to_json(),
        }
        return merge_extra(known, self.extra)

    @classmethod
    def read(cls, fields: Fields) -> Desired:
        """Read the document from its JSON object."""
        fields.version(VERSION)
        models, window, gate = (
            fields.table("models", cap=MAX_MODELS),
            fields.fields_or_none("window"),
            fields.fields_or_none("gate"),
        )
        return cls(
            rev=fields.integer("rev", low=1),
            device=fields.text("device"),
            expires_ms=fields.integer("expires_ms"),
            models=tuple(DesiredModel.read(name, models.fields(name)) for name in models.names()),
            urls=fields.texts("urls", cap=MAX_MODELS),
            deadline_ms=fields.integer_or_none("deadline_ms"),
            window=Window.read(window) if window else None,
            gate=Gate.read(gate) if gate else Gate(),
            extra=fields.extra(),
        )


def decode_desired(data: bytes) -> Desired:
    """Read the inner, unsigned document, as a verifier hands it on.

    Raises:
        WireError: The bytes are no desired document.
    """
    return Desired.read(Fields(parse_document(data, limit=MAX_DESIRED_BYTES, what="desired"), "desired"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One Ed25519 signature in hexadecimal; ``keyid`` is the SHA-256 of the raw public key."""

    keyid: str
    sig: str
    extra: Extra = ()

    def __post_init__(self) -> None:
        check_digest(self.keyid, what="key id")
        if not _SIGNATURE.fullmatch(self.sig):
            raise WireError("This is no signature.", expected="hexadecimal digits", got=ascii(self.sig)[:80])

    def to_json(self) -> dict[str, object]:
        """Return the value as JSON values."""
        return merge_extra({"keyid": self.keyid, "sig": self.sig}, self.extra)

    @classmethod
    def read(cls, fields: Fields) -> Signature:
        """Read the value from its JSON object."""
        return cls(keyid=fields.text("keyid"), sig=fields.text("sig"), extra=fields.extra())


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedDesired:
    """A desired document with its signatures; reading one proves nothing about them.

    Attributes:
        payload: The canonical bytes of ``signed``: what the signatures cover.
    """

    payload: bytes
    signatures: tuple[Signature, ...]
    extra: Extra = ()

    @classmethod
    def of(cls, desired: Desired, signatures: tuple[Signature, ...] = ()) -> SignedDesired:
        """Wrap a document; sign ``payload`` and put the signatures in afterwards with ``dataclasses.replace``."""
        return cls(payload=canonical(desired.to_json()), signatures=signatures)

    @property
    def desired(self) -> Desired:
        """Return the document inside."""
        return decode_desired(self.payload)

    def to_json(self) -> dict[str, object]:
        """Return the message as JSON values; ``v`` stands inside ``signed``."""
        known: dict[str, object] = {
            "signed": parse_document(self.payload, limit=MAX_DESIRED_BYTES, what="desired"),
            "signatures": [signature.to_json() for signature in self.signatures],
        }
        return merge_extra(known, self.extra)


def decode_signed_desired(data: bytes) -> SignedDesired:
    """Read a ``desired`` as it travels.

    Raises:
        WireError: The bytes are no signed desired document.
    """
    value = parse_document(data, limit=MAX_DESIRED_BYTES, what="desired")
    fields = Fields(value, "desired")
    Desired.read(fields.fields("signed"))
    return SignedDesired(
        payload=canonical(value["signed"] if isinstance(value, dict) else None),
        signatures=tuple(Signature.read(item) for item in fields.items("signatures", cap=MAX_MODELS)),
        extra=fields.extra(),
    )
