"""Who is told how a build goes on."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Silent", "Watch"]


class Watch(Protocol):
    """Told how a build goes on."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Note that a stage begins, of ``total`` steps where that is known."""

    def advance(self, done: int) -> None:
        """Note how many steps of the stage are done."""


class Silent:
    """Tells nobody."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Do nothing."""

    def advance(self, done: int) -> None:
        """Do nothing."""
