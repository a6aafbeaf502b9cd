"""Calibrate, choose a scheme per op by the target's rules and the contract, apply."""

from __future__ import annotations

__all__: list[str] = []
