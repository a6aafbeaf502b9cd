"""A mergeable histogram with logarithmic buckets: percentiles of a fleet without keeping a sample.

Rules kept here:
1. Bucket ``k`` holds values of (g^(k-1), g^k] with g = (1+a)/(1-a); the estimate 2g^k/(g+1) is within a = 1 % of every
   value of the bucket (Masson, Rim, Lee: DDSketch, VLDB 2019, section 2).
2. Merging adds counts, so the merge of parts is the histogram of the whole, exactly. Percentiles come from merged
   histograms alone, never from averaged percentiles.
3. Values are integers of 0 to 2^63-1 (nanoseconds in this project): the sum stays exact.
4. The bytes are canonical: equal histograms have equal bytes, and reading accepts no other spelling.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import TYPE_CHECKING

from device_agent.wire.errors import WireError
from device_agent.wire.limits import MAX_HISTOGRAM_BUCKETS, MAX_HISTOGRAM_BYTES, MAX_INTEGER

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ALPHA", "LogHistogram"]

ALPHA = 0.01
"""The relative error of a quantile."""

_GAMMA = (1 + ALPHA) / (1 - ALPHA)
_PER_LOG = 1 / math.log(_GAMMA)
_FORMAT = 1
_MAX_VARINT_BYTES = 19
_LOW_BITS = 0x7F
_MORE = 0x80


def _bucket(value: int) -> int:
    return math.ceil(math.log(value) * _PER_LOG)


class LogHistogram:
    """Counts of non-negative integers in logarithmic buckets.

    >>> histogram = LogHistogram()
    >>> histogram.add_many(range(1, 1001))
    >>> 990 * 0.99 <= histogram.quantile(0.99) <= 990 * 1.01
    True
    """

    __slots__ = ("_counts", "_max", "_min", "_sum", "_zeros")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._zeros = 0
        self._sum = 0
        self._min = 0
        self._max = 0

    @property
    def count(self) -> int:
        """Return how many values were added."""
        return self._zeros + sum(self._counts.values())

    @property
    def sum(self) -> int:
        """Return the exact sum of all values."""
        return self._sum

    @property
    def min(self) -> int:
        """Return the smallest value, exactly; 0 when empty."""
        return self._min

    @property
    def max(self) -> int:
        """Return the largest value, exactly; 0 when empty."""
        return self._max

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LogHistogram):
            return NotImplemented
        return self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]  # a histogram changes, so it is no key

    def __repr__(self) -> str:
        return f"LogHistogram(count={self.count}, min={self._min}, max={self._max})"

    def add(self, value: int) -> None:
        """Count one value.

        Raises:
            WireError: The value is negative or past 63 bits.
        """
        if not 0 <= value <= MAX_INTEGER:
            raise WireError("A histogram counts only non-negative 63-bit integers.", got=value)
        first = not self._zeros and not self._counts
        if value:
            bucket = _bucket(value)
            self._counts[bucket] = self._counts.get(bucket, 0) + 1
        else:
            self._zeros += 1
        self._sum += value
        self._min = value if first or value < self._min else self._min
        self._max = max(self._max, value)

    def add_many(self, values: Iterable[int]) -> None:
        """Count many values.

        Raises:
            WireError: A value is negative or past 63 bits; the values before it are counted.
        """
        for value in values:
            self.add(value)

    def merge(self, other: LogHistogram) -> None:
        """Add every count of ``other``, which stays as it is."""
        if not other.count:
            return
        self._min = min(self._min, other._min) if self.count else other._min
        self._max = max(self._max, other._max)
        self._zeros += other._zeros
        self._sum += other._sum
        for bucket, count in other._counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + count

    def copy(self) -> LogHistogram:
        """Return an independent histogram of the same counts."""
        twin = LogHistogram()
        twin.merge(self)
        return twin

    def quantile(self, q: float) -> float:
        """Return the lower ``q``-quantile, 0 ≤ q ≤ 1, within 1 % of the exact one.

        The exact lower quantile of n sorted values is the one at index ⌊q·(n-1)⌋ (DDSketch, section 1).

        Raises:
            WireError: The histogram is empty, or ``q`` is no fraction.
        """
        if not 0 <= q <= 1:
            raise WireError("A quantile is asked by a fraction.", expected="0 to 1", got=q)
        if not self.count:
            raise WireError("An empty histogram has no quantiles.", next_step="Look at count first.")
        rank = math.floor(q * (self.count - 1))
        seen = self._zeros
        if rank < seen:
            return 0.0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if rank < seen:
                return min(max(2 * _GAMMA**bucket / (_GAMMA + 1), self._min), self._max)
        return float(self._max)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: format, zeros, sum, min, max, buckets as (gap, count) varints."""
        out = bytearray([_FORMAT])
        for number in (self._zeros, self._sum, self._min, self._max, len(self._counts)):
            _write_varint(out, number)
        before = 0
        for bucket in sorted(self._counts):
            _write_varint(out, bucket - before)
            _write_varint(out, self._counts[bucket])
            before = bucket
        return bytes(out)

    @classmethod
    def from_bytes(cls, data: bytes) -> LogHistogram:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            WireError: The bytes are of another format, cut, not canonical, or contradict themselves.
        """
        if len(data) > MAX_HISTOGRAM_BYTES:
            raise WireError("This histogram is too long.", expected=MAX_HISTOGRAM_BYTES, got=len(data))
        reader = _Varints(data)
        histogram = cls()
        histogram._zeros, histogram._sum, histogram._min, histogram._max, buckets = (reader.take() for _ in range(5))
        if buckets > MAX_HISTOGRAM_BUCKETS:
            raise WireError("This histogram has too many buckets.", expected=MAX_HISTOGRAM_BUCKETS, got=buckets)
        bucket = 0
        for index in range(buckets):
            gap, count = reader.take(), reader.take()
            if (index and not gap) or not count:
                raise WireError("A bucket of this histogram is empty or stands twice.")
            bucket += gap
            histogram._counts[bucket] = count
        reader.finish()
        histogram._check()
        return histogram

    def to_base64(self) -> str:
        """Return the bytes as text, for a JSON document."""
        return base64.b64encode(self.to_bytes()).decode("ascii")

    @classmethod
    def from_base64(cls, text: str) -> LogHistogram:
        """Read what :meth:`to_base64` wrote.

        Raises:
            WireError: The text is no canonical base64 or no histogram.
        """
        try:
            data = base64.b64decode(text.encode("ascii"), validate=True)
        except (binascii.Error, ValueError) as error:
            raise WireError("This histogram is no base64.", got=ascii(text)[:60]) from error
        if base64.b64encode(data).decode("ascii") != text:
            raise WireError("This base64 is not canonical.", got=ascii(text)[:60])
        return cls.from_bytes(data)

    def _state(self) -> tuple[int, int, int, int, dict[int, int]]:
        return self._zeros, self._sum, self._min, self._max, self._counts

    def _check(self) -> None:
        """Refuse totals that these buckets cannot have; a neighbour bucket passes, as logarithms differ by machine."""
        count = self.count
        plausible = (
            self._max <= MAX_INTEGER
            and self._min * count <= self._sum <= self._max * count
            and self._zeros <= MAX_INTEGER
            and all(one <= MAX_INTEGER for one in self._counts.values())
        )
        if plausible and self._counts:
            plausible = self._max > 0 and abs(_bucket(self._max) - max(self._counts)) <= 1
            lowest = min(self._counts)
            plausible = plausible and (
                self._min == 0 if self._zeros else self._min > 0 and abs(_bucket(self._min) - lowest) <= 1
            )
        elif plausible:
            plausible = self._max == 0
        if not plausible:
            raise WireError("The totals of this histogram contradict its buckets.")


class _Varints:
    """Little-endian base-128 integers, shortest spelling only."""

    def __init__(self, data: bytes) -> None:
        if not data or data[0] != _FORMAT:
            raise WireError("This is no histogram.", expected=f"format {_FORMAT}", got=data[:1].hex() or "nothing")
        self._data = data
        self._at = 1

    def take(self) -> int:
        value = 0
        for index in range(_MAX_VARINT_BYTES):
            if self._at >= len(self._data):
                raise WireError("This histogram is cut short.")
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & _LOW_BITS) << (7 * index)
            if not byte & _MORE:
                if index and not byte:
                    raise WireError("A number of this histogram is not spelled shortest.")
                return value
        raise WireError("A number of this histogram is too long.")

    def finish(self) -> None:
        if self._at != len(self._data):
            raise WireError("This histogram has bytes left over.", got=len(self._data) - self._at)


def _write_varint(out: bytearray, value: int) -> None:
    while value > _LOW_BITS:
        out.append(value & _LOW_BITS | _MORE)
        value >>= 7
    out.append(value)
