"""Olive: its ONNX quantization pass, per channel, with its preprocessing, S8S8 QDQ as its defaults say."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import onnx
from olive.data.config import DataComponentConfig, DataConfig  # type: ignore[import-not-found] # the peer's environment
from olive.data.registry import Registry  # type: ignore[import-not-found] # the peer's environment
from olive.hardware.accelerator import DEFAULT_CPU_ACCELERATOR  # type: ignore[import-not-found] # the peer's environment
from olive.model import ONNXModelHandler  # type: ignore[import-not-found] # the peer's environment
from olive.passes.olive_pass import create_pass_from_dict  # type: ignore[import-not-found] # the peer's environment
from olive.passes.onnx.quantization import OnnxQuantization  # type: ignore[import-not-found] # the peer's environment

from tests.bench.compile.peers.child import Job, batches, run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Batches:
    """The calibration batches as a data set of whole batches."""

    def __init__(self, job: Job) -> None:
        self._batches = list(batches(job))

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[dict[str, NDArray[np.generic]], int]:
        if index >= len(self._batches):
            raise IndexError(index)
        return self._batches[index], 0


def work(job: Job) -> None:
    """Run the pass and save its model as one file."""
    samples = Batches(job)

    @Registry.register_dataset(name="bench_samples")  # type: ignore[untyped-decorator] # the peer ships no types here
    def bench_samples(**_: Any) -> Batches:
        return samples

    @Registry.register_dataloader(name="bench_loader")  # type: ignore[untyped-decorator] # the peer ships no types here
    def bench_loader(dataset: Batches, **_: Any) -> Batches:
        return dataset

    settings: dict[str, Any] = {
        "quant_mode": job.mode,
        "precision": "int8",
        "per_channel": True,
        "reduce_range": job.weight_bits == 7,
    }
    if job.mode == "static":
        settings |= {"activation_type": job.activation, "data_config": data_config()}
    chosen = create_pass_from_dict(OnnxQuantization, settings, disable_search=True, accelerator_spec=accelerator())
    with TemporaryDirectory() as folder:
        made = chosen.run(ONNXModelHandler(job.model), str(Path(folder) / "made"))
        onnx.save(onnx.load(made.model_path), job.artifact)


def accelerator() -> Any:
    """Return the CPU."""
    return DEFAULT_CPU_ACCELERATOR


def data_config() -> Any:
    """Return the configuration that leads Olive to our samples."""
    return DataConfig(
        name="bench",
        load_dataset_config=DataComponentConfig(type="bench_samples"),
        pre_process_data_config=DataComponentConfig(type="skip_pre_process"),
        post_process_data_config=DataComponentConfig(type="skip_post_process"),
        dataloader_config=DataComponentConfig(type="bench_loader"),
    )


if __name__ == "__main__":
    run(work, version=version("olive-ai"))
