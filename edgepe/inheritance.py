"""Profiles that extend another profile: ``extends = "raspberry-pi-5"``, and then what differs.

Rules kept here:
1. A table is laid over the base's table key by key; any other value replaces the base's.
2. Aliases are not inherited: they name one board.
3. A base may extend another one; a circle is an error that shows it.
4. No I/O here: how a base is found is the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from edgepe.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EXTENDS", "laid_over", "with_base"]

EXTENDS = "extends"
DEEPEST = 8
"""Profiles in one chain: a circle over paths that are written in ever new ways ends there too."""
NOT_INHERITED = frozenset({"aliases"})

Raw = dict[str, object]


def with_base(raw: Raw, *, source: str, find: Callable[[str, str], tuple[Raw, str]]) -> Raw:
    """Return a profile's content with everything that it inherits, ``extends`` itself left out.

    Args:
        raw: The profile as read.
        source: What to call it.
        find: Returns, for a base's name and the source that names it, the base's content and its source.

    Raises:
        ProfileError: ``extends`` is no text, or the profiles extend each other in a circle.
    """
    chain = [raw]
    sources = [source]
    while EXTENDS in chain[-1]:
        name = chain[-1][EXTENDS]
        if not isinstance(name, str):
            raise ProfileError(f"{sources[-1]}: 'extends' is wrong", expected="the name of a profile", got=name)
        base, found = find(name, sources[-1])
        if found in sources or len(chain) == DEEPEST:
            raise ProfileError(
                "profiles extend each other in a circle, or too deep",
                expected=f"at most {DEEPEST} profiles, none twice",
                got=" → ".join([*sources, found]),
            )
        chain.append(base)
        sources.append(found)
    whole: Raw = {}
    for each in reversed(chain):
        kept = {key: value for key, value in whole.items() if key not in NOT_INHERITED}
        whole = laid_over(kept, {key: value for key, value in each.items() if key != EXTENDS})
    return whole


def laid_over(base: Raw, top: Raw) -> Raw:
    """Return two tables as one: tables inside are laid over each other too, any other value is the upper one's.

    >>> laid_over({"a": 1, "t": {"x": 1, "y": 2}}, {"t": {"y": 3}})
    {'a': 1, 't': {'x': 1, 'y': 3}}
    """
    whole = dict(base)
    for key, value in top.items():
        below = whole.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            whole[key] = laid_over(cast("Raw", below), cast("Raw", value))
        else:
            whole[key] = value
    return whole
