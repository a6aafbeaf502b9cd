"""Where samples come from: ``.npz``, a folder of ``.npy``, images by class, or the user's own function.

Rules kept here:
1. What is read is what is there: images of several sizes, an unknown class, an unreadable file are errors; nothing is
   resized, skipped or guessed.
2. A pickle is never loaded.
3. The same folder gives the same arrays: files are taken in the order of their names.
4. A set is held in memory, so its size has a limit.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepe.errors import DataError, MissingFileError, UsageError
from edgepe.extras import needs_extra
from edgepe.wording import first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.generic]]

__all__ = ["LABELS", "LARGEST_BYTES", "read_arrays"]

LABELS = "y"
ONLY_INPUT = "x"
LARGEST_BYTES = 4 << 30
PICTURES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
WITH_LABELS = 2

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def read_arrays(source: str | Path, *, labels: tuple[str, ...] = ()) -> Arrays:
    """Return the arrays of a source by name, ``y`` among them where there are labels; see ``load_dataset``."""
    if _FUNCTION.fullmatch(str(source)):
        return _from_function(str(source))
    path = Path(source)
    if not path.exists():
        raise MissingFileError(
            f"there is no data file {path}",
            expected="an .npz file with 'x' (or one array per input) and 'y', a folder, or module:function",
            got="no such file",
            next_step="give real samples of the application, raw: np.savez(path, x=…, y=…)",
        )
    if not path.is_dir():
        return _from_npz(path)
    classes = sorted(folder for folder in path.iterdir() if folder.is_dir() and _pictures(folder))
    return _from_images(path, classes, labels) if classes else _from_npy(path)


def _from_npz(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path} holds one array", expected="an .npz archive", got="an .npy file")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error


def _from_npy(path: Path) -> Arrays:
    try:
        return {file.stem: np.load(file, allow_pickle=False) for file in sorted(path.glob("*.npy"))}
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read as data",
        expected="an .npz file, or .npy files, of plain arrays (no pickled objects)",
        got=first_line(error),
        next_step="write it with np.savez(path, x=…, y=…)",
    )


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)


def _from_images(path: Path, classes: list[Path], labels: tuple[str, ...]) -> Arrays:
    """Return ``x`` [samples, height, width, channels] uint8 (NHWC) and ``y``; one channel where every image is grey."""
    names = labels or tuple(folder.name for folder in classes)
    unknown = [folder.name for folder in classes if folder.name not in names]
    if unknown:
        raise DataError(
            f"{path} has a class that the signature does not name",
            expected=", ".join(names),
            got=", ".join(unknown),
            next_step="name every subfolder in labels, or leave labels out",
        )
    files = [(file, names.index(folder.name)) for folder in classes for file in _pictures(folder)]
    images = [_image(file) for file, _ in files]
    first = images[0].shape[:2]
    for (file, _), image in zip(files, images, strict=True):
        if image.shape[:2] != first:
            raise DataError(
                f"the images in {path} have several sizes",
                expected=f"{first[1]} by {first[0]}, as {files[0][0].name}",
                got=f"{image.shape[1]} by {image.shape[0]} in {file}",
                next_step="bring them to the size that the application hands in",
            )
    channels = max(image.shape[2] for image in images)
    stacked = np.stack([np.broadcast_to(image, (*first, channels)) for image in images])
    return {ONLY_INPUT: stacked, LABELS: np.array([label for _, label in files])}


def _image(file: Path) -> NDArray[np.uint8]:
    with needs_extra("images", wanted_by="a folder of images"):
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - Pillow is an extra
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                array = np.asarray(picture if picture.mode == "L" else picture.convert("RGB"), np.uint8)
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombWarning,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(
            f"the image {file} cannot be read",
            expected=", ".join(sorted(PICTURES)),
            got=first_line(error),
            next_step="mend it or take it away",
        ) from error
    return array[:, :, None] if array.ndim == WITH_LABELS else array


def _from_function(name: str) -> Arrays:
    """Return the batches of ``module:function`` behind each other.

    A batch is a mapping of input names to arrays (with ``y`` where there are labels), a pair ``(x, y)``, or ``x``.
    """
    batches = _function(name)()
    if isinstance(batches, (Mapping, tuple, np.ndarray)):
        batches = (batches,)
    if not isinstance(batches, Iterable):
        raise _no_batch(name, batches)
    parts: dict[str, list[NDArray[np.generic]]] = {}
    size = 0
    for count, batch in enumerate(batches):
        named = _named(name, batch)
        if count and set(named) != set(parts):
            raise DataError(f"the batches of {name} differ", expected=", ".join(parts), got=", ".join(named))
        size += sum(array.nbytes for array in named.values())
        if size > LARGEST_BYTES:
            raise DataError(
                f"{name} gives more than fits",
                expected=f"at most {LARGEST_BYTES:,} bytes",
                got=f"more, in {count + 1} batches",
                next_step="end after some hundred samples",
            )
        for key, array in named.items():
            parts.setdefault(key, []).append(array)
    try:
        return {key: np.concatenate(arrays) for key, arrays in parts.items()}
    except ValueError as error:
        raise DataError(
            f"the batches of {name} do not fit together", expected="one shape per sample", got=first_line(error)
        ) from error


def _named(name: str, batch: object) -> Arrays:
    if isinstance(batch, Mapping):
        named = {str(key): np.asarray(value) for key, value in batch.items()}
    elif isinstance(batch, (tuple, list)) and len(batch) == WITH_LABELS:
        named = {ONLY_INPUT: np.asarray(batch[0]), LABELS: np.asarray(batch[1])}
    elif isinstance(batch, np.ndarray):
        named = {ONLY_INPUT: batch}
    else:
        raise _no_batch(name, batch)
    if any(array.ndim == 0 for array in named.values()):
        raise DataError(f"a batch of {name} has no samples axis", expected="arrays [samples, …]", got="a number")
    return named


def _no_batch(name: str, got: object) -> DataError:
    return DataError(
        f"{name} gives no batches",
        expected="mappings of input names to arrays, pairs (x, y), or arrays",
        got=type(got).__name__,
    )


def _function(name: str) -> Callable[[], object]:
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the data '{name}' cannot be imported",
            expected="module:function, importable from the working directory",
            got=str(error),
        ) from error
    if not callable(found):
        raise UsageError(f"the data '{name}' is no function", expected="a function", got=type(found).__name__)
    return found
