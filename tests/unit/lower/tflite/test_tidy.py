from __future__ import annotations

from typing import TYPE_CHECKING

from edgepe.lower.tflite.flat import Builtin, Graph, Operator, Port, Tensor
from edgepe.lower.tflite.tidy import tidy

if TYPE_CHECKING:
    from collections.abc import Sequence


def graph(operators: list[Operator], outputs: list[int], *, names: Sequence[str] = "xabcdef") -> Graph:
    return Graph(
        tensors=tuple(Tensor(name=name, shape=(1, 2)) for name in names),
        operators=tuple(operators),
        inputs=(Port(name="x", tensor=0, axes=(0, 1)),),
        outputs=tuple(Port(name=f"y{i}", tensor=i, axes=(0, 1)) for i in outputs),
    )


def op(builtin: Builtin, read: int, write: int) -> Operator:
    return Operator(builtin=builtin, inputs=(read,), outputs=(write,))


def test_an_operator_that_no_output_needs_is_removed_with_its_tensors() -> None:
    tidied = tidy(graph([op(Builtin.TANH, 0, 1), op(Builtin.EXP, 0, 2), op(Builtin.ABS, 2, 3)], [1]))
    assert [o.builtin for o in tidied.operators] == [Builtin.TANH]
    assert [tensor.name for tensor in tidied.tensors] == ["x", "y1"]


def test_names_are_unique_and_ports_keep_theirs() -> None:
    tidied = tidy(
        graph([op(Builtin.TANH, 0, 1), op(Builtin.EXP, 1, 2), op(Builtin.ABS, 2, 3)], [3], names=["x", "y3", "y3", "q"])
    )
    assert [tensor.name for tensor in tidied.tensors] == ["x", "y3.1", "y3.2", "y3"]


def test_a_reshape_that_only_makes_an_output_comes_last() -> None:
    tidied = tidy(graph([op(Builtin.TANH, 0, 1), op(Builtin.RESHAPE, 1, 2), op(Builtin.EXP, 0, 3)], [2, 3]))
    assert [o.builtin for o in tidied.operators] == [Builtin.TANH, Builtin.EXP, Builtin.RESHAPE]


def test_a_reshape_of_shared_memory_that_is_read_again_works_on_a_copy() -> None:
    operators = [op(Builtin.TANH, 0, 1), op(Builtin.RESHAPE, 1, 2), op(Builtin.SOFTMAX, 2, 3), op(Builtin.EXP, 1, 4)]
    kinds = [o.builtin for o in tidy(graph(operators, [3, 4])).operators]
    assert kinds == [Builtin.TANH, Builtin.PAD, Builtin.RESHAPE, Builtin.SOFTMAX, Builtin.EXP]


def test_a_reshape_of_what_never_shares_memory_needs_no_copy() -> None:
    operators = [op(Builtin.MEAN, 0, 1), op(Builtin.RESHAPE, 1, 2), op(Builtin.SOFTMAX, 2, 3), op(Builtin.EXP, 1, 4)]
    assert Builtin.PAD not in {o.builtin for o in tidy(graph(operators, [3, 4])).operators}


def test_tidying_twice_changes_nothing() -> None:
    operators = [op(Builtin.TANH, 0, 1), op(Builtin.RESHAPE, 1, 2), op(Builtin.SOFTMAX, 2, 3), op(Builtin.EXP, 1, 4)]
    once = tidy(graph(operators, [3, 4]))
    assert [o.builtin for o in tidy(once).operators] == [o.builtin for o in once.operators]
