"""Layout as data: a value is a logical ONNX shape, a physical tensor, and a map between their axes.

Rules kept here:
1. ``layout[k]`` names the logical axis that physical axis ``k`` holds, or None for a unit axis that stands for nothing.
   Each logical axis longer than one stands in the layout exactly once; a unit axis may be left out.
2. Transposing, squeezing and unsqueezing change only the map: they cost no operator.
3. A *move* to another layout is a plan of the fewest operators: nothing, a reshape where only unit axes move, else one
   transpose with at most a reshape on each side.
4. A reshape commutes with the layout where the axes that it merges stay together; only then is it one operator.
5. Nothing here has an effect: plans are values, and the numpy twins at the end say what each value means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Layout",
    "Permute",
    "Refit",
    "Reshaping",
    "Step",
    "Value",
    "canonical",
    "channel_last",
    "decode",
    "encode",
    "lift",
    "merge_groups",
    "moves",
    "permute",
    "physical_shape",
    "plan_reshape",
    "squeeze",
    "unsqueeze",
]

Layout = tuple[int | None, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One ONNX value and the tensor that holds it.

    Attributes:
        tensor: Index of the tensor in the graph that is being built.
        physical: Shape of that tensor.
        layout: Logical axis (or None) of each physical axis.
        shape: Shape that ONNX gives the value.
        columns: Where not None, physical column ``j`` of the last axis holds logical column ``columns[j]``: a
            flattened image whose only readers are dense layers, which permute their weights instead of the data.
        floor: The greatest known lower bound; 0 after a ReLU.
    """

    tensor: int
    physical: Shape
    layout: Layout
    shape: Shape
    columns: tuple[int, ...] | None = None
    floor: float = float("-inf")

    def __post_init__(self) -> None:
        """Check the map: rule 1."""
        held = [axis for axis in self.layout if axis is not None]
        absent = set(range(len(self.shape))) - set(held)
        fits = (
            len(set(held)) == len(held)
            and self.physical == physical_shape(self.shape, self.layout)
            and all(self.shape[axis] == 1 for axis in absent)
        )
        if not fits:
            msg = f"a layout does not fit its value: shape {self.shape}, layout {self.layout}, tensor {self.physical}"
            raise ValueError(msg)

    @property
    def rank(self) -> int:
        """Number of logical axes."""
        return len(self.shape)

    @property
    def order(self) -> Shape:
        """Logical axes longer than one, as they follow each other in memory."""
        return tuple(axis for axis in self.layout if axis is not None and self.shape[axis] != 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit:
    """A RESHAPE: the same memory under another physical shape."""

    physical: Shape
    layout: Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Permute:
    """A TRANSPOSE of the physical axes."""

    axes: Shape
    layout: Layout


Step = Refit | Permute


def canonical(rank: int) -> Layout:
    """Return the layout of ONNX itself: physical axis k is logical axis k."""
    return tuple(range(rank))


def channel_last(rank: int) -> Layout:
    """Return NWC or NHWC for a value that ONNX keeps as NCW or NCHW."""
    return (0, *range(2, rank), 1)


def physical_shape(shape: Sequence[int], layout: Layout) -> Shape:
    """Return the shape of a tensor that holds a value of ``shape`` in ``layout``."""
    return tuple(1 if axis is None else shape[axis] for axis in layout)


def permute(value: Value, axes: Sequence[int]) -> Value:
    """Return the logical transpose: new axis ``i`` is the old axis ``axes[i]``."""
    new = {old: position for position, old in enumerate(axes)}
    return replace(value, layout=_renamed(value.layout, new), shape=tuple(value.shape[axis] for axis in axes))


def squeeze(value: Value, axes: Iterable[int]) -> Value:
    """Drop logical unit axes."""
    gone = set(axes)
    kept = [axis for axis in range(value.rank) if axis not in gone]
    new = {old: position for position, old in enumerate(kept)}
    return replace(value, layout=_renamed(value.layout, new), shape=tuple(value.shape[axis] for axis in kept))


def unsqueeze(value: Value, axes: Iterable[int]) -> Value:
    """Insert logical unit axes; ``axes`` are positions in the result."""
    fresh = set(axes)
    rank = value.rank + len(fresh)
    kept = [axis for axis in range(rank) if axis not in fresh]
    shape = [1] * rank
    for old, axis in enumerate(kept):
        shape[axis] = value.shape[old]
    return replace(value, layout=_renamed(value.layout, dict(enumerate(kept))), shape=tuple(shape))


def lift(value: Value, rank: int) -> Value:
    """Prepend unit axes up to ``rank``, as broadcasting does."""
    return unsqueeze(value, range(rank - value.rank)) if rank > value.rank else value


def moves(value: Value, layout: Layout) -> tuple[Step, ...]:
    """Plan how to bring a value into a layout (rule 3).

    Raises:
        ValueError: If the layout leaves out an axis longer than one.
    """
    wanted = physical_shape(value.shape, layout)
    order = value.order
    target = tuple(axis for axis in layout if axis is not None and value.shape[axis] != 1)
    if sorted(order) != sorted(target):
        msg = f"a layout that does not fit its value: {layout} for a value of shape {value.shape}"
        raise ValueError(msg)
    if order == target:
        return () if value.physical == wanted else (Refit(physical=wanted, layout=layout),)
    direct = _direct_permutation(value.layout, layout)
    if direct is not None:
        return (Permute(axes=direct, layout=layout),)
    packed = tuple(value.shape[axis] for axis in order)
    steps: list[Step] = [] if value.physical == packed else [Refit(physical=packed, layout=order)]
    steps.append(Permute(axes=tuple(order.index(axis) for axis in target), layout=target))
    if physical_shape(value.shape, target) != wanted:
        steps.append(Refit(physical=wanted, layout=layout))
    return tuple(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshaping:
    """A plan for a logical reshape: first bring the value into ``before``, then refit.

    Attributes:
        before: Layout to move to first (the present one where nothing must move).
        physical: Shape of the tensor afterwards.
        layout: Layout of the reshaped value.
    """

    before: Layout
    physical: Shape
    layout: Layout


def plan_reshape(value: Value, shape: Shape) -> Reshaping:
    """Plan a reshape to the logical ``shape`` with the fewest moves (rule 4).

    Three cases: the memory is in ONNX's order already; each merged group of axes is together in memory, so that the
    groups may stay in their order; or one transpose brings the groups together.
    """
    old = [axis for axis, size in enumerate(value.shape) if size != 1]
    new = [axis for axis, size in enumerate(shape) if size != 1]
    if list(value.order) == old:
        return Reshaping(before=value.layout, physical=shape, layout=canonical(len(shape)))
    sizes = merge_groups([value.shape[axis] for axis in old], [shape[axis] for axis in new])
    groups = [(tuple(old[i] for i in a), tuple(new[j] for j in b)) for a, b in sizes]
    groups.sort(key=lambda group: max(value.order.index(axis) for axis in group[0]))
    before: Layout = tuple(axis for group, _ in groups for axis in group)
    layout: Layout = tuple(axis for _, group in groups for axis in group)
    if len(groups) == 1:
        before, layout = canonical(value.rank), canonical(len(shape))
    if before == value.order:
        before = value.layout
    return Reshaping(before=before, physical=physical_shape(shape, layout), layout=layout)


def merge_groups(a: Sequence[int], b: Sequence[int]) -> tuple[tuple[Shape, Shape], ...]:
    """Pair the shortest runs of axes of two shapes (without unit axes) whose products agree.

    >>> merge_groups([2, 3, 4], [6, 2, 2])
    (((0, 1), (0,)), ((2,), (1, 2)))
    """
    pairs: list[tuple[Shape, Shape]] = []
    i = j = 0
    while i < len(a):
        first, second = i, j
        i, j = i + 1, j + 1
        while prod(a[first:i]) != prod(b[second:j]):
            if prod(a[first:i]) < prod(b[second:j]):
                i += 1
            else:
                j += 1
        pairs.append((tuple(range(first, i)), tuple(range(second, j))))
    return tuple(pairs)


def decode(array: NDArray[np.generic], value: Value) -> NDArray[np.generic]:
    """Return the logical array that a physical one holds (the meaning of a value)."""
    held = [(axis, k) for k, axis in enumerate(value.layout) if axis is not None]
    units = [k for k, axis in enumerate(value.layout) if axis is None]
    ordered = array.transpose([k for _, k in sorted(held)] + units)
    logical = ordered.reshape(value.shape)
    if value.columns is None:
        return logical
    undone = logical.copy()
    undone[..., list(value.columns)] = logical
    return undone


def encode(array: NDArray[np.generic], layout: Layout) -> NDArray[np.generic]:
    """Return the physical array of a logical one: the way of a constant into a layout."""
    held = [axis for axis in layout if axis is not None]
    absent = [axis for axis in range(array.ndim) if axis not in held]
    return array.transpose(held + absent).reshape(physical_shape(array.shape, layout))


def _renamed(layout: Layout, new: dict[int, int]) -> Layout:
    return tuple(None if axis is None else new.get(axis) for axis in layout)


def _direct_permutation(present: Layout, wanted: Layout) -> Shape | None:
    """Return the one permutation between two layouts of the same axes, if there is one."""
    if len(present) != len(wanted) or {*present} - {None} != {*wanted} - {None}:
        return None
    units = [k for k, axis in enumerate(present) if axis is None]
    return tuple(units.pop(0) if axis is None else present.index(axis) for axis in wanted)
