"""Target profiles: what a board wants of its artifact, as data read from TOML.

Rules kept here:
1. A profile names its schema version; an unknown key is an error with "did you mean", never ignored.
2. Everything that distinguishes two boards is a field of :class:`Target`; no stage asks for a board by name.
3. Predictions come from :class:`CostTable` alone, which says where its figures come from.
4. A profile may extend another one (``edgepe.inheritance``); its digest is that of the whole.
5. Reading a profile needs the standard library only, so that a bare installation can show it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, TypeVar, cast, get_args

from device_agent.wire.manifest import RuntimeFloor
from edgepe.errors import MissingFileError, ProfileError, UnknownTargetError
from edgepe.inheritance import with_base
from edgepe.scheme import Precision

__all__ = [
    "SCHEMA",
    "CostRow",
    "CostTable",
    "Format",
    "MemoryTable",
    "QuantRules",
    "Style",
    "Target",
    "load_target",
    "parse_target",
    "shipped_profile",
    "target_aliases",
    "target_names",
]

SCHEMA = 1

Format = Literal["onnx", "tflite"]
Layout = Literal["nchw", "nhwc"]
Style = Literal["ort", "tensorrt", "tflite"]
Symmetry = Literal["symmetric", "asymmetric"]
Bias = Literal["int32", "float32"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantRules:
    """How a runtime wants its int8 graph.

    Attributes:
        style: Where quantize/dequantize pairs stand: ``ort`` (around each operator, so that Conv fuses as DQ→Conv→Q),
            ``tensorrt`` (on inputs and weights of Conv, ConvTranspose, Gemm and MatMul only), ``tflite`` (int8
            tensors).
        weight_symmetric: Weights have zero point 0 and lie in ±(2^(bits-1)-1).
        weight_bits: 8, or 7 where the kernels sum two products in saturating 16 bits (x86 without VNNI).
        activation: Zero point of activations: ``symmetric`` is 0 everywhere, ``asymmetric`` is fitted.
        activation_dtype: Type of quantized activations.
        per_channel: Weights have one scale per output channel.
        bias: ``int32`` with scale ``s_x * s_w``, or left in ``float32``.
        quantize_outputs: Graph outputs pass through a quantize/dequantize pair.
        min_channels: A Conv with fewer input or output channels stays in float; 0 is no such rule.
        residual_branch_only: Of a residual Add only the shorter branch is quantized.
        float_ops: Operator types that stay in float.
        dynamic_ops: Operator types that have an int8 kernel which takes its input's range at each run.
        weight_only_ops: Operator types whose weights are stored as int8 though their arithmetic is float.
    """

    style: Style
    weight_symmetric: bool
    weight_bits: int
    activation: Symmetry
    activation_dtype: str
    per_channel: bool
    bias: Bias
    quantize_outputs: bool
    min_channels: int
    residual_branch_only: bool
    float_ops: tuple[str, ...]
    dynamic_ops: tuple[str, ...] = ()
    weight_only_ops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """Sustained speed of one core at one precision.

    Attributes:
        precision: The precision the row is about.
        macs_per_us: Multiply-accumulates in a microsecond.
        elements_per_us: Elements that an operator without multiply-accumulates writes in a microsecond.
    """

    precision: Precision
    macs_per_us: float
    elements_per_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """Figures to predict a latency with, for one thread.

    Attributes:
        source: Where the figures come from; shown wherever a prediction is shown.
        call_us: Time of a call that computes nothing, µs.
        op_us: Overhead of one operator, µs.
        rows: One row per precision.
    """

    source: str
    call_us: float
    op_us: float
    rows: tuple[CostRow, ...]

    def row(self, precision: Precision) -> CostRow | None:
        """Return the row of a precision, or None where the table has none."""
        return next((row for row in self.rows if row.precision is precision), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTable:
    """Figures to predict memory with.

    Attributes:
        source: Where the figures come from; shown wherever a prediction is shown.
        runtime_bytes: Resident memory of the agent's worker with the runtime loaded and no model.
    """

    source: str
    runtime_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One board, as the compiler sees it.

    Attributes:
        schema: Version of the profile's schema.
        name: Name of the profile; part of the bundle's file name.
        title: The board in words.
        aliases: Other names of the same profile.
        format: File format of the artifact.
        runtime: The runtime that will run it, and its oldest version.
        python: Oldest Python of the agent there, such as ``3.10``; empty where the board runs no Python.
        opset_max: Newest ONNX operator set of the runtime (for TFLite: of the graph that is lowered).
        ir_max: Newest ONNX IR version of the runtime.
        machine: ``uname -m`` of the board.
        isa: CPU features that the profile counts on, as ``/proc/cpuinfo`` names them.
        cores: CPU cores.
        ram_bytes: Memory of the smallest variant.
        precisions: Precisions to try, best first.
        io_layout: Layout of images and sequences at the artifact's inputs and outputs.
        round_to: Pruned channel counts are rounded to a multiple of this.
        rules: Quantization rules.
        cost: Cost table, or None where nothing is known.
        memory: Memory table, or None likewise.
        digest: SHA-256 of the profile's content (comments and order do not count), hex.
    """

    schema: int
    name: str
    title: str
    aliases: tuple[str, ...]
    format: Format
    runtime: RuntimeFloor
    python: str
    opset_max: int
    ir_max: int
    machine: str
    isa: tuple[str, ...]
    cores: int
    ram_bytes: int
    precisions: tuple[Precision, ...]
    io_layout: Layout
    round_to: int
    rules: QuantRules
    cost: CostTable | None
    memory: MemoryTable | None
    digest: str


def target_names() -> tuple[str, ...]:
    """Return the names of the profiles that ship with edgepe, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def target_aliases() -> dict[str, str]:
    """Return alias → profile name, for the profiles that ship with edgepe."""
    return {alias: name for name in target_names() for alias in load_target(name).aliases}


def load_target(name_or_path: str | Path) -> Target:
    """Return a profile by name, alias, or path of a ``.toml`` file.

    Raises:
        UnknownTargetError: There is no profile of that name.
        MissingFileError: The path does not exist.
        ProfileError: The profile breaks its schema.
    """
    text = str(name_or_path)
    return _read(Path(text) if text.endswith(".toml") else shipped_profile(text))


def shipped_profile(name: str) -> Path:
    """Return the file of a profile that ships with edgepe, by name or alias.

    Raises:
        UnknownTargetError: There is no profile of that name.
    """
    aliases = {} if name in target_names() else target_aliases()
    if name in target_names() or name in aliases:
        return _folder() / f"{aliases.get(name, name)}.toml"
    near = difflib.get_close_matches(name, [*target_names(), *aliases], n=1)
    raise UnknownTargetError(
        f"there is no target '{name}'",
        expected=", ".join([*target_names(), *sorted(aliases)]),
        got=name,
        next_step=f"did you mean '{near[0]}'?" if near else "edgepe targets list, or give the path of a .toml profile",
    )


def parse_target(text: str, *, source: str) -> Target:
    """Return the profile that a TOML text describes.

    Args:
        text: The TOML.
        source: What to call it in an error.

    Raises:
        ProfileError: It is no TOML, or breaks the schema.
    """
    raw = with_base(_toml(text, source), source=source, find=_base)
    table = _Table(raw, source)
    schema = table.take("schema", int)
    if schema != SCHEMA:
        table.refuse("schema", expected=f"{SCHEMA}", got=schema)
    target = Target(
        schema=schema,
        name=table.take("name", str),
        title=table.take("title", str),
        aliases=table.texts("aliases", ()),
        format=cast("Format", table.one_of("format", get_args(Format))),
        runtime=_runtime(table.table("runtime")),
        python=table.take("python", str),
        opset_max=table.positive("opset_max"),
        ir_max=table.positive("ir_max"),
        machine=table.take("machine", str),
        isa=table.texts("isa"),
        cores=table.positive("cores"),
        ram_bytes=table.positive("ram_bytes"),
        precisions=tuple(_precision(table, "precisions", value) for value in table.texts("precisions")),
        io_layout=cast("Layout", table.one_of("io_layout", get_args(Layout))),
        round_to=table.positive("round_to"),
        rules=_rules(table.table("rules")),
        cost=_cost(table.table("cost")) if "cost" in raw else None,
        memory=_memory(table.table("memory")) if "memory" in raw else None,
        digest=hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest(),
    )
    table.close()
    if not target.precisions:
        table.refuse("precisions", expected="at least one precision", got="none")
    return target


def _folder() -> Path:
    inside = Path(__file__).parent / "targets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "targets"


def _toml(text: str, source: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{source} is not valid TOML", got=str(error), next_step=f"mend {source}") from error


def _base(name: str, source: str) -> tuple[dict[str, object], str]:
    """Return what a profile is based on, by name, alias or path beside the profile that names it."""
    path = Path(source).parent / name if name.endswith(".toml") else shipped_profile(name)
    return _toml(_text(path), str(path)), str(path)


def _read(path: Path) -> Target:
    return parse_target(_text(path), source=str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf8")
    except FileNotFoundError as error:
        raise MissingFileError(
            f"there is no target profile {path}",
            expected="a .toml profile",
            got="no such file",
            next_step="see targets/README.md",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} cannot be read", expected="a UTF-8 .toml profile", got=str(error)) from error


def _runtime(table: _Table) -> RuntimeFloor:
    floor = RuntimeFloor(
        name=table.one_of("name", ("onnxruntime", "litert", "tflite-runtime")), version=table.take("version", str)
    )
    table.close()
    return floor


def _rules(table: _Table) -> QuantRules:
    rules = QuantRules(
        style=cast("Style", table.one_of("style", get_args(Style))),
        weight_symmetric=table.take("weight_symmetric", bool),
        weight_bits=table.take("weight_bits", int),
        activation=cast("Symmetry", table.one_of("activation", get_args(Symmetry))),
        activation_dtype=table.one_of("activation_dtype", ("int8", "uint8")),
        per_channel=table.take("per_channel", bool),
        bias=cast("Bias", table.one_of("bias", get_args(Bias))),
        quantize_outputs=table.take("quantize_outputs", bool),
        min_channels=table.take("min_channels", int),
        residual_branch_only=table.take("residual_branch_only", bool),
        float_ops=table.texts("float_ops"),
        dynamic_ops=table.texts("dynamic_ops", ()),
        weight_only_ops=table.texts("weight_only_ops", ()),
    )
    table.close()
    if rules.weight_bits not in {7, 8}:
        table.refuse("weight_bits", expected="7 or 8", got=rules.weight_bits)
    return rules


def _cost(table: _Table) -> CostTable:
    rows = table.table("rows")
    cost = CostTable(
        source=table.take("source", str),
        call_us=table.number("call_us"),
        op_us=table.number("op_us"),
        rows=tuple(_row(rows.table(key), _precision(rows, key, key)) for key in rows.names()),
    )
    rows.close()
    table.close()
    return cost


def _memory(table: _Table) -> MemoryTable:
    memory = MemoryTable(source=table.take("source", str), runtime_bytes=table.positive("runtime_bytes"))
    table.close()
    return memory


def _row(table: _Table, precision: Precision) -> CostRow:
    row = CostRow(
        precision=precision,
        macs_per_us=table.number("macs_per_us"),
        elements_per_us=table.number("elements_per_us"),
    )
    table.close()
    return row


def _precision(table: _Table, key: str, value: str) -> Precision:
    try:
        return Precision(value)
    except ValueError:
        table.refuse(key, expected=", ".join(Precision), got=value)


class _Table:
    """One TOML table under reading: each key is taken once, with its type; what is left over is unknown."""

    def __init__(self, raw: dict[str, object], where: str) -> None:
        self._raw = raw
        self._where = where
        self._known: set[str] = set()

    def names(self) -> tuple[str, ...]:
        return tuple(self._raw)

    def take(self, key: str, kind: type[T]) -> T:
        self._known.add(key)
        value = self._raw.get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            got = "nothing" if value is None else f"{value!r}"
            self.refuse(key, expected=kind.__name__, got=got)
        return value

    def positive(self, key: str) -> int:
        value = self.take(key, int)
        if value < 1:
            self.refuse(key, expected="a positive whole number", got=value)
        return value

    def number(self, key: str) -> float:
        whole = isinstance(self._raw.get(key), int)
        value = float(self.take(key, int)) if whole else self.take(key, float)
        if not 0 < value < float("inf"):
            self.refuse(key, expected="a positive number", got=value)
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        if default is not None and key not in self._raw:
            self._known.add(key)
            return default
        values = cast("list[object]", self.take(key, list))
        return tuple(value if isinstance(value, str) else self.refuse(key, "texts", value) for value in values)

    def one_of(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.take(key, str)
        if value not in choices:
            self.refuse(key, expected=", ".join(choices), got=value)
        return value

    def table(self, key: str) -> _Table:
        return _Table(cast("dict[str, object]", self.take(key, dict)), f"{self._where} [{key}]")

    def close(self) -> None:
        """Refuse keys that nothing has asked for."""
        for key in sorted(set(self._raw) - self._known):
            near = difflib.get_close_matches(key, self._known, n=1)
            raise ProfileError(
                f"{self._where} has an unknown key",
                expected=", ".join(sorted(self._known)),
                got=key,
                next_step=f"did you mean '{near[0]}'?" if near else f"remove '{key}'",
            )

    def refuse(self, key: str, expected: object, got: object) -> NoReturn:
        raise ProfileError(
            f"{self._where}: '{key}' is wrong", expected=expected, got=got, next_step="see targets/README.md"
        )
