"""The contract both sides share: topics, messages, manifest, histogram, control. Standard library only, no I/O.

Rules kept by every module here:
1. A decoder takes bytes from anybody and raises nothing but :class:`~device_agent.wire.errors.WireError`.
2. What is decoded and encoded again is the same document: fields that this version does not know are kept.
3. Every size limit stands in :mod:`device_agent.wire.limits`.
4. Encoding is deterministic; golden bytes under ``tests/golden/wire`` pin it.
"""

from __future__ import annotations

__all__ = [
    "canonical",
    "control",
    "errors",
    "fields",
    "histogram",
    "limits",
    "manifest",
    "messages",
    "tensor",
    "topics",
]
