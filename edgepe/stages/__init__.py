"""What the pipeline's steps are made of: samples, candidates, trials, and the bundle's manifest.

Nothing heavy is imported here.
"""

from __future__ import annotations

__all__: list[str] = []
