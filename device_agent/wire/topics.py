"""Topics of the fleet: ``ep1/<site>/<device>/<leaf>``, at most seven slashes.

Rules kept here:
1. A site, a device and a command are ids: 1 to 64 of ``A-Za-z0-9_.-``, so no wildcard can hide in one.
2. Every topic is made and taken apart here, nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from device_agent.wire.errors import WireError
from device_agent.wire.limits import MAX_ID_CHARS, MAX_TOPIC_BYTES

__all__ = ["ROOT", "Leaf", "ParsedTopic", "Topics", "check_id", "fleet_filter", "parse_topic", "shared_filter"]

ROOT = "ep1"
"""The first level of every topic; the digit is the version of the topic tree."""

_ID = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_ID_CHARS}}}")
_LEVELS = 4


class Leaf(str, Enum):
    """What a topic of a device carries."""

    STATUS = "status"
    BIRTH = "birth"
    DESIRED = "desired"
    REPORTED = "reported"
    TELE = "tele"
    EVENT = "event"
    CMD = "cmd"


def check_id(value: str, *, what: str = "id") -> str:
    """Return ``value`` if it may stand as one level of a topic.

    >>> check_id("pi-7.north")
    'pi-7.north'

    Raises:
        WireError: It is empty, too long, or holds another character.
    """
    if not _ID.fullmatch(value):
        raise WireError(
            f"This is no {what}.", expected=f"1 to {MAX_ID_CHARS} of A-Z a-z 0-9 _ . -", got=ascii(value)[:80]
        )
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The topics of one device.

    >>> Topics(site="lab", device="pi-7").status
    'ep1/lab/pi-7/status'
    """

    site: str
    device: str

    def __post_init__(self) -> None:
        check_id(self.site, what="site")
        check_id(self.device, what="device")

    @property
    def status(self) -> str:
        """Retained birth-or-will."""
        return self._of(Leaf.STATUS)

    @property
    def birth(self) -> str:
        """Retained description, sent at each connect."""
        return self._of(Leaf.BIRTH)

    @property
    def desired(self) -> str:
        """Retained signed document of the host."""
        return self._of(Leaf.DESIRED)

    @property
    def reported(self) -> str:
        """Retained update state."""
        return self._of(Leaf.REPORTED)

    @property
    def tele(self) -> str:
        """Telemetry batches."""
        return self._of(Leaf.TELE)

    @property
    def event(self) -> str:
        """Audit entries."""
        return self._of(Leaf.EVENT)

    def cmd(self, name: str) -> str:
        """Return the topic of one command; ``"+"`` subscribes to all."""
        return f"{self._of(Leaf.CMD)}/{name if name == '+' else check_id(name, what='command')}"

    def _of(self, leaf: Leaf) -> str:
        return f"{ROOT}/{self.site}/{self.device}/{leaf.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedTopic:
    """A topic taken apart; ``command`` is set for the leaf ``cmd`` alone."""

    site: str
    device: str
    leaf: Leaf
    command: str | None = None


def parse_topic(topic: str) -> ParsedTopic:
    """Take a topic apart.

    Raises:
        WireError: It is none of this fleet's topics.
    """
    if len(topic) > MAX_TOPIC_BYTES:
        raise WireError("This topic is too long.", expected=f"at most {MAX_TOPIC_BYTES}", got=len(topic))
    levels = topic.split("/")
    if len(levels) < _LEVELS or levels[0] != ROOT:
        raise WireError("This is no topic of ours.", expected=f"{ROOT}/<site>/<device>/<leaf>", got=ascii(topic)[:120])
    try:
        leaf = Leaf(levels[3])
    except ValueError as error:
        known = ", ".join(known.value for known in Leaf)
        raise WireError("This topic carries nothing we know.", expected=known, got=ascii(topic)[:120]) from error
    if len(levels) != _LEVELS + (leaf is Leaf.CMD):
        raise WireError("This topic has the wrong number of levels.", got=ascii(topic)[:120])
    return ParsedTopic(
        site=check_id(levels[1], what="site"),
        device=check_id(levels[2], what="device"),
        leaf=leaf,
        command=check_id(levels[4], what="command") if leaf is Leaf.CMD else None,
    )


def fleet_filter(leaf: Leaf) -> str:
    """Return the filter of one leaf of every device.

    >>> fleet_filter(Leaf.BIRTH)
    'ep1/+/+/birth'
    """
    return f"{ROOT}/+/+/{leaf.value}" + ("/+" if leaf is Leaf.CMD else "")


def shared_filter(group: str, leaf: Leaf) -> str:
    """Return the shared-subscription filter that spreads one leaf over a group of collectors.

    >>> shared_filter("ingest", Leaf.TELE)
    '$share/ingest/ep1/+/+/tele'
    """
    return f"$share/{check_id(group, what='group')}/{fleet_filter(leaf)}"
