"""The light agent on the box: runs a model, reports how it behaves, takes updates without ever bricking."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
