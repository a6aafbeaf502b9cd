"""The bundle: one deterministic ``.edge`` file with its manifest, and the evidence beside it.

Rules kept here:
1. Same inputs, same bytes: stored entries, one fixed date, names in order, no measured time inside.
2. A bundle is written whole or not at all.
3. Every byte that is read is checked against the manifest's digest.
"""

from __future__ import annotations

__all__ = ["Bundle", "evidence_path", "read_bundle", "read_evidence", "write_bundle", "write_evidence"]

from edgepe.bundle.evidence import evidence_path, read_evidence, write_evidence
from edgepe.bundle.pack import Bundle, read_bundle, write_bundle
