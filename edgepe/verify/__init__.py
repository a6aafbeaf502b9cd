"""Float ↔ artifact on the target's own runtime or its faithful stand-in, named, always in a child process.

``run`` runs an artifact (in ``child``), ``standin`` chooses what stands in for the board, ``score`` compares with the
float twin. Nothing heavy is imported here.
"""

from __future__ import annotations

__all__: list[str] = []
