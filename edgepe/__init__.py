"""edgepe: turn a trained variational or pruned model into the best artifact for a device, and keep proving it."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
