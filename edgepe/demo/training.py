"""The demo's two versions, trained and compressed, and their data as the files that a user would have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepe.compress import Compressed, compress, evaluate
from edgepe.demo.network import FACTORY, watch_net, watch_samples, watch_training_data
from edgepe.demo.watch import Normalization, WatchData, normalization, save_windows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgepe.compress import CompressSettings, Progress

__all__ = ["MODEL", "Files", "Version", "epochs_of", "train_version", "write_files"]

MODEL = "watch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The demo's data on disk, raw as the watch gives it.

    Attributes:
        calibration: Windows of the training people.
        validation: Windows of the validation people: they choose the precision.
        test: Windows of the test people: they only ever report, and the agents replay them.
        signature: How a raw window becomes the network's input, and the names of the exercises.
        scale: The same as a value, for training.
    """

    calibration: Path
    validation: Path
    test: Path
    signature: Path
    scale: Normalization


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of the demo's model.

    Attributes:
        version: "1" or "2".
        compressed: The dense twin, the smaller network, its folder.
        dense_score: Accuracy of the dense twin on the test people, 0 to 1.
        score: Accuracy of the smaller network on the same windows.
    """

    version: str
    compressed: Compressed
    dense_score: float
    score: float


def write_files(data: WatchData, folder: Path) -> Files:
    """Write the three parts of the data and the signature into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    scale = normalization(data.train)
    signature = folder / "signature.toml"
    signature.write_text(scale.signature(), encoding="utf8")
    return Files(
        calibration=save_windows(data.train, folder / "train.npz"),
        validation=save_windows(data.validation, folder / "validation.npz"),
        test=save_windows(data.test, folder / "test.npz"),
        signature=signature,
        scale=scale,
    )


def epochs_of(settings: CompressSettings) -> int:
    """Return how many epochs a training takes, all stages together."""
    stages = (settings.dense, settings.gates.train, settings.finetune)
    return sum(stage.epochs for stage in stages if stage is not None)


def train_version(
    version: str,
    data: WatchData,
    scale: Normalization,
    folder: Path,
    *,
    settings: CompressSettings,
    report: Callable[[Progress], None],
) -> Version:
    """Train a distribution over the network's channels and rebuild the smaller network into ``folder/watch-VERSION``.

    Args:
        version: Its number.
        data: The recordings, split by people.
        scale: Of the training people.
        folder: Takes the compressed folder.
        settings: Budget, training of each stage, seed.
        report: Called at the end of each epoch.

    Raises:
        CompressError: The training diverged or missed its budget.
    """
    training = watch_training_data(data, scale)
    out = folder / f"{MODEL}-{version}"
    done = compress(watch_net, training, settings, out=out, name=MODEL, factory=FACTORY, report=report)
    test = watch_samples(data.test, scale)
    return Version(
        version=version,
        compressed=done,
        dense_score=evaluate(done.dense, test).accuracy,
        score=evaluate(done.model, test).accuracy,
    )
