"""What the sections are built of: tables, lists of facts, figures in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgepe.bundle.report.markup import Html, join, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "MANY_ROWS",
    "badge",
    "code",
    "facts",
    "folded",
    "kilobytes",
    "micros",
    "note",
    "paragraph",
    "section",
    "signed",
    "table",
]

THOUSAND = 1000.0
MANY_ROWS = 60
"""A table of more rows starts folded."""

Cell = Html | str


def section(anchor: str, title: str, *parts: Html) -> Html:
    """Return a section with its heading."""
    return tag("section", tag("h2", title), *parts, id=anchor)


def table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[Cell]], *, tones: Sequence[str] = ()) -> Html:
    """Return a table that becomes a list of cards on a narrow screen.

    Args:
        heads: (name, class) of each column; the class ``num`` aligns to the right.
        rows: Cells of each row, as many as there are columns.
        tones: Class of each row; none where empty.
    """
    head = tag("tr", *(tag("th", name, class_=kind, scope="col") for name, kind in heads))
    body = [
        tag(
            "tr",
            *(tag("td", cell, class_=kind, data_label=name) for cell, (name, kind) in zip(row, heads, strict=True)),
            class_=tones[index] if tones else "",
        )
        for index, row in enumerate(rows)
    ]
    return tag("table", tag("thead", head), tag("tbody", *body))


def folded(title: str, body: Html, *, rows: int) -> Html:
    """Return a part that a reader can fold; it starts folded where it has very many rows. Paper shows it whole."""
    opened = {"open": ""} if rows <= MANY_ROWS else {}
    return tag("details", tag("summary", title), body, **opened)


def facts(rows: Iterable[tuple[str, Cell]]) -> Html:
    """Return a list of named facts."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in rows), class_="facts")


def badge(text: str, tone: str) -> Html:
    """Return a word in a coloured frame."""
    return tag("span", text, class_=f"badge {tone}")


def note(*parts: Cell) -> Html:
    """Return a paragraph in small letters."""
    return tag("p", *parts, class_="note")


def code(text: str) -> Html:
    """Return a text in letters of one width, such as a digest or a name of a node."""
    return tag("code", text)


def kilobytes(count: float) -> str:
    """Return a number of bytes in words.

    >>> kilobytes(999), kilobytes(12345), kilobytes(3_400_000)
    ('999 B', '12.3 kB', '3.40 MB')
    """
    if count < THOUSAND:
        return f"{count:.0f} B"
    if count < THOUSAND**2:
        return f"{count / THOUSAND:.1f} kB"
    return f"{count / THOUSAND**2:.2f} MB"


def micros(value: float | None) -> str:
    """Return a time given in µs in words.

    >>> micros(12.34), micros(1234.5), micros(None)
    ('12.3 µs', '1.23 ms', 'unknown')
    """
    if value is None or not math.isfinite(value):
        return "unknown"
    if value < THOUSAND:
        return f"{value:.1f} µs" if value < THOUSAND / 10 else f"{value:.0f} µs"
    return f"{value / THOUSAND:.2f} ms" if value < THOUSAND**2 else f"{value / THOUSAND**2:.2f} s"


def signed(value: float) -> str:
    """Return a number with its sign and two decimals, with a real minus.

    >>> signed(-0.5), signed(0.0)
    ('\N{MINUS SIGN}0.50', '0.00')
    """
    text = f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
    return "0.00" if text[1:] == "0.00" else text


def paragraph(*parts: Cell) -> Html:
    """Return a paragraph."""
    return tag("p", join(parts))
