"""HTML that cannot be injected into: markup is a type of its own, and everything else is text.

Rules kept here:
1. A ``str`` is text and is escaped, in contents and in attributes; only :func:`tag` and :func:`join` make ``Html``.
2. Names of elements and attributes come from our own code, never from data.
3. No ``style`` attribute and no handler: the page's content security policy refuses both.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Html", "join", "tag"]

VOID = frozenset({"br", "hr", "link", "meta"})


@dataclass(frozen=True, slots=True)
class Html:
    """Markup that is safe to stand in a page.

    Attributes:
        text: Its characters.
    """

    text: str

    def __str__(self) -> str:
        """Return the characters."""
        return self.text


def tag(name: str, /, *children: Html | str, **attributes: str | float) -> Html:
    """Return an element.

    Args:
        name: The element's name.
        children: Its contents; a ``str`` is escaped.
        attributes: Its attributes. ``class_`` stands for ``class``, ``_`` inside a name for ``-``.

    >>> tag("b", "a < b", class_="x").text
    '<b class="x">a &lt; b</b>'
    """
    written = "".join(f' {_named(key)}="{escape(_value(value))}"' for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(parts: Iterable[Html | str]) -> Html:
    """Return the parts one behind the other; a ``str`` is escaped."""
    return Html("".join(part.text if isinstance(part, Html) else escape(part) for part in parts))


def _named(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
