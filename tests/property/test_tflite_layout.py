"""The layout algebra: whatever a value goes through, it means the same logical array."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgepe.lower.tflite.value import (
    Layout,
    Permute,
    Value,
    canonical,
    decode,
    encode,
    lift,
    merge_groups,
    moves,
    permute,
    physical_shape,
    plan_reshape,
    squeeze,
    unsqueeze,
)

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@st.composite
def layouts(draw: st.DrawFn, shape: tuple[int, ...]) -> Layout:
    """Draw a layout that holds every axis longer than one, some unit axes, and up to two units of nothing."""
    axes = [axis for axis, size in enumerate(shape) if size != 1 or draw(st.booleans())]
    units = [None] * draw(st.integers(0, 2))
    return tuple(draw(st.permutations([*axes, *units])))


@st.composite
def values(draw: st.DrawFn) -> tuple[Value, np.ndarray, np.ndarray]:
    """Draw a value with its logical and its physical array."""
    shape = draw(SHAPES)
    layout = draw(layouts(shape))
    logical = np.arange(prod(shape)).reshape(shape)
    value = Value(tensor=0, physical=physical_shape(shape, layout), layout=layout, shape=shape)
    return value, logical, encode(logical, layout)


@given(values())
def test_decoding_undoes_encoding(drawn: tuple[Value, np.ndarray, np.ndarray]) -> None:
    value, logical, physical = drawn
    assert physical.shape == value.physical
    np.testing.assert_array_equal(decode(physical, value), logical)


@given(values(), st.data())
def test_a_move_changes_the_memory_and_not_the_meaning(
    drawn: tuple[Value, np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    value, logical, physical = drawn
    wanted = data.draw(layouts(value.shape))
    steps = moves(value, wanted)
    for step in steps:
        physical = physical.transpose(step.axes) if isinstance(step, Permute) else physical.reshape(step.physical)
    np.testing.assert_array_equal(physical, encode(logical, wanted))
    assert sum(isinstance(step, Permute) for step in steps) <= 1


@given(values(), st.data())
def test_a_move_without_a_change_of_order_needs_no_transpose(
    drawn: tuple[Value, np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    value, _, _ = drawn
    at = data.draw(st.integers(0, len(value.order)))
    assert not any(isinstance(step, Permute) for step in moves(value, (*value.order[:at], None, *value.order[at:])))


@given(values(), st.data())
def test_renaming_axes_costs_nothing(drawn: tuple[Value, np.ndarray, np.ndarray], data: st.DataObject) -> None:
    value, logical, physical = drawn
    axes = data.draw(st.permutations(range(value.rank)))
    np.testing.assert_array_equal(decode(physical, permute(value, axes)), logical.transpose(axes))
    units = [axis for axis, size in enumerate(value.shape) if size == 1]
    np.testing.assert_array_equal(decode(physical, squeeze(value, units)), logical.squeeze(tuple(units)))
    at = data.draw(st.integers(0, value.rank))
    np.testing.assert_array_equal(decode(physical, unsqueeze(value, [at])), np.expand_dims(logical, at))
    np.testing.assert_array_equal(
        decode(physical, lift(value, 6)), logical.reshape((1,) * (6 - value.rank) + value.shape)
    )


@given(values(), st.data())
def test_a_planned_reshape_is_the_logical_reshape(
    drawn: tuple[Value, np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    value, logical, _ = drawn
    factors = data.draw(st.permutations([f for size in value.shape for f in ((2, 2) if size == 4 else (size,))]))
    shape = tuple(factors) if data.draw(st.booleans()) else (prod(value.shape[:1]), prod(value.shape[1:]))
    plan = plan_reshape(value, shape)
    moved = encode(logical, plan.before).reshape(plan.physical)
    result = Value(tensor=0, physical=plan.physical, layout=plan.layout, shape=shape)
    np.testing.assert_array_equal(decode(moved, result), logical.reshape(shape))


@given(SHAPES)
def test_a_value_in_its_own_order_reshapes_without_a_move(shape: tuple[int, ...]) -> None:
    value = Value(tensor=0, physical=shape, layout=canonical(len(shape)), shape=shape)
    assert plan_reshape(value, (prod(shape),)).before == value.layout


@given(st.lists(st.integers(2, 4), min_size=1, max_size=4))
def test_merged_groups_have_equal_products(sizes: list[int]) -> None:
    for first, second in merge_groups(sizes, sizes[::-1]):
        assert prod(sizes[i] for i in first) == prod(sizes[::-1][j] for j in second)
