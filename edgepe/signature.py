"""What the application hands in and what the outputs mean: raw layout, scaling, labels.

Rules kept here:
1. Declared once, in a TOML file; it travels in the bundle and runs by the same code on the host and on the device.
2. Without a declaration the raw value is the model's own input, save for the order of its axes.

::

    labels = ["still", "walking"]

    [inputs.x]            # or [inputs.NAME] for each of several
    layout = "NWC"        # order of the raw value's axes: N batch, C channels, W or T time, H W space
    scale = 0.001         # raw value * scale
    mean = [0.0, 0.1]     # then - mean, one number or one per channel
    std = [1.0, 2.0]      # then / std
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from device_agent.wire.errors import WireError
from device_agent.wire.manifest import Preprocess, TensorSpec
from edgepe.errors import ConfigFileError, MissingFileError
from edgepe.wording import first_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Signature", "channel_first", "load_signature", "parse_signature", "spec"]

ONLY_INPUT = "x"
KEYS = ("layout", "scale", "mean", "std")
BY_RANK = {2: "NC", 3: "NCW", 4: "NCHW"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Preprocessing by input name, and the names of the classes.

    Attributes:
        inputs: Input name → how its raw value becomes the model's; ``x`` stands for the only input.
        labels: Names of the classes, in the order of the outputs; may be empty.
    """

    inputs: Mapping[str, Preprocess] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def of(self, name: str, *, only: bool) -> Preprocess | None:
        """Return the preprocessing of an input; ``only`` says that the model has no other."""
        found = self.inputs.get(name)
        return next(iter(self.inputs.values()), None) if found is None and only else found

    def check_names(self, names: tuple[str, ...]) -> None:
        """Refuse a declaration of an input that the model does not have.

        Raises:
            ConfigFileError: Naming it.
        """
        known = {*names, ONLY_INPUT} if len(names) == 1 else set(names)
        unknown = sorted(set(self.inputs) - known)
        if unknown or (len(names) == 1 and len(self.inputs) > 1):
            raise ConfigFileError(
                "the signature declares an input that the model does not have",
                expected=", ".join(names),
                got=", ".join(unknown or self.inputs),
            )


def channel_first(rank: int) -> str:
    """Return the layout of a value of the float graph, as far as its rank tells."""
    return BY_RANK.get(rank, "")


def spec(
    name: str, dtype: str, shape: tuple[int, ...], declared: Preprocess | None, *, layout: str, raw_dtype: str
) -> TensorSpec:
    """Return the specification of an input.

    Args:
        name: Its name.
        dtype: Its type, as numpy spells it.
        shape: Its shape in ``layout``; -1 is the open batch.
        declared: What the signature says of it, or None.
        layout: Order of its axes in the artifact.
        raw_dtype: Type of the raw value; another one than ``dtype`` is converted, on the host and on the device.

    Raises:
        ConfigFileError: The declared layout has other axes than the input.
    """
    plain = channel_first(len(shape))
    if declared is None and layout == plain:  # nobody said what the axes mean, and nothing moves them
        rule = None if raw_dtype == dtype else Preprocess()
        return TensorSpec(name=name, dtype=dtype, shape=shape, preprocess=rule)
    said = declared or Preprocess()
    try:
        rule = Preprocess(layout=said.layout or plain, scale=said.scale, mean=said.mean, std=said.std)
        return TensorSpec(name=name, dtype=dtype, shape=shape, layout=layout, preprocess=rule)
    except WireError as error:
        raise ConfigFileError(
            f"the signature of input '{name}' does not fit the model",
            expected=f"a layout of the letters of {plain or 'no layout'}",
            got=said.layout,
        ) from error


def load_signature(path: Path) -> Signature:
    """Return the signature in a TOML file.

    Raises:
        MissingFileError: There is no such file.
        ConfigFileError: It is no TOML, or says something unknown.
    """
    try:
        text = path.read_text(encoding="utf8")
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no signature {path}", expected="a .toml file", got="no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigFileError(f"{path} cannot be read", expected="a UTF-8 .toml file", got=str(error)) from error
    return parse_signature(text, source=str(path))


def parse_signature(text: str, *, source: str) -> Signature:
    """Return the signature that a TOML text describes.

    Raises:
        ConfigFileError: It is no TOML, or says something unknown.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigFileError(f"{source} is not valid TOML", got=str(error), next_step=f"mend {source}") from error
    _refuse_unknown(raw, ("inputs", "labels"), source)
    inputs, labels = raw.get("inputs", {}), raw.get("labels", [])
    if not isinstance(inputs, dict) or not isinstance(labels, list) or not all(isinstance(x, str) for x in labels):
        raise ConfigFileError(
            f"{source} is no signature", expected="[inputs.NAME] tables and a list labels", got=text[:80]
        )
    return Signature(
        inputs={name: _preprocess(table, f"{source} [inputs.{name}]") for name, table in inputs.items()},
        labels=tuple(labels),
    )


def _preprocess(table: object, where: str) -> Preprocess:
    if not isinstance(table, dict):
        raise ConfigFileError(f"{where} is no table", expected=", ".join(KEYS), got=repr(table))
    _refuse_unknown(table, KEYS, where)
    try:
        return Preprocess(
            layout=table.get("layout", ""),
            scale=float(table.get("scale", 1.0)),
            mean=_numbers(table.get("mean", ())),
            std=_numbers(table.get("std", ())),
        )
    except (WireError, TypeError, ValueError) as error:
        raise ConfigFileError(
            f"{where} cannot be read",
            expected="layout as text, scale as number, mean and std as numbers, std above 0",
            got=first_line(error),
        ) from error


def _numbers(value: object) -> tuple[float, ...]:
    if isinstance(value, (int, float)):
        return (float(value),)
    if isinstance(value, (list, tuple)):
        return tuple(float(item) for item in value)
    raise TypeError(f"{value!r} is no list of numbers")


def _refuse_unknown(table: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigFileError(
                f"{where} has an unknown key",
                expected=", ".join(known),
                got=key,
                next_step=f"did you mean '{near[0]}'?" if near else f"remove '{key}'",
            )
