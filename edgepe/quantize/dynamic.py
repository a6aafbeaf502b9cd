"""Int8 without calibrated activations: dynamic matrix products, and int8 weights of recurrent operators.

Rules kept here:
1. A dynamic product takes the range of its input at each run: DynamicQuantizeLinear, MatMulInteger, and a product with
   both scales, which onnxruntime makes one kernel (its DynamicQuantizeMatMul). Weights are int8, a scale per column.
2. A recurrent operator keeps its arithmetic in float; its weights are int8 behind one Dequantize, a scale per gate and
   unit. Measured on onnxruntime 1.31.1 (x86-64, one thread): a quarter of the bytes, 1.2-1.3 times the time, errors of
   0.01 in outputs of ±1. Its own DynamicQuantizeLSTM is faster above 100 units, but stands outside ONNX, and knows no
   GRU.
3. In a dynamic artifact all else is float: no value between operators is rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgepe.quantize.affine import quantize, weight_affine
from edgepe.scheme import OpScheme, Precision, Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any

    from numpy.typing import NDArray

    from edgepe.quantize.facts import GraphFacts, OpFacts
    from edgepe.target import QuantRules

__all__ = ["dynamic_schemes", "is_static", "stored_elements", "suits_dynamic", "weights_only", "write_dynamic"]

MATRIX = 2
RECURRENT_WEIGHTS = (1, 2)  # input positions of W and R of GRU, LSTM and RNN
UNIT_AXIS = 1  # of W and R: gates times units


def is_static(scheme: OpScheme) -> bool:
    """Tell whether an operator is int8 with calibrated activations."""
    return scheme.precision is Precision.INT8 and scheme.reason is not Reason.DYNAMIC


def suits_dynamic(facts: GraphFacts, rules: QuantRules) -> bool:
    """Tell whether dynamic int8 is the first choice of a graph: attention or time steps, and no convolution."""
    names = {op.op for op in facts.ops}
    attends = any(op.op == "MatMul" and len(facts.activations(op)) == MATRIX for op in facts.ops)
    recurs = bool(names & set(rules.weight_only_ops))
    products = any(product_problem(facts, op) is None for op in facts.ops if op.op in rules.dynamic_ops)
    return products and (attends or recurs) and "Conv" not in names


def dynamic_schemes(facts: GraphFacts, rules: QuantRules, float_nodes: Collection[str]) -> tuple[OpScheme, ...]:
    """Return one scheme per node of a dynamic artifact, in graph order."""
    return tuple(dynamic_scheme(facts, op, rules, float_nodes) for op in facts.ops)


def dynamic_scheme(facts: GraphFacts, op: OpFacts, rules: QuantRules, float_nodes: Collection[str]) -> OpScheme:
    """Choose between a dynamic product, int8 weights alone, and float."""
    precision, reason, detail = Precision.FP32, Reason.TARGET_RULE, "float beside dynamic int8"
    problem = product_problem(facts, op) if op.op in rules.dynamic_ops else detail
    if op.node in float_nodes:
        reason, detail = Reason.SENSITIVE, "int8 here costs too much of the score"
    elif op.op in rules.weight_only_ops:
        return weights_only(facts, op)
    elif problem is None:
        precision, reason, detail = Precision.INT8, Reason.DYNAMIC, "ranges are taken at each run"
    elif op.op in rules.dynamic_ops:
        reason, detail = Reason.NO_INT8_KERNEL, problem
    return OpScheme(node=op.node, op=op.op, precision=precision, reason=reason, detail=detail)


def weights_only(facts: GraphFacts, op: OpFacts) -> OpScheme:
    """Return the scheme of a recurrent operator: int8 weights where they are constant."""
    constant = all(facts.constant(op, index) is not None for index in RECURRENT_WEIGHTS)
    reason = Reason.WEIGHT_ONLY if constant else Reason.RECURRENT
    detail = "int8 weights, float arithmetic" if constant else "its weights are computed"
    return OpScheme(node=op.node, op=op.op, precision=Precision.FP32, reason=reason, detail=detail)


def product_problem(facts: GraphFacts, op: OpFacts) -> str | None:
    """Tell why a MatMul or Gemm cannot be a dynamic product; None where it can."""
    weight = facts.constant(op, 1)
    if weight is None or len(weight.shape or ()) != MATRIX or facts.constant(op, 0) is not None:
        return "a dynamic product wants one constant matrix, on the right"
    plain = op.numbers.get("alpha", 1.0) == 1.0 and op.numbers.get("beta", 1.0) == 1.0 and not op.numbers.get("transA")
    return None if plain else "a dynamic Gemm wants alpha = beta = 1 and no transA"


def write_dynamic(model: ir.Model, schemes: Iterable[OpScheme], rules: QuantRules) -> None:
    """Write the dynamic products and the int8 recurrent weights of a graph, in place."""
    reasons = {scheme.node: scheme.reason for scheme in schemes}
    writer = DynamicWriter(model.graph, rules)
    for node in list(model.graph):
        reason = reasons.get(str(node.name))
        if reason is Reason.DYNAMIC:
            writer.product(node)
        elif reason is Reason.WEIGHT_ONLY:
            for index in RECURRENT_WEIGHTS:
                writer.stored(node, index)


class DynamicWriter:
    """Rewrites one graph in place, node by node."""

    def __init__(self, graph: ir.Graph, rules: QuantRules) -> None:
        self._graph = graph
        self._rules = rules
        self._ranges: dict[ir.Value, tuple[ir.Value, ...]] = {}

    def product(self, node: ir.Node) -> None:
        """Write a MatMul or Gemm as a dynamic product (rule 1)."""
        source, weight = node.inputs[0], constant(node, 1)
        if source is None or weight is None:  # the scheme says otherwise; the checker cannot know
            return
        matrix = weight.T if node.attributes.get_int("transB", 0) != 0 else weight
        affine = weight_affine(matrix, axis=1 if self._rules.per_channel else None, bits=self._rules.weight_bits)
        whole, scale, zero = self._quantized(source, node)
        integers = [
            self._initializer(f"{node.name}/w", quantize(matrix, affine)),
            self._initializer(f"{node.name}/s", affine.scale),
            self._initializer(f"{node.name}/z", np.zeros((), np.int8)),
        ]
        sums = ir.node("MatMulInteger", [whole, integers[0], zero, integers[2]], name=node.name)
        real = ir.node("Cast", [sums.outputs[0]], {"to": int(ir.DataType.FLOAT)})
        step = ir.node("Mul", [scale, integers[1]])
        made = [sums, real, step, ir.node("Mul", [real.outputs[0], step.outputs[0]])]
        bias = node.inputs[2] if len(node.inputs) > MATRIX else None
        if bias is not None:
            made.append(ir.node("Add", [made[-1].outputs[0], bias]))
        self._replace(node, made)

    def stored(self, node: ir.Node, index: int) -> None:
        """Store a weight as int8 behind a Dequantize (rule 2)."""
        weight = constant(node, index)
        if weight is None:  # the scheme says otherwise; the checker cannot know
            return
        affine = weight_affine(weight, axis=UNIT_AXIS)
        inputs = [
            self._initializer(f"{node.name}/{index}/w", quantize(weight, affine)),
            self._initializer(f"{node.name}/{index}/s", affine.scale),
            self._initializer(f"{node.name}/{index}/z", affine.zero_point.astype(np.int8)),
        ]
        stored = ir.node("DequantizeLinear", inputs, {"axis": UNIT_AXIS})
        name_outputs(stored, f"{node.name}/{index}")
        self._graph.insert_before(node, stored)
        node.replace_input_with(index, stored.outputs[0])

    def _quantized(self, value: ir.Value, reader: ir.Node) -> tuple[ir.Value, ...]:
        """Return integers, scale and zero point of a value at run time, once for all its readers."""
        if value not in self._ranges:
            node = ir.node("DynamicQuantizeLinear", [value], num_outputs=3)
            name_outputs(node, f"{value.name}/dynamic")
            self._graph.insert_before(reader, node)
            self._ranges[value] = tuple(node.outputs)
        return self._ranges[value]

    def _replace(self, node: ir.Node, made: list[ir.Node]) -> None:
        old, new = node.outputs[0], made[-1].outputs[0]
        for position, each in enumerate(made):
            name_outputs(each, f"{old.name}/{position}")
        self._graph.insert_before(node, made)
        name, kind, shape = old.name, old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        self._graph.remove(node, safe=True)
        new.name, new.type, new.shape = name, kind, shape

    def _initializer(self, name: str, array: NDArray[Any]) -> ir.Value:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value


def name_outputs(node: ir.Node, stem: str) -> None:
    """Give the outputs of a new node names of their own."""
    for index, value in enumerate(node.outputs):
        value.name = f"{stem}.{index}"


def stored_elements(model: ir.Model, schemes: Iterable[OpScheme]) -> tuple[int, ...]:
    """Return the sizes of the weights that are stored as int8 and made float at each run."""
    names = {scheme.node for scheme in schemes if scheme.reason is Reason.WEIGHT_ONLY}
    weights = (constant(node, index) for node in model.graph if node.name in names for index in RECURRENT_WEIGHTS)
    return tuple(weight.size for weight in weights if weight is not None)


def constant(node: ir.Node, index: int) -> NDArray[Any] | None:
    """Return the numbers of a constant input, or None."""
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()
