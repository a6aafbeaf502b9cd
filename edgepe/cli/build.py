"""``edgepe build``: from a model to one bundle per target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepe.errors import UsageError
from edgepe.extras import needs_extra
from edgepe.scheme import Precision
from edgepe.target import load_target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgepe.target import Layout, Target

__all__ = ["build"]

FILE = click.Path(path_type=Path)


@click.command(
    epilog="Example:  edgepe build model.onnx --target raspberry-pi --calibration data.npz --max-drop 2 --out dist"
)
@click.argument("model", required=False)
@click.option("--model", "model_option", hidden=True)
@click.option("--target", "targets", multiple=True, required=True, help="Profile, alias or .toml path; may repeat.")
@click.option(
    "--calibration",
    type=FILE,
    required=True,
    help="Real raw samples: .npz with x (or one array per input), a folder, or module:function.",
)
@click.option("--evaluation", type=FILE, help="Samples that score, with y; default: the calibration data.")
@click.option("--metric", help="accuracy, precision, recall, f1, mse, mae, r2, agreement or module:function.")
@click.option("--max-drop", type=float, help="Largest loss: points of a score, percent of an error.")
@click.option("--max-bytes", type=int, help="Largest model file, bytes.")
@click.option("--max-latency-us", type=float, help="Largest latency of one inference, µs.")
@click.option("--precision", type=click.Choice(["auto", "int8", "fp16", "fp32"]), default="auto", show_default=True)
@click.option(
    "--method",
    type=click.Choice(["percentile", "min-max", "entropy", "mse"]),
    default="percentile",
    show_default=True,
    help="How calibration takes the range of an activation.",
)
@click.option("--no-cache", is_flag=True, help="Calibrate anew, and keep nothing of it.")
@click.option("--shape", "shapes", multiple=True, help="NAME=1,3,224,224 for open dimensions; -1 keeps the batch open.")
@click.option("--outputs", default="", help="NAME,NAME cuts the graph at these values, e.g. before a detector's NMS.")
@click.option(
    "--io-layout", type=click.Choice(["nchw", "nhwc"]), help="Order of axes at the edges of a TFLite artifact."
)
@click.option("--weights", type=FILE, help="Weights of package.module:factory: safetensors or a state dict.")
@click.option("--signature", type=FILE, help=".toml with raw layout, scale, mean, std per input, and labels.")
@click.option("--name", help="Name of the model; default: of the file or the factory.")
@click.option("--version", default="1", show_default=True, help="Version of the model.")
@click.option("--out", type=FILE, required=True, help="Folder for the bundles.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def build(
    *,
    model: str | None,
    model_option: str | None,
    targets: tuple[str, ...],
    precision: str,
    shapes: tuple[str, ...],
    outputs: str,
    io_layout: Layout | None,
    no_cache: bool,
    as_json: bool,
    **options: object,
) -> None:
    """Turn MODEL into one bundle per target, inside a contract.

    MODEL is an .onnx file, a folder that `edgepe compress` made, package.module:factory with --weights, a .pt2 or
    TorchScript; the last three run your own code. Each target gets the best of its precisions that holds every bound
    that was set.
    """
    source = model or model_option
    if source is None:
        raise UsageError("there is no model", expected="MODEL, or model = … in [build] of edgepe.toml", got="nothing")
    loaded = tuple(with_layout(load_target(name), io_layout) for name in targets)
    with needs_extra("compile", wanted_by="edgepe build"):
        from edgepe import pipeline  # noqa: PLC0415 - numpy and onnx, only where they are used
        from edgepe.cli.show import Progress, build_table, print_json  # noqa: PLC0415 - rich, only where it is used
        from edgepe.quantize.cache import cache_folder  # noqa: PLC0415 - as above
    request = pipeline.Request(
        source=source,
        targets=loaded,
        precision=None if precision == "auto" else Precision(precision),
        shapes=read_shapes(shapes),
        cache=None if no_cache else cache_folder(),
        outputs=tuple(name.strip() for name in outputs.split(",") if name.strip()),
        **options,  # type: ignore[arg-type] # click has given each option its type
    )
    with Progress() as progress:
        rows = pipeline.build(request, watch=progress)
    if as_json:
        print_json({"bundles": [row.to_json() for row in rows]})
    else:
        build_table(rows)


def with_layout(target: Target, io_layout: Layout | None) -> Target:
    """Return a target whose artifacts have these axes at their edges; the profile's own where None.

    Raises:
        UsageError: An ONNX artifact has no other than the model's own.
    """
    if io_layout is None or io_layout == target.io_layout:
        return target
    if target.format != "tflite":
        raise UsageError(
            f"--io-layout {io_layout} does not go with {target.name}",
            expected=f"{target.io_layout}: an ONNX artifact keeps the axes of the model",
            got=io_layout,
            next_step="declare the order of raw axes with layout in --signature; the device brings them into place",
        )
    return replace(target, io_layout=io_layout)


def read_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return ``NAME=1,3,224,224`` options as input name → shape.

    Raises:
        UsageError: A text is not of that form.

    >>> read_shapes(["image=1,3,224,224"])
    {'image': (1, 3, 224, 224)}
    """
    shapes = {}
    for text in texts:
        name, equals, sizes = text.partition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError as error:
            raise _no_shape(text) from error
        if not equals or not name or any(size == 0 or size < -1 for size in shape) or -1 in shape[1:]:
            raise _no_shape(text)
        shapes[name] = shape
    return shapes


def _no_shape(text: str) -> UsageError:
    return UsageError(f"--shape '{text}' is no shape", expected="NAME=1,3,224,224; -1 only for the batch", got=text)
