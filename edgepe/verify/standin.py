"""What stands in for a board on this host, and how far it can be trusted.

Rules kept here:
1. The label names the runtime, its version, the host's instruction set and what it stands in for.
2. An int8 ONNX artifact for Arm is judged with Arm's graph and Arm's arithmetic (measured on onnxruntime 1.31.1):
   - on x86 with VNNI or AMX the int8 sums are exact, and ``session.qdqisint8allowed=1`` keeps int8 activations as on
     Arm; without it onnxruntime turns them into uint8 and leaves operators unfused;
   - on other x86 the kernels sum two products in saturating 16 bits; ``session.x64quantprecision=1`` makes the weights
     uint8, whose kernels are exact. The two settings exclude each other: together the session does not open.
   Checked against emulated Arm (``python -m tests.bench emulate``, 200 samples a net): the first is bit-exact on
   convolutional nets; on one with attention, whose softmax and norms are float, one sample is off by 0.4 % of the
   outputs' spread. The second is as close, save that a net with residual additions has one sample in a hundred off by
   as much. AVX2 without a switch was off by 4 % on one net and had another class for one sample in five on another.
3. LiteRT's int8 is bit-exact between x86 and emulated Arm with its default delegate; without XNNPACK it is off by up to
   0.9 % of the spread. tflite-runtime stands in as LiteRT.
4. TensorRT stands in as onnxruntime on the CPU: the same pairs, float arithmetic between them.
5. Trust is checked: :func:`is_exact` runs sums that a saturating kernel gets wrong.
"""

from __future__ import annotations

import functools
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from device_agent.runtime.base import installed_runtimes
from edgepe.errors import MissingExtraError
from edgepe.scheme import Precision
from edgepe.verify.run import run_artifact

if TYPE_CHECKING:
    from edgepe.target import Target

__all__ = ["Host", "StandIn", "is_exact", "read_host", "stand_in"]

INT8 = frozenset({Precision.INT8, Precision.MIXED})
EXACT_ISA = ("avx512_vnni", "avx_vnni", "avxvnni", "amx_int8")
X86 = frozenset({"x86_64", "AMD64"})
ROWS = 64  # products summed in the exactness check


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine we run on.

    Attributes:
        machine: ``uname -m``.
        exact_isa: The feature that makes its int8 sums exact, as ``/proc/cpuinfo`` names it; empty where there is none.
    """

    machine: str
    exact_isa: str

    @property
    def title(self) -> str:
        """The machine in words."""
        name = self.machine.replace("_", "-")
        return f"{name} ({self.exact_isa})" if self.exact_isa else name


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """A runtime on this host that judges artifacts of a board.

    Attributes:
        kind: Runtime kind, as ``open_runtime`` takes it.
        settings: The runtime's own switches, as sorted pairs.
        label: Rule 1.
        is_target: Whether it is the target's own runtime on the target's own instruction set, so that times count.
    """

    kind: str
    settings: tuple[tuple[str, str], ...]
    label: str
    is_target: bool


def read_host() -> Host:
    """Describe this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text(encoding="utf8", errors="replace").split()) if cpuinfo.exists() else set()
    found = next((name for name in EXACT_ISA if name in flags), "")
    machine = platform.machine()
    return Host(machine=machine, exact_isa=found if machine in X86 else "")


def stand_in(target: Target, precision: Precision, *, host: Host | None = None) -> StandIn:
    """Choose what judges an artifact of a target on this host.

    Args:
        target: The board.
        precision: Precision of the artifact.
        host: The machine; this one where absent.

    Raises:
        MissingExtraError: The runtime is not installed.
    """
    here = host if host is not None else read_host()
    kind = "onnxruntime" if target.format == "onnx" else "litert"
    versions = dict(installed_runtimes())
    if kind not in versions:
        raise MissingExtraError("compile", wanted_by=f"verifying for {target.name}", module=kind)
    settings = int8_settings(target, here) if kind == "onnxruntime" and precision in INT8 else {}
    switches = "".join(f", {key.removeprefix('session.')}={value}" for key, value in sorted(settings.items()))
    runs_on = "TensorRT" if target.rules.style == "tensorrt" else target.runtime.name
    same = runs_on == kind and here.machine == target.machine
    role = "the target's own" if same else f"stand-in for {runs_on} on {target.machine}"
    return StandIn(
        kind=kind,
        settings=tuple(sorted(settings.items())),
        label=f"{kind} {versions[kind]} on {here.title}{switches}, {role}",
        is_target=same,
    )


def int8_settings(target: Target, host: Host) -> dict[str, str]:
    """Return the session settings that give an int8 artifact the target's arithmetic on this host (rule 2)."""
    if host.machine not in X86 or target.machine in X86:
        return {}
    return {"session.qdqisint8allowed": "1"} if host.exact_isa else {"session.x64quantprecision": "1"}


@functools.cache
def is_exact(judge: StandIn) -> bool:
    """Tell whether an onnxruntime stand-in sums int8 products exactly.

    Runs one S8S8 product of ``ROWS`` largest activations and largest weights: a kernel that saturates at 16 bits is
    off by half. LiteRT is exact by its specification.
    """
    if judge.kind != "onnxruntime":
        return True
    with tempfile.TemporaryDirectory(prefix="edgepe-exact-") as folder:
        path = Path(folder) / "exact.onnx"
        path.write_bytes(largest_sums())
        ones = np.ones((1, ROWS), np.float32)
        outputs = run_artifact(path, judge.kind, {"x": ones}, settings=dict(judge.settings)).outputs
    return bool(np.allclose(outputs["y"], ROWS, rtol=0.01))


def largest_sums() -> bytes:
    """Return an int8 model whose sums are as large as they can be: ``ROWS`` ones times ``ROWS`` ones."""
    import onnx_ir as ir  # noqa: PLC0415 - only this check builds a graph

    def initializer(name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ir.Value:
        tensor = ir.tensor(array, name=name)
        return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)

    low = np.asarray(-128, np.int8)
    x = ir.Value(name="x", shape=ir.Shape([1, ROWS]), type=ir.TensorType(ir.DataType.FLOAT))
    scale_x = initializer("scale_x", np.asarray(1 / 255, np.float32))
    zero_x = initializer("zero_x", low)
    weight = initializer("weight", np.full((ROWS, 8), 127, np.int8))
    scale_w = initializer("scale_w", np.full(8, 1 / 127, np.float32))
    zero_w = initializer("zero_w", np.zeros(8, np.int8))
    scale_y = initializer("scale_y", np.asarray(ROWS / 255, np.float32))
    zero_y = initializer("zero_y", low)
    quantized = ir.node("QuantizeLinear", [x, scale_x, zero_x])
    real = ir.node("DequantizeLinear", [quantized.outputs[0], scale_x, zero_x])
    weights = ir.node("DequantizeLinear", [weight, scale_w, zero_w], {"axis": 1})
    product = ir.node("MatMul", [real.outputs[0], weights.outputs[0]])
    narrowed = ir.node("QuantizeLinear", [product.outputs[0], scale_y, zero_y])
    widened = ir.node("DequantizeLinear", [narrowed.outputs[0], scale_y, zero_y])
    y = widened.outputs[0]
    y.name, y.type, y.shape = "y", ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, 8])
    graph = ir.Graph(
        [x],
        [y],
        nodes=[quantized, real, weights, product, narrowed, widened],
        initializers=[scale_x, zero_x, weight, scale_w, zero_w, scale_y, zero_y],
        opset_imports={"": 17},
        name="largest_sums",
    )
    return bytes(ir.serde.serialize_model(ir.Model(graph, ir_version=8)).SerializeToString())
