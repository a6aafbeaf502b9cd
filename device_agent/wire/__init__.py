"""The contract both sides share: topics, messages, manifest, histogram, control. Standard library only, no I/O."""

from __future__ import annotations

__all__: list[str] = []
