"""What a profile that is whole may still get wrong: fields that contradict each other.

Rules kept here:
1. One function per rule, with the code of what it finds; the source of a rule stands in its docstring.
2. An error is what no artifact could survive; a warning is what costs speed, accuracy or predictions.
3. No I/O, and the standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgepe.scheme import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgepe.target import Target

__all__ = ["LINTS", "Finding", "lint"]

Level = Literal["error", "warning"]

RUNTIMES = {"onnx": ("onnxruntime",), "tflite": ("litert", "tflite-runtime")}
OPSETS = {(1, 17): 20, (1, 18): 21, (1, 20): 21, (1, 21): 22, (1, 22): 23, (1, 23): 23}
"""onnxruntime version → newest operator set (onnxruntime's table of compatibility)."""
FEATURES = {
    "aarch64": re.compile(r"asimd|fp$|sve|i8mm|bf16|aes|crc32"),
    "x86_64": re.compile(r"sse|avx|fma|amx|vnni|f16c"),
}
OP_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")
MOST_GAP = 16.0
"""A precision that is so many times faster than fp32 is a slip of the pen."""
FULL_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, or looks it.

    Attributes:
        level: ``error`` or ``warning``.
        code: The rule.
        key: The key of the profile.
        what: What is wrong.
    """

    level: Level
    code: str
    key: str
    what: str


def lint(target: Target) -> tuple[Finding, ...]:
    """Return what is wrong with a profile, errors first."""
    found = [finding for rule in LINTS for finding in rule(target)]
    return tuple(sorted(found, key=lambda finding: finding.level))


def runtime_fits_format(target: Target) -> Iterator[Finding]:
    """A runtime reads one format."""
    if target.runtime.name not in RUNTIMES[target.format]:
        wanted = " or ".join(RUNTIMES[target.format])
        yield error("runtime-format", "runtime.name", f"{target.runtime.name} does not read {target.format}: {wanted}")


def style_fits_format(target: Target) -> Iterator[Finding]:
    """TFLite has int8 tensors, ONNX has pairs of QuantizeLinear and DequantizeLinear."""
    if (target.rules.style == "tflite") != (target.format == "tflite"):
        yield error("style-format", "rules.style", f"style {target.rules.style} is not of format {target.format}")


def precisions_fit_format(target: Target) -> Iterator[Finding]:
    """A TFLite file has no fp16 arithmetic on the CPU; a precision stands once."""
    if target.format == "tflite" and Precision.FP16 in target.precisions:
        yield error("fp16-tflite", "precisions", "a TFLite file has no fp16 arithmetic on the CPU")
    if len(set(target.precisions)) < len(target.precisions):
        yield error("twice", "precisions", "a precision stands twice")
    if Precision.FP32 not in target.precisions:
        yield warning(
            "no-fallback", "precisions", "without fp32 a build fails where nothing smaller holds the contract"
        )


def opset_fits_runtime(target: Target) -> Iterator[Finding]:
    """The oldest runtime that is allowed reads the newest operator set that is written."""
    if target.format != "onnx":
        return
    version = tuple(int(part) for part in re.findall(r"\d+", target.runtime.version)[:2])
    known = [opset for floor, opset in OPSETS.items() if floor <= version]
    if not known:
        yield warning("old-runtime", "runtime.version", f"onnxruntime {target.runtime.version} is older than 1.17")
    elif target.opset_max > max(known):
        what = f"onnxruntime {target.runtime.version} reads operator sets up to {max(known)}, not {target.opset_max}"
        yield error("opset-runtime", "opset_max", what)


def tensorrt_is_symmetric(target: Target) -> Iterator[Finding]:
    """TensorRT's Q/DQ: zero points 0, float bias, none on graph outputs (TensorRT developer guide, explicit Q/DQ)."""
    rules = target.rules
    if rules.style != "tensorrt":
        return
    if rules.activation != "symmetric" or not rules.weight_symmetric:
        yield error("tensorrt-symmetric", "rules.activation", "TensorRT wants every zero point to be 0")
    if rules.bias != "float32":
        yield error("tensorrt-bias", "rules.bias", "TensorRT wants a float32 bias")
    if rules.quantize_outputs:
        yield error("tensorrt-outputs", "rules.quantize_outputs", "TensorRT wants no pair on graph outputs")


def arm_has_whole_weights(target: Target) -> Iterator[Finding]:
    """Arm's kernels neither saturate nor run S8U8 fast (onnxruntime, quantization documentation)."""
    if target.machine != "aarch64" or target.rules.style != "ort":
        return
    if target.rules.weight_bits < FULL_BITS:
        yield warning(
            "arm-weight-bits", "rules.weight_bits", "7-bit weights cost accuracy; Arm's kernels do not saturate"
        )
    if target.rules.activation_dtype != "int8":
        yield warning("arm-s8u8", "rules.activation_dtype", "onnxruntime has no fast kernel on Arm for uint8 with int8")


def bias_fits_style(target: Target) -> Iterator[Finding]:
    """Integer kernels of onnxruntime and LiteRT take an int32 bias; with a float one nothing fuses."""
    if target.rules.style in {"ort", "tflite"} and target.rules.bias != "int32":
        yield error("bias-style", "rules.bias", f"style {target.rules.style} fuses only with an int32 bias")


def features_fit_machine(target: Target) -> Iterator[Finding]:
    """CPU features go by the names of the machine's ``/proc/cpuinfo``."""
    known = FEATURES.get(target.machine)
    for name in target.isa if known else ():
        if not known.search(name):  # type: ignore[union-attr] # the loop runs only where there is a pattern
            yield warning("unknown-feature", "isa", f"'{name}' is no feature that {target.machine} is known to have")


def operators_have_names(target: Target) -> Iterator[Finding]:
    """Operator types are written as ONNX writes them."""
    for name in target.rules.float_ops:
        if not OP_NAME.fullmatch(name):
            yield error("operator-name", "rules.float_ops", f"'{name}' is no ONNX operator type")


def costs_are_whole(target: Target) -> Iterator[Finding]:
    """A prediction needs a row for each precision, and faster arithmetic is not slower, nor faster beyond belief."""
    if target.cost is None:
        yield warning(
            "no-cost", "cost", "without a cost table no latency is predicted, and a latency bound cannot hold"
        )
        return
    base = target.cost.row(Precision.FP32)
    for precision in target.precisions:
        row = target.cost.row(precision)
        if row is None and precision is not Precision.MIXED:
            yield warning("no-cost-row", f"cost.rows.{precision}", f"{precision} is predicted as if it were fp32")
        elif row and base and not 1 / MOST_GAP <= row.macs_per_us / base.macs_per_us <= MOST_GAP:
            ratio = row.macs_per_us / base.macs_per_us
            yield warning("cost-ratio", f"cost.rows.{precision}", f"{precision} is {ratio:.3g} times as fast as fp32")


def memory_is_known(target: Target) -> Iterator[Finding]:
    """What the runtime takes by itself is less than the board has."""
    if target.memory is None:
        yield warning("no-memory", "memory", "without it no memory is predicted")
    elif target.memory.runtime_bytes >= target.ram_bytes:
        yield error("memory-ram", "memory.runtime_bytes", "the runtime alone would not fit ram_bytes")


def error(code: str, key: str, what: str) -> Finding:
    """Return an error."""
    return Finding(level="error", code=code, key=key, what=what)


def warning(code: str, key: str, what: str) -> Finding:
    """Return a warning."""
    return Finding(level="warning", code=code, key=key, what=what)


LINTS: tuple[Callable[[Target], Iterator[Finding]], ...] = (
    runtime_fits_format,
    style_fits_format,
    precisions_fit_format,
    opset_fits_runtime,
    tensorrt_is_symmetric,
    arm_has_whole_weights,
    bias_fits_style,
    features_fit_machine,
    operators_have_names,
    costs_are_whole,
    memory_is_known,
)
