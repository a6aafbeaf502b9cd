"""One way to write a JSON document as bytes, and one careful way to read it.

Rules kept here:
1. Keys are sorted, separators are bare, text is UTF-8, nothing is escaped that need not be.
2. A canonical (signed) document holds no floating point number: two writers would print it differently.
3. Reading refuses what JSON leaves open: duplicate keys, NaN and infinities, lone surrogates, integers past 63 bits,
   documents nested deeper than :data:`~device_agent.wire.limits.MAX_DEPTH`.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import NoReturn

from device_agent.wire.errors import WireError
from device_agent.wire.limits import MAX_DEPTH, MAX_INTEGER

__all__ = ["canonical", "digest", "document", "parse_document"]


def canonical(value: object) -> bytes:
    """Return the canonical bytes of a JSON value that holds no floats: what is signed and hashed.

    >>> canonical({"b": 1, "a": [True, None, "é"]}).decode()
    '{"a":[true,null,"é"],"b":1}'

    Raises:
        WireError: The value holds a float or is no JSON value.
    """
    _refuse_floats(value)
    return document(value)


def document(value: object) -> bytes:
    """Return the deterministic bytes of a JSON value; floats are written by ``repr``.

    Raises:
        WireError: The value is no JSON value, or holds NaN, an infinity or a lone surrogate.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError("This value cannot be written as JSON.", got=str(error)) from error


def digest(data: bytes) -> str:
    """Return the SHA-256 of ``data`` as 64 lower-case hexadecimal digits.

    >>> digest(b"")[:16]
    'e3b0c44298fc1c14'
    """
    return hashlib.sha256(data).hexdigest()


def parse_document(data: bytes, *, limit: int, what: str) -> object:
    """Read one JSON document that anybody may have written.

    Args:
        data: The bytes as they came.
        limit: The most bytes that are looked at, from :mod:`device_agent.wire.limits`.
        what: The name of the document, for the message of an error.

    Raises:
        WireError: The document is too long, too deep, no UTF-8, no JSON, or ambiguous.
    """
    if len(data) > limit:
        raise WireError(f"This {what} is too long.", expected=f"at most {limit} bytes", got=f"{len(data)} bytes")
    try:
        value: object = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise WireError(f"This {what} is no JSON document.", expected="UTF-8 JSON", got=str(error)[:200]) from error
    _check_tree(value, depth=0)
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return table


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large")
    return value


def _check_tree(value: object, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise WireError("This document is nested too deeply.", expected=f"at most {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_tree(item, depth=depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_tree(item, depth=depth + 1)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise WireError("An integer of this document does not fit 63 bits.", got=f"{value.bit_length()} bits")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise WireError("A text of this document holds half a surrogate pair.", got=ascii(text)[:80]) from error


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise WireError("A canonical document holds no floating point number.", expected="an integer", got=value)
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)
