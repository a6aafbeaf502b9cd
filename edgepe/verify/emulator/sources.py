"""Where this machine gets Debian's packages from, read from apt's own sources.

Rules kept here:
1. Nothing is read or guessed but what the machine's administrator wrote: no host name stands in this code.
2. Both of apt's formats are read; a disabled entry and an entry without binary packages of ``main`` do not count.
3. An entry signed by Debian's archive keys goes before others that name the same suite.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["KEYRING", "Mirror", "find_mirror"]

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
RELEASES = frozenset({"bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"})
ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A mirror of Debian.

    Attributes:
        uri: Its address, as apt takes it.
        keyring: Path of the keys that sign it.
    """

    uri: str
    keyring: str = KEYRING


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of apt's sources."""

    uri: str
    suites: frozenset[str]
    components: frozenset[str]
    signed_by: str

    @property
    def is_debian(self) -> bool:
        """Whether it offers ``main`` of one of Debian's releases."""
        return bool(self.suites & RELEASES) and "main" in self.components


def find_mirror(sources: Sequence[tuple[str, str]]) -> Mirror | None:
    """Return the mirror of Debian that apt's sources name; None where they name none.

    Args:
        sources: (file name, text) of each of apt's source files.

    >>> find_mirror([("sources.list", "deb [signed-by=/k.gpg] mirror:/debian bookworm main contrib")])
    Mirror(uri='mirror:/debian', keyring='/k.gpg')
    """
    entries = [entry for name, text in sources for entry in _read(name, text) if entry.is_debian]
    entries.sort(key=lambda entry: "debian-archive" not in entry.signed_by)
    if not entries:
        return None
    first = entries[0]
    return Mirror(uri=first.uri, keyring=first.signed_by if first.signed_by.startswith("/") else KEYRING)


def _read(name: str, text: str) -> Iterator[Entry]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return _stanzas(lines) if name.endswith(".sources") else _one_liners(lines)


def _one_liners(lines: Sequence[str]) -> Iterator[Entry]:
    for line in lines:
        match = ONE_LINE.match(line.strip())
        if match is None:
            continue
        options = dict(option.partition("=")[::2] for option in (match["options"] or "").split())
        yield Entry(
            uri=match["uri"],
            suites=frozenset({match["suite"]}),
            components=frozenset(match["components"].split("#")[0].split()),
            signed_by=options.get("signed-by", ""),
        )


def _stanzas(lines: Sequence[str]) -> Iterator[Entry]:
    for stanza in "\n".join(line.rstrip() for line in lines).split("\n\n"):
        fields = _fields(stanza)
        on = fields.get("enabled", "yes").lower() not in {"no", "false", "0"}
        if not on or "deb" not in fields.get("types", "").split() or not fields.get("uris"):
            continue
        yield Entry(
            uri=fields["uris"].split()[0],
            suites=frozenset(fields.get("suites", "").split()),
            components=frozenset(fields.get("components", "").split()),
            signed_by=fields.get("signed-by", ""),
        )


def _fields(stanza: str) -> dict[str, str]:
    """Return a stanza's fields, names in lower case; a line that begins with a blank goes on with the one before."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line[:1].isspace() and name:
            fields[name] += " " + line.strip()
        elif ":" in line:
            name, value = line.split(":", 1)
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields
