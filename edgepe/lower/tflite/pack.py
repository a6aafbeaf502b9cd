"""The bytes of a TFLite file, over LiteRT's own generated schema.

Rules kept here:
1. The same model gives the same bytes: no clock, no random order, no set is iterated.
2. Constants lie on 16-byte boundaries (the generated packer aligns them to 1); equal ones are stored once.
3. Equal quantization tables, and equal vectors inside them, are stored once: a zero point takes eight bytes a channel.
4. There is one signature, ``serving_default``, with the ONNX names of inputs and outputs.
5. An operator's version is the lowest that its content needs, so that old runtimes read the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgepe.lower.tflite.flat import Activation, Builtin
from edgepe.lower.tflite.tidy import tidy
from edgepe.lower.tflite.versions import operator_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgepe.lower.tflite.flat import Graph, Model, Operator, Port, Quantization, Tensor

__all__ = ["serialize"]

SIGNATURE = "serving_default"
SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
ALIGNMENT = 16
# Builtin codes above this stand only in the wide field; the narrow one says "look there".
NARROW_CODES_END = 127

# Operators whose option table is named otherwise than "<Builtin in camel case>Options"; None where they have none.
OPTION_TABLES: dict[Builtin, str | None] = {
    Builtin.ABS: "AbsOptions",
    Builtin.ADD: "AddOptions",
    Builtin.AVERAGE_POOL_2D: "Pool2DOptions",
    Builtin.CONCATENATION: "ConcatenationOptions",
    Builtin.CONV_2D: "Conv2DOptions",
    Builtin.DEPTHWISE_CONV_2D: "DepthwiseConv2DOptions",
    Builtin.DEQUANTIZE: "DequantizeOptions",
    Builtin.DIV: "DivOptions",
    Builtin.EXP: "ExpOptions",
    Builtin.FULLY_CONNECTED: "FullyConnectedOptions",
    Builtin.HARD_SWISH: "HardSwishOptions",
    Builtin.LEAKY_RELU: "LeakyReluOptions",
    Builtin.MAXIMUM: "MaximumMinimumOptions",
    Builtin.MAX_POOL_2D: "Pool2DOptions",
    Builtin.MEAN: "ReducerOptions",
    Builtin.MINIMUM: "MaximumMinimumOptions",
    Builtin.MUL: "MulOptions",
    Builtin.PAD: "PadOptions",
    Builtin.PADV2: "PadV2Options",
    Builtin.QUANTIZE: "QuantizeOptions",
    Builtin.REDUCE_MAX: "ReducerOptions",
    Builtin.REDUCE_MIN: "ReducerOptions",
    Builtin.RESHAPE: "ReshapeOptions",
    Builtin.SOFTMAX: "SoftmaxOptions",
    Builtin.SUB: "SubOptions",
    Builtin.SUM: "ReducerOptions",
    Builtin.TRANSPOSE: "TransposeOptions",
}


def serialize(model: Model) -> bytes:
    """Return the TFLite file of a model.

    The graph is tidied first (see ``tidy``), so that a caller may leave dead operators in it.
    """
    return _Packer(graph=tidy(model.graph), description=model.description).pack()


@dataclass(slots=True, kw_only=True)
class _Packer:
    """One file in the making; the tables are what may be shared."""

    graph: Graph
    description: str
    # The generated schema and flatbuffers carry no types: their builder is Any by nature.
    builder: Any = field(default_factory=lambda: flatbuffers.Builder(1024))
    buffers: dict[bytes, int] = field(default_factory=dict)
    vectors: dict[bytes, int] = field(default_factory=dict)
    quantizations: dict[Quantization, int] = field(default_factory=dict)

    def pack(self) -> bytes:
        """Write leaves first, as flatbuffers wants it, and the model last."""
        versions = self._versions()
        codes = self._offsets(map(self._code, versions, versions.values()))
        tensors = self._offsets(map(self._tensor, self.graph.tensors))
        buffers = self._offsets(map(self._buffer, [b"", *self.buffers]))
        positions = {builtin: index for index, builtin in enumerate(versions)}
        operators = self._offsets(self._operator(o, positions[o.builtin]) for o in self.graph.operators)
        subgraphs = self._offsets([self._subgraph(tensors, operators)])
        signatures = self._offsets([self._signature()])
        description = self.builder.CreateString(self.description)
        schema.ModelStart(self.builder)
        schema.ModelAddVersion(self.builder, SCHEMA_VERSION)
        schema.ModelAddOperatorCodes(self.builder, codes)
        schema.ModelAddSubgraphs(self.builder, subgraphs)
        schema.ModelAddDescription(self.builder, description)
        schema.ModelAddBuffers(self.builder, buffers)
        schema.ModelAddSignatureDefs(self.builder, signatures)
        self.builder.Finish(schema.ModelEnd(self.builder), FILE_IDENTIFIER)
        return bytes(self.builder.Output())

    def _versions(self) -> dict[Builtin, int]:
        versions: dict[Builtin, int] = {}
        for operator in self.graph.operators:
            needed = operator_version(operator, self.graph.tensors)
            versions[operator.builtin] = max(needed, versions.get(operator.builtin, 1))
        return versions

    def _code(self, builtin: Builtin, version: int) -> int:
        code = getattr(schema.BuiltinOperator, builtin.value)
        schema.OperatorCodeStart(self.builder)
        schema.OperatorCodeAddDeprecatedBuiltinCode(self.builder, min(code, NARROW_CODES_END))
        schema.OperatorCodeAddBuiltinCode(self.builder, code)
        schema.OperatorCodeAddVersion(self.builder, version)
        return int(schema.OperatorCodeEnd(self.builder))

    def _tensor(self, tensor: Tensor) -> int:
        name = self.builder.CreateString(tensor.name)
        shape = self._vector(np.asarray(tensor.shape, np.int32))
        quantization = None if tensor.quantization is None else self._quantization(tensor.quantization)
        schema.TensorStart(self.builder)
        schema.TensorAddShape(self.builder, shape)
        schema.TensorAddType(self.builder, getattr(schema.TensorType, tensor.dtype.value))
        schema.TensorAddBuffer(self.builder, self._buffer_index(tensor))
        schema.TensorAddName(self.builder, name)
        if quantization is not None:
            schema.TensorAddQuantization(self.builder, quantization)
        schema.TensorAddHasRank(self.builder, True)
        return int(schema.TensorEnd(self.builder))

    def _buffer_index(self, tensor: Tensor) -> int:
        if tensor.data is None:
            return 0
        return self.buffers.setdefault(np.ascontiguousarray(tensor.data).tobytes(), len(self.buffers) + 1)

    def _buffer(self, content: bytes) -> int:
        data = None
        if content:
            # CreateByteVector aligns to one byte: reserve the room by hand.
            self.builder.StartVector(1, len(content), ALIGNMENT)
            head = self.builder.head - len(content)
            self.builder.head = head
            self.builder.Bytes[head : head + len(content)] = content
            data = self.builder.EndVector()
        schema.BufferStart(self.builder)
        if data is not None:
            schema.BufferAddData(self.builder, data)
        return int(schema.BufferEnd(self.builder))

    def _quantization(self, quantization: Quantization) -> int:
        if quantization not in self.quantizations:
            scale = np.asarray(quantization.scale, np.float32)
            scales = self._vector(scale)
            zero_points = self._vector(np.full(scale.shape, quantization.zero_point, np.int64))
            schema.QuantizationParametersStart(self.builder)
            schema.QuantizationParametersAddScale(self.builder, scales)
            schema.QuantizationParametersAddZeroPoint(self.builder, zero_points)
            schema.QuantizationParametersAddQuantizedDimension(self.builder, quantization.axis)
            self.quantizations[quantization] = int(schema.QuantizationParametersEnd(self.builder))
        return self.quantizations[quantization]

    def _operator(self, operator: Operator, code: int) -> int:
        inputs = self._vector(np.asarray(operator.inputs, np.int32))
        outputs = self._vector(np.asarray(operator.outputs, np.int32))
        table = OPTION_TABLES.get(operator.builtin)
        options = None if table is None else self._options(operator, table)
        schema.OperatorStart(self.builder)
        schema.OperatorAddOpcodeIndex(self.builder, code)
        schema.OperatorAddInputs(self.builder, inputs)
        schema.OperatorAddOutputs(self.builder, outputs)
        if options is not None:
            schema.OperatorAddBuiltinOptionsType(self.builder, getattr(schema.BuiltinOptions, str(table)))
            schema.OperatorAddBuiltinOptions(self.builder, options)
        return int(schema.OperatorEnd(self.builder))

    def _options(self, operator: Operator, table: str) -> int:
        options = getattr(schema, f"{table}T")()
        for name, value in operator.options.items():
            setattr(options, name, list(value) if isinstance(value, tuple) else value)
        if operator.activation is not Activation.NONE:
            options.fusedActivationFunction = getattr(schema.ActivationFunctionType, operator.activation.value)
        return int(options.Pack(self.builder))

    def _subgraph(self, tensors: int, operators: int) -> int:
        inputs = self._vector(np.asarray([port.tensor for port in self.graph.inputs], np.int32))
        outputs = self._vector(np.asarray([port.tensor for port in self.graph.outputs], np.int32))
        name = self.builder.CreateString("main")
        schema.SubGraphStart(self.builder)
        schema.SubGraphAddTensors(self.builder, tensors)
        schema.SubGraphAddInputs(self.builder, inputs)
        schema.SubGraphAddOutputs(self.builder, outputs)
        schema.SubGraphAddOperators(self.builder, operators)
        schema.SubGraphAddName(self.builder, name)
        return int(schema.SubGraphEnd(self.builder))

    def _signature(self) -> int:
        inputs = self._offsets(map(self._tensor_map, self.graph.inputs))
        outputs = self._offsets(map(self._tensor_map, self.graph.outputs))
        key = self.builder.CreateString(SIGNATURE)
        schema.SignatureDefStart(self.builder)
        schema.SignatureDefAddInputs(self.builder, inputs)
        schema.SignatureDefAddOutputs(self.builder, outputs)
        schema.SignatureDefAddSignatureKey(self.builder, key)
        schema.SignatureDefAddSubgraphIndex(self.builder, 0)
        return int(schema.SignatureDefEnd(self.builder))

    def _tensor_map(self, port: Port) -> int:
        name = self.builder.CreateString(port.name)
        schema.TensorMapStart(self.builder)
        schema.TensorMapAddName(self.builder, name)
        schema.TensorMapAddTensorIndex(self.builder, port.tensor)
        return int(schema.TensorMapEnd(self.builder))

    def _vector(self, array: np.ndarray[Any, Any]) -> int:
        """Write a vector of numbers, or find the equal one that is there already."""
        key = array.dtype.str.encode() + array.tobytes()
        if key not in self.vectors:
            self.vectors[key] = int(self.builder.CreateNumpyVector(array))
        return self.vectors[key]

    def _offsets(self, offsets: Iterable[int]) -> int:
        """Write a vector of tables; the tables themselves are written while ``offsets`` is walked."""
        written = list(offsets)
        self.builder.StartVector(4, len(written), 4)
        for offset in reversed(written):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())
