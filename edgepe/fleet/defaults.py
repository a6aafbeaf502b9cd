"""What holds when nobody says otherwise. Imports nothing, so that the command line's help stays quick."""

from __future__ import annotations

__all__ = ["BROKER_PORT", "DEADLINE_S", "FOLDER", "PORT", "WAVES"]

FOLDER = "edgepe-fleet"
"""Holds everything of a fleet."""
PORT = 8600
"""Page, API and repository."""
BROKER_PORT = 1883
"""The embedded broker; what MQTT clients expect."""
WAVES = "1,5%,25%,100%"
"""How many devices have been asked, in all, after each wave of a roll-out."""
DEADLINE_S = 600
"""How long a device may take to end an update."""
